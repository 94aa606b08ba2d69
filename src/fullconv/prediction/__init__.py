"""Maps of images of any size, and label images of files."""

from fullconv.prediction._answer import Answer
from fullconv.prediction._disk import identity, key_of, predict_to_disk
from fullconv.prediction._files import Job, plan_files, predict_files
from fullconv.prediction._predict import Predictor, predict
from fullconv.prediction._process import best_device, left_for_windows, process_memory
from fullconv.prediction._products import Wanted

__all__ = [
    "Answer",
    "Job",
    "Predictor",
    "Wanted",
    "best_device",
    "identity",
    "key_of",
    "left_for_windows",
    "plan_files",
    "predict",
    "predict_files",
    "predict_to_disk",
    "process_memory",
]
