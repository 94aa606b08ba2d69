"""What several runs of one regime were like at a step, an image count or a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fullconv.runs import Run

Across = Literal["step", "images", "seconds"]
Figure = Literal["mean_iu", "loss"]
POINTS = 60
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A figure of one regime: mean, least and largest over its runs.

    Attributes:
        x: Steps, images or seconds.
        mean: Of the runs.
        low: The least of them.
        high: The largest of them.
    """

    x: Floats
    mean: Floats
    low: Floats
    high: Floats

    def reached(self, level: float) -> float | None:
        """Return where the mean first reaches a level; None where it never does."""
        there = np.flatnonzero(self.mean >= level)
        if not len(there):
            return None
        first = int(there[0])
        if first == 0:
            return float(self.x[0])
        below, above = self.mean[first - 1], self.mean[first]
        share = (level - below) / (above - below)
        return float(self.x[first - 1] + share * (self.x[first] - self.x[first - 1]))


def curve(runs: Sequence[Run], figure: Figure, across: Across) -> Curve | None:
    """Return a figure of the validations of some runs, as far as all of them go; None without any."""
    lines = [_line(run, figure, across) for run in runs]
    if not all(len(x) for x, _ in lines):
        return None
    start, stop = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    x = np.linspace(min(start, stop), stop, POINTS)
    values = np.stack([np.interp(x, *line) for line in lines])
    return Curve(x=x, mean=values.mean(0), low=values.min(0), high=values.max(0))


def _line(run: Run, figure: Figure, across: Across) -> tuple[Floats, Floats]:
    rows = run.validation()
    y = np.array([row[figure] for row in rows])
    if across != "images":
        return np.array([row[across] for row in rows]), y
    steps = run.steps()
    known = np.array([row["step"] for row in steps]), np.array([row["images"] for row in steps])
    return np.interp([row["step"] for row in rows], *known), y
