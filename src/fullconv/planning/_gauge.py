"""From what a rehearsal counts to what a process takes."""

from __future__ import annotations

from dataclasses import dataclass

from fullconv.planning._ledger import Course
from fullconv.planning._pace import USUAL, Pace

# What the first steps load for good, whatever the images: kernels compiled for their shapes, buffers
# of threads. Measured on CPU, for four networks, with one thread: 24 to 36 MiB.
LOADED_BYTES = {"cpu": 26 * 2**20}
# Error of the peak to reckon with, before and after a measured step: what four networks showed on a
# CPU, rounded up; not yet a statistic over many.
ERROR, MEASURED_ERROR = 0.08, 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """What a machine makes of a rehearsal.

    Attributes:
        loaded: Bytes that steps load for good, besides weights and the optimiser's state.
        factor: What a step takes for each byte that its rehearsal counts beyond those.
        error: How far off the sum may be, as a share of it.
        pace: Operations as seconds.
        measured: Whether this was measured here.
    """

    loaded: int
    factor: float = 1.0
    error: float = ERROR
    pace: Pace = USUAL
    measured: bool = False

    @staticmethod
    def of(device: str) -> Gauge:
        """Return what is known of a kind of device before anything is measured."""
        return Gauge(loaded=LOADED_BYTES.get(device, 0))

    def beyond(self, course: Course) -> int:
        """Return the bytes that a run takes beyond those that its rehearsal counts."""
        return self.loaded + round((self.factor - 1) * (course.peak_bytes - course.standing_bytes))

    def taken(self, course: Course) -> int:
        """Return the bytes that a run takes."""
        return course.peak_bytes + self.beyond(course)
