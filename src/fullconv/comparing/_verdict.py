"""What a comparison says in words, with its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fullconv.comparing._curve import curve
from fullconv.runs import Run

CLOSE = 0.95  # of the best final mean IU: what the regimes race to


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """How one regime did.

    Attributes:
        name: The regime.
        final: Mean IU of its best weights on the held-out images, one per seed.
        best: Their mean.
        steps: Steps of a run, on average.
        reached: Seconds until the validation mean IU reached the level; None if it never did.
    """

    name: str
    final: tuple[float, ...]
    best: float
    steps: float
    reached: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Which regime got how far, and how fast.

    Attributes:
        level: Validation mean IU that the regimes race to: 95 % of the best one's last.
        entries: The regimes, the best one first.
    """

    level: float
    entries: tuple[Entry, ...]

    @property
    def words(self) -> str:
        """The verdict in a sentence or two."""
        first = self.entries[0]
        ends = ", ".join(f"{e.name} {e.best:.3f}" for e in self.entries)
        racers = sorted(
            (e for e in self.entries if e.reached is not None), key=lambda e: e.reached or 0
        )
        times = ", ".join(f"{e.name} in {e.reached:.0f} s" for e in racers)
        never = ", ".join(e.name for e in self.entries if e.reached is None)
        race = f"A validation mean IU of {self.level:.2f} was reached by {times}"
        race += f"; never by {never}." if never else "."
        return f"Mean IU on the held-out images: {ends}; best was {first.name}. {race}"

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {"words": self.words, **asdict(self)}


def verdict(runs: Mapping[str, Sequence[Run]]) -> Verdict:
    """Return how regimes did, from the finished runs of each."""
    curves = {name: curve(each, "mean_iu", "seconds") for name, each in runs.items()}
    level = CLOSE * max((float(c.mean[-1]) for c in curves.values() if c), default=0.0)
    entries = [
        Entry(
            name=name,
            final=(final := tuple(float(run.evaluation()["mean_iu"]) for run in each)),
            best=float(np.mean(final)),
            steps=float(np.mean([run.about()["steps"] for run in each])),
            reached=found.reached(level) if (found := curves[name]) else None,
        )
        for name, each in runs.items()
    ]
    return Verdict(level=level, entries=tuple(sorted(entries, key=lambda e: -e.best)))
