"""Lightning module and data module, losses, augmentation, the training command.

A *step* is one optimiser update over the valid units of its images. Images of one size are stacked;
images of different sizes go through the network one after another, and their gradients add up to
that of the mean over all valid units of the step. Nothing is ever resized.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fullconv.training._config import TrainConfig, read_config

if TYPE_CHECKING:
    from fullconv.training._asked import Asked as Asked
    from fullconv.training._asked import asked as asked
    from fullconv.training._counting import counting as counting
    from fullconv.training._counting import measuring as measuring
    from fullconv.training._data import ImageData as ImageData
    from fullconv.training._evaluation import Evaluation as Evaluation
    from fullconv.training._evaluation import evaluate as evaluate
    from fullconv.training._job import recipe_for as recipe_for
    from fullconv.training._losses import Criterion as Criterion
    from fullconv.training._losses import criterion as criterion
    from fullconv.training._module import Segmentation as Segmentation
    from fullconv.training._noise import Reading as Reading
    from fullconv.training._resolve import resolve as resolve
    from fullconv.training._score_run import RunScore as RunScore
    from fullconv.training._score_run import score_run as score_run
    from fullconv.training._train import check_regimes as check_regimes
    from fullconv.training._train import fitting_regimes as fitting_regimes
    from fullconv.training._train import read_regimes as read_regimes
    from fullconv.training._train import train as train
    from fullconv.training._upper_bound import UpperBound as UpperBound
    from fullconv.training._upper_bound import upper_bounds as upper_bounds

__all__ = [
    "Asked",
    "Criterion",
    "Evaluation",
    "ImageData",
    "Reading",
    "RunScore",
    "Segmentation",
    "TrainConfig",
    "UpperBound",
    "asked",
    "check_regimes",
    "counting",
    "criterion",
    "evaluate",
    "fitting_regimes",
    "measuring",
    "read_config",
    "read_regimes",
    "recipe_for",
    "resolve",
    "score_run",
    "train",
    "upper_bounds",
]

_HOME = {
    "Asked": "_asked",
    "Criterion": "_losses",
    "Evaluation": "_evaluation",
    "ImageData": "_data",
    "Reading": "_noise",
    "RunScore": "_score_run",
    "Segmentation": "_module",
    "asked": "_asked",
    "check_regimes": "_train",
    "counting": "_counting",
    "criterion": "_losses",
    "evaluate": "_evaluation",
    "fitting_regimes": "_train",
    "measuring": "_counting",
    "read_regimes": "_train",
    "recipe_for": "_job",
    "resolve": "_resolve",
    "score_run": "_score_run",
    "UpperBound": "_upper_bound",
    "train": "_train",
    "upper_bounds": "_upper_bound",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fullconv.training' has no attribute {name!r}")
    return getattr(import_module(f"fullconv.training.{_HOME[name]}"), name)
