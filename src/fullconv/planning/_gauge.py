"""From what a rehearsal counts to what a process takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from fullconv.planning._ledger import Course
from fullconv.planning._pace import USUAL, Pace

# What the first steps load for good, whatever the images: kernels compiled for their shapes, buffers
# of threads. Measured on CPU, for four networks, with one thread: 24 to 36 MiB.
LOADED_BYTES = {"cpu": 26 * 2**20}
# How far both differ from network to network before anything is measured, and a measured peak from
# itself: so much is laid to each of them.
LOADED_SPREAD, FACTOR_SPREAD, NOISE = 6 * 2**20, 0.04, 2**20
# Error of the peak to reckon with, before and after a measured step: 95 of 100 cases of
# `benchmarks/plan.py` were within it.
ERROR, MEASURED_ERROR = 0.12, 0.10
# Of a planned peak is kept free besides: real ones were above it by no more, but once in 65 cases
# before anything was measured.
RESERVE, MEASURED_RESERVE = 0.12, 0.04


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """What a machine makes of a rehearsal.

    Attributes:
        loaded: Bytes that steps load for good, besides weights and the optimiser's state.
        factor: What a step takes for each byte that its rehearsal counts beyond those.
        error: How far off the sum may be, as a share of it.
        reserve: Share of the sum to keep free, for it may be too small.
        pace: Operations as seconds.
        measured: Whether this was measured here.
    """

    loaded: int
    factor: float = 1.0
    error: float = ERROR
    reserve: float = RESERVE
    pace: Pace = USUAL
    measured: bool = False

    @staticmethod
    def of(device: str) -> Gauge:
        """Return what is known of a kind of device before anything is measured."""
        return Gauge(loaded=LOADED_BYTES.get(device, 0))

    def seen(self, course: Course, taken: int) -> Gauge:
        """Return what is known after a step that took so many bytes.

        What it took beyond what was expected is laid to what is loaded and to the factor, as their
        spreads have it: to the factor the more, the larger the step.

        Args:
            course: Of its rehearsal.
            taken: Bytes, beyond those before the network.
        """
        counted = course.peak_bytes - course.standing_bytes
        by_factor = FACTOR_SPREAD * counted
        share = (taken - self.taken(course)) / (LOADED_SPREAD**2 + by_factor**2 + NOISE**2)
        return replace(
            self,
            loaded=max(0, round(self.loaded + share * LOADED_SPREAD**2)),
            factor=self.factor + share * FACTOR_SPREAD * by_factor,
        )

    def beyond(self, course: Course) -> int:
        """Return the bytes that a run takes beyond those that its rehearsal counts."""
        return self.loaded + round((self.factor - 1) * (course.peak_bytes - course.standing_bytes))

    def taken(self, course: Course) -> int:
        """Return the bytes that a run takes."""
        return course.peak_bytes + self.beyond(course)

    def needed(self, taken: int) -> int:
        """Return the memory that there must be for a step that takes so many bytes."""
        return ceil(taken * (1 + self.reserve))
