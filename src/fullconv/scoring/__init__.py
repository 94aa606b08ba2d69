"""The four FCN metrics and per-class IU, from one confusion matrix over a whole data set."""

from fullconv.scoring._confusion import Confusion
from fullconv.scoring._scores import AbsentRule, Scores, majority_baseline, score

__all__ = ["AbsentRule", "Confusion", "Scores", "majority_baseline", "score"]
