"""The metrics of Long, Shelhamer and Darrell (2015), section 5.

With ``n[i, j]`` the number of units of true class i predicted as j, and ``t[i]`` those of class i:

- pixel accuracy  ``sum_i n[i, i] / sum_i t[i]``
- mean accuracy   mean over classes of ``n[i, i] / t[i]``
- mean IU         mean over classes of ``n[i, i] / (t[i] + sum_j n[j, i] - n[i, i])``
- f.w. IU         ``sum_i t[i] IU[i] / sum_i t[i]``

Classes without units are where implementations differ; see `score`.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fullconv.errors import BadConfigError

AbsentRule = Literal["reference", "paper"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """The four metrics, and accuracy and IU by class (NaN for a class that does not count)."""

    pixel_accuracy: float
    mean_accuracy: float
    mean_iu: float
    fw_iu: float
    accuracy: tuple[float, ...]
    iu: tuple[float, ...]


def score(matrix: NDArray[np.int64], *, absent: AbsentRule = "reference") -> Scores:
    """Return the metrics of a confusion matrix.

    Args:
        matrix: Counts ``(true, predicted)``, as `Confusion.matrix` gives them.
        absent: What becomes of a class that is nowhere true. ``reference``, the rule of the
            authors' code: it is left out, unless it is predicted somewhere; then its IU is 0 and
            counts. ``paper``, the rule of the printed SIFT Flow numbers: it is left out always.

    Returns:
        Shares between 0 and 1. NaN where there is nothing to divide by, as for no units at all.

    Raises:
        BadConfigError: If the rule is not known.

    Examples:
        >>> score(np.array([[3, 1], [0, 4]])).iu
        (0.75, 0.8)
    """
    if absent not in get_args(AbsentRule):
        raise BadConfigError(f"`absent` must be reference or paper, got {absent!r}")
    counts = matrix.astype(np.float64)
    right, true, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
    union = true + predicted - right
    accuracy = _ratio(right, true)
    iu = _ratio(right, union if absent == "reference" else np.where(true > 0, union, 0))
    total = true.sum()
    return Scores(
        pixel_accuracy=float(right.sum() / total) if total else float("nan"),
        mean_accuracy=_mean(accuracy),
        mean_iu=_mean(iu),
        fw_iu=float((true * np.nan_to_num(iu)).sum() / total) if total else float("nan"),
        accuracy=tuple(accuracy.tolist()),
        iu=tuple(iu.tolist()),
    )


def majority_baseline(matrix: NDArray[np.int64]) -> Scores:
    """Return the metrics of always answering the most frequent true class (the first, if tied)."""
    true = matrix.sum(1)
    answers = np.zeros_like(matrix)
    answers[:, true.argmax()] = true
    return score(answers)


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
