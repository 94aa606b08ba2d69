"""Operations as seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Until something is measured: as `fullconv.execution` has it for the windows of a step.
RATE, START = 1e-11, 5e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast a machine runs a network.

    Attributes:
        rate: Seconds of an operation.
        start: Seconds of starting a run, whatever its size.
    """

    rate: float = RATE
    start: float = START

    def seconds(self, operations: float, runs: int) -> float:
        """Return the seconds of so many operations in so many runs of the network."""
        return self.rate * operations + self.start * runs


USUAL = Pace()


def fitted(runs: Sequence[tuple[float, float]]) -> Pace:
    """Return the pace that fits runs of different sizes, each in operations and seconds.

    With one size alone, starting a run is taken to need no time.
    """
    ordered = sorted(runs)
    (few, short), (many, long) = ordered[0], ordered[-1]
    rate = (long - short) / (many - few) if many > few else 0.0
    if rate <= 0 or rate * many > long:
        rate = long / many
    return Pace(rate=rate, start=max(0.0, long - rate * many))
