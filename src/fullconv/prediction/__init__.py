"""Maps of images of any size."""

from fullconv.prediction._predict import Predictor, predict

__all__ = ["Predictor", "predict"]
