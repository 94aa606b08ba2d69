"""From what a rehearsal counts to what a process takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt

from fullconv.planning._ledger import Course
from fullconv.planning._pace import USUAL, Pace

# What the first steps load for good, whatever the images: kernels compiled for their shapes, buffers
# of threads. Measured on CPU, for four networks, with one thread: 24 to 36 MiB.
LOADED_BYTES = {"cpu": 26 * 2**20}
# How far both differ from network to network before anything is measured, and a measured peak from
# itself: so much is laid to each of them.
LOADED_SPREAD, FACTOR_SPREAD, NOISE = 6 * 2**20, 0.04, 2**20
# Error of the peak to reckon with, before and after a measured step: 95 of 100 cases of
# `benchmarks/plan.py` were within it, on a CPU with AMX and on one without.
ERROR, MEASURED_ERROR = 0.08, 0.06
# So much of a planned peak is kept free, and twice its spread: what is laid to the factor from a small
# step is uncertain where the planned one is much larger.
FLOOR = 0.04


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """What a machine makes of a rehearsal.

    Attributes:
        loaded: Bytes that steps load for good, besides weights and the optimiser's state.
        factor: What a step takes for each byte that its rehearsal counts beyond those.
        error: How far off the sum may be, as a share of it.
        spread: Variances of loaded bytes and factor, and between them what they have in common.
        pace: Operations as seconds.
        measured: Whether this was measured here.
    """

    loaded: int
    factor: float = 1.0
    error: float = ERROR
    spread: tuple[float, float, float] = (LOADED_SPREAD**2, 0.0, FACTOR_SPREAD**2)
    pace: Pace = USUAL
    measured: bool = False

    @staticmethod
    def of(device: str) -> Gauge:
        """Return what is known of a kind of device before anything is measured."""
        return Gauge(loaded=LOADED_BYTES.get(device, 0))

    def seen(self, course: Course, taken: int) -> Gauge:
        """Return what is known after a step that took so many bytes.

        What it took beyond what was expected is laid to what is loaded and to the factor, as their
        spreads have it: to the factor the more, the larger the step. Both are then known better (two
        numbers with normal errors, seen through a sum of them).

        Args:
            course: Of its rehearsal.
            taken: Bytes, beyond those before the network.
        """
        counted = course.peak_bytes - course.standing_bytes
        loaded, both, factor = self.spread
        # How the sum varies with each of the two, and in all.
        with_loaded, with_factor = loaded + both * counted, both + factor * counted
        in_all = with_loaded + with_factor * counted + NOISE**2
        share = (taken - self.taken(course)) / in_all
        return replace(
            self,
            loaded=max(0, round(self.loaded + share * with_loaded)),
            factor=self.factor + share * with_factor,
            spread=(
                loaded - with_loaded**2 / in_all,
                both - with_loaded * with_factor / in_all,
                factor - with_factor**2 / in_all,
            ),
        )

    def beyond(self, course: Course) -> int:
        """Return the bytes that a run takes beyond those that its rehearsal counts."""
        return self.loaded + round((self.factor - 1) * (course.peak_bytes - course.standing_bytes))

    def taken(self, course: Course) -> int:
        """Return the bytes that a run takes."""
        return course.peak_bytes + self.beyond(course)

    def needed(self, taken: float) -> float:
        """Return the memory that there must be for a step that is planned to take so many bytes."""
        loaded, both, factor = self.spread
        spread = sqrt(max(0.0, loaded + 2 * both * taken + factor * taken**2))
        return taken * (1 + FLOOR) + 2 * spread

    def usable(self, memory: int) -> int:
        """Return the bytes that a planned step may take, for its need to be within the memory."""
        low, high = 0.0, float(memory)
        while high - low > max(1.0, 1e-12 * high):  # floats of large numbers lie apart
            middle = (low + high) / 2
            low, high = (middle, high) if self.needed(middle) <= memory else (low, middle)
        return int(low)
