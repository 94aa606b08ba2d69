"""The parts of a step: windows of its images, and reading what they need just before they are run.

A window is a job of its own. Where an image in memory has many of one shape, each for one unit, they are
one job: their pixels are gathered at once, and so are their units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from fullconv.errors import FullconvError
from fullconv.execution._ahead import ahead
from fullconv.execution._checks import is_read
from fullconv.execution._losses import counted
from fullconv.execution._pixels import gathered, read
from fullconv.execution._reads import Cover
from fullconv.execution._rewind import Rewind
from fullconv.execution._units import HeldChosen, Terms
from fullconv.geometry import Box, Window


class Loaded(Protocol):
    """Windows of one shape that are ready to be run.

    Attributes:
        job: The windows.
        terms: Their units.
    """

    @property
    def job(self) -> Job: ...
    @property
    def terms(self) -> Terms: ...

    def pixels(self, like: Tensor) -> Tensor:
        """Return what they read, `(n, channels, *sides)`, on the device and of the type of `like`."""
        ...

    def rows(self, maps: Tensor) -> Tensor:
        """Return the logits of their units, `(m, classes)`, from their maps `(n, classes, *map)`."""
        ...


class Job(Protocol):
    """Windows of one shape on one image, `(channels, *spatial)`.

    Attributes:
        image: The image.
        number: Of the image within the step.
        alone: Whether the image has no other windows.
    """

    @property
    def image(self) -> Any: ...
    @property
    def number(self) -> int: ...
    @property
    def alone(self) -> bool: ...

    @property
    def sides(self) -> tuple[int, ...]:
        """What each window reads, in px per axis."""
        ...

    def __len__(self) -> int: ...

    def windows(self) -> Sequence[Window]:
        """Return the windows."""
        ...

    def part(self, start: int, stop: int) -> Job:
        """Return some of the windows, not none."""
        ...

    def on(self, image: Any) -> Job:
        """Return the same windows of another image."""
        ...

    def load(self) -> Loaded:
        """Return the windows with their units, and their pixels where they are not in memory yet."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class OneWindow:
    """A window of an image.

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

    @property
    def sides(self) -> tuple[int, ...]:
        """What the window reads, in px per axis."""
        return self.window.reads.shape

    def __len__(self) -> int:
        return 1

    def windows(self) -> Sequence[Window]:
        """Return the window."""
        return [self.window]

    def part(self, start: int, stop: int) -> Job:
        """Return the window."""
        del start, stop
        return self

    def on(self, image: Any) -> OneWindow:
        """Return the same window of another image."""
        return replace(self, image=image)

    def load(self) -> Loaded:
        """Return the window with its units, and its pixels where they are not in memory yet."""
        terms, reads = self.find(self.window.units), self.window.reads
        if not is_read(self.image):
            return _LoadedWindow(self, self.image, reads, terms)
        pixels = self.image[(slice(None), *reads.slices)]
        return _LoadedWindow(self, pixels, Box.whole(reads.shape), terms)


@dataclass(frozen=True, slots=True, eq=False)
class _LoadedWindow:
    job: OneWindow
    image: Any
    reads: Box
    terms: Terms

    def pixels(self, like: Tensor) -> Tensor:
        return read(self.image, self.reads, like)[None]

    def rows(self, maps: Tensor) -> Tensor:
        job, inside, shape = self.job, self.job.window.inside, tuple(maps.shape[2:])
        beyond = any(a > b for a, b in zip(inside.stop, shape, strict=True))
        if beyond or (job.exact and inside.stop != shape):
            raise FullconvError(
                f"`targets` must have the shape of the map: the network's map of {job.sides} px is "
                f"{shape}, got labels of which it owns {job.window.units.shape}"
            )
        return counted(maps[0][(slice(None), *inside.slices)], self.terms)


@dataclass(frozen=True, slots=True, eq=False)
class Singles:
    """Windows of one shape on an image in memory, each for one unit that counts.

    Attributes:
        image: The image.
        cover: The windows; at least one.
        chosen: The units of the image that count.
        number: Of the image within the step.
    """

    image: Any
    cover: Cover
    chosen: HeldChosen
    number: int

    @property
    def alone(self) -> bool:
        """Whether the image has no other windows: it is not known."""
        return False

    @property
    def sides(self) -> tuple[int, ...]:
        """What each window reads, in px per axis."""
        return tuple(self.cover.sides[:, 0].tolist())

    def __len__(self) -> int:
        return len(self.cover)

    def windows(self) -> Sequence[Window]:
        """Return the windows."""
        return self.cover.windows()

    def part(self, start: int, stop: int) -> Job:
        """Return some of the windows, not none."""
        return replace(self, cover=self.cover[start:stop])

    def on(self, image: Any) -> Singles:
        """Return the same windows of another image."""
        return replace(self, image=image)

    def load(self) -> Loaded:
        """Return the windows with their units."""
        return _LoadedSingles(self, self.chosen.terms_at(self.cover.blocks.lows))


@dataclass(frozen=True, slots=True, eq=False)
class _LoadedSingles:
    job: Singles
    terms: Terms

    def pixels(self, like: Tensor) -> Tensor:
        return gathered(self.job.image, self.job.cover.begins, self.job.sides, like)

    def rows(self, maps: Tensor) -> Tensor:
        cover = self.job.cover
        inside = torch.from_numpy(cover.blocks.lows - cover.back).to(maps.device)
        return maps[(torch.arange(len(maps), device=maps.device), slice(None), *inside)]


def jobs_of(image: Any, chosen: Any, cover: Cover, number: int) -> list[Job]:
    """Return the windows of an image as jobs.

    Args:
        image: The image.
        chosen: The units of it that count.
        cover: The windows.
        number: Of the image within the step.
    """
    held = isinstance(chosen, HeldChosen) and not is_read(image)
    if held and len(cover) > 1 and cover.are_single:
        return [Singles(image, each, chosen, number) for each in cover.by_shape()]
    alone, every = len(cover) == 1, Box.whole(chosen.shape)
    return [
        OneWindow(image, window, chosen.terms, number, alone, exact=window.inside == every)
        for window in cover.windows()
    ]


def batches_of(
    jobs: Sequence[Job], most: Callable[[int, tuple[int, ...], int], int]
) -> Iterator[list[Job]]:
    """Yield jobs in batches of windows of one shape.

    Args:
        jobs: The jobs.
        most: Returns how many windows to run together, of so many channels, of these sides, of so many.
    """
    groups: dict[tuple[int, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.image.shape[0], *job.sides), []).append(job)
    for (channels, *sides), group in groups.items():
        yield from _filled(group, most(channels, tuple(sides), sum(map(len, group))))


def _filled(jobs: Sequence[Job], most: int) -> Iterator[list[Job]]:
    """Yield jobs in batches of so many windows; only the last has fewer."""
    batch: list[Job] = []
    room = most
    for job in jobs:
        start = 0
        while start < len(job):
            stop = min(start + room, len(job))
            batch.append(job.part(start, stop))
            room, start = room - (stop - start), stop
            if not room:
                yield batch
                batch, room = [], most
    if batch:
        yield batch


def numbered(job: Job) -> Iterator[tuple[int, Window]]:
    """Return the windows of a job, each with the number of its image."""
    return ((job.number, window) for window in job.windows())


def loaded(batches: Sequence[list[Job]]) -> Iterator[list[Loaded]]:
    """Yield batches that are ready; the next one is read meanwhile, if it is not in memory.

    Windows in which nothing counts are left out, but not whole images, at which norms may look.
    """

    def load(batch: list[Job]) -> list[Loaded]:
        return [
            one for one in (job.load() for job in batch) if one.job.alone or len(one.terms.targets)
        ]

    if any(is_read(job.image) for batch in batches for job in batch):
        found = (ready for _, ready in ahead(batches, load))
    else:
        found = map(load, batches)
    return (batch for batch in found if batch)
