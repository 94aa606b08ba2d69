"""The four FCN metrics and per-class IU, from one confusion matrix over a whole data set."""

from fullconv.scoring._confusion import Confusion
from fullconv.scoring._scores import AbsentRule, Scores, majority_baseline, score
from fullconv.scoring._upper_bound import coarsened

__all__ = ["AbsentRule", "Confusion", "Scores", "coarsened", "majority_baseline", "score"]
