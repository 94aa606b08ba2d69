"""Maps of images of any size, and label images of files."""

from fullconv.prediction._answer import Answer
from fullconv.prediction._files import Job, plan_files, predict_files
from fullconv.prediction._predict import Predictor, predict
from fullconv.prediction._process import best_device, left_for_windows, process_memory

__all__ = [
    "Answer",
    "Job",
    "Predictor",
    "best_device",
    "left_for_windows",
    "plan_files",
    "predict",
    "predict_files",
    "process_memory",
]
