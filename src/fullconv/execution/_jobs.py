"""The windows of a step, and reading what they need just before they are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fullconv.execution._ahead import ahead
from fullconv.execution._checks import is_read
from fullconv.execution._rewind import Rewind
from fullconv.execution._units import Terms
from fullconv.geometry import Box, Window


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A window of one image, `(channels, *spatial)`, and the units that its loss is made of.

    Attributes:
        image: The image.
        window: The window.
        find: Returns the units of a box; their labels may be read for it.
        number: Of the image within the step.
        alone: Whether the image has no other windows.
        exact: Whether the window's map must be of these units alone.
        down: How the network runs down the window and back; None for at once.
    """

    image: Any
    window: Window
    find: Callable[[Box], Terms]
    number: int
    alone: bool
    exact: bool
    down: Rewind | None = None

    def load(self) -> Loaded:
        """Return the window with its units, and its pixels where they are not in memory yet."""
        if is_read(self.image):
            pixels = self.image[(slice(None), *self.window.reads.slices)]
            return Loaded(
                self, pixels, Box.whole(self.window.reads.shape), self.find(self.window.units)
            )
        return Loaded(self, self.image, self.window.reads, self.find(self.window.units))


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A window that is ready to be run.

    Attributes:
        job: The window.
        image: What holds its pixels.
        reads: Where.
        terms: The units.
    """

    job: Job
    image: Any
    reads: Box
    terms: Terms


def loaded(batches: Sequence[list[Job]]) -> Iterator[list[Loaded]]:
    """Yield batches that are ready; the next one is read meanwhile, if it is not in memory.

    Windows in which nothing counts are left out.
    """

    def load(batch: list[Job]) -> list[Loaded]:
        return [one for one in (job.load() for job in batch) if len(one.terms.targets)]

    if any(is_read(job.image) for batch in batches for job in batch):
        found = (ready for _, ready in ahead(batches, load))
    else:
        found = map(load, batches)
    return (batch for batch in found if batch)
