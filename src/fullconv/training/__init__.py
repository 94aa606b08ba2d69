"""Lightning module and data module, losses, augmentation, the training command.

A *step* is one optimiser update over the valid units of its images. Images of one size are stacked;
images of different sizes go through the network one after another, and their gradients add up to
that of the mean over all valid units of the step. Nothing is ever resized.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fullconv.training._config import TrainConfig, read_config

if TYPE_CHECKING:
    from fullconv.training._data import ImageData as ImageData
    from fullconv.training._evaluation import Evaluation as Evaluation
    from fullconv.training._evaluation import evaluate as evaluate
    from fullconv.training._losses import Criterion as Criterion
    from fullconv.training._losses import criterion as criterion
    from fullconv.training._module import Segmentation as Segmentation
    from fullconv.training._train import train as train

__all__ = [
    "Criterion",
    "Evaluation",
    "ImageData",
    "Segmentation",
    "TrainConfig",
    "criterion",
    "evaluate",
    "read_config",
    "train",
]

_HOME = {
    "Criterion": "_losses",
    "Evaluation": "_evaluation",
    "ImageData": "_data",
    "Segmentation": "_module",
    "criterion": "_losses",
    "evaluate": "_evaluation",
    "train": "_train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fullconv.training' has no attribute {name!r}")
    return getattr(import_module(f"fullconv.training.{_HOME[name]}"), name)
