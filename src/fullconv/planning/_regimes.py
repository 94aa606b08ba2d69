"""What the steps of a regime are made of, and what they cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fullconv.errors import FullconvError, NotLocalError
from fullconv.execution import (
    WITH_BACKWARD,
    Cover,
    Descents,
    Mask,
    Planner,
    Rewind,
    choose,
    operations,
)
from fullconv.geometry import Box, least_window
from fullconv.planning._gauge import Gauge
from fullconv.planning._ledger import Course
from fullconv.planning._rehearsal import rehearse_windows
from fullconv.planning._stage import Stage
from fullconv.planning._words import amount, times
from fullconv.sampling import Sampled, Sampler, Whole, generator
from fullconv.tracing import record

# Units of one image above which they are not drawn one by one to be planned: all are taken.
MOST_DRAWN = 2**26
# Images of a step whose units are drawn: these as long as there are so few, and these at most.
FEW_DRAWN, MANY_DRAWN = 4, 256
# Labels of an image whose units are drawn, the same everywhere; the next where none of these is chosen.
LABELS = (0, 1)
# What a plan takes of the usable memory at least, where larger windows would help.
ENOUGH = 0.92
ROUNDS = 4
# Windows are not made smaller to save less than this share of what is there beside them: there would
# be millions of them.
WORTH_SAVING = 0.01

# Which units of an image count, None for all; and how many images of a step are like it.
Alike = tuple[Any, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowShape:
    """Windows of one shape in a step.

    Attributes:
        shape: What each reads, in px per axis.
        count: How many a step has.
    """

    shape: tuple[int, ...]
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimePlan:
    """What the steps of a regime take and cost.

    Attributes:
        name: Of the regime.
        images: That a step looks at.
        windows: What goes through the network in a step, by shape; whole images are windows too.
        together: Windows of the largest shape that run at once.
        rows: Rows that are read at a time where whole images run down the network and back; None where
            windows run at once.
        terms: Units whose loss counts in a step.
        peak_bytes: The most memory that a step takes, with all that it stands on.
        step_bytes: What `fullconv.StepLoss` is to be given as `memory`; None for no windows.
        operations: Of a step, backward included.
        seconds: Of a step.
        epoch_steps: Steps until every image was looked at once; None if their number is not known.
        refusal: Why there can be no such step; empty if there can.
    """

    name: str
    images: int = 0
    windows: tuple[WindowShape, ...] = ()
    together: int = 1
    rows: int | None = None
    terms: int = 0
    peak_bytes: int = 0
    step_bytes: int | None = None
    operations: float = 0.0
    seconds: float = 0.0
    epoch_steps: int | None = None
    refusal: str = ""

    @property
    def pixels(self) -> int:
        """Pixels that a step computes."""
        return sum(prod(w.shape) * w.count for w in self.windows)

    @property
    def pixels_per_term(self) -> float:
        """Pixels that a step computes for each unit whose loss counts."""
        return self.pixels / max(1, self.terms)

    def is_whole(self, sides: tuple[int, ...]) -> bool:
        """Return whether images of these sides go through the network uncut."""
        return all(window.shape == sides for window in self.windows)

    @property
    def epoch_seconds(self) -> float | None:
        """Seconds until every image was looked at once."""
        return None if self.epoch_steps is None else self.epoch_steps * self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What the regimes of a plan have in common.

    Attributes:
        stage: The network, in the mode that it is trained in, and how steps are made.
        planner: Of its windows.
        shape: Of an image, `(channels, *spatial)`.
        map_shape: Of its map, `(*spatial)`.
        gauge: What the machine makes of a rehearsal.
        standing: Bytes of weights, gradients of a part of a step and their sum, the optimiser's state.
        memory: Bytes that there are; None for no limit.
        images: In the data set; None if not known.
        rehearsed: Steps through windows so far, by shape, owned units and number together.
        counted: Operations of a forward pass over one image so far, by its sides.
    """

    stage: Stage
    planner: Planner
    shape: tuple[int, ...]
    map_shape: tuple[int, ...]
    gauge: Gauge
    standing: int
    memory: int | None
    images: int | None

    rehearsed: dict[Any, Course] = field(default_factory=dict[Any, Course])
    counted: dict[tuple[int, ...], float] = field(default_factory=dict[tuple[int, ...], float])

    @property
    def net(self) -> nn.Module:
        """The network."""
        return self.stage.net

    @property
    def sides(self) -> tuple[int, ...]:
        """Shape of an image without channels."""
        return self.shape[1:]

    @property
    def usable(self) -> int | None:
        """Bytes that a planned step may take: of the memory, but the reserve; None for no limit."""
        return None if self.memory is None else self.gauge.usable(self.memory)

    @property
    def data_bytes(self) -> int:
        """Bytes of one image and its labels."""
        return 4 * prod(self.shape) + 8 * prod(self.map_shape)

    def operations(self, sides: tuple[int, ...]) -> float:
        """Return the operations of a forward pass over one image of these sides."""
        if sides not in self.counted:
            self.counted[sides] = operations(record(self.net, self.shape[0], sides))
        return self.counted[sides]

    def epoch_steps(self, images: int) -> int | None:
        """Return the steps until every image was looked at once."""
        return None if self.images is None else ceil(self.images / images)


def whole(draft: Draft, batch: int, peak_bytes: int) -> RegimePlan:
    """Return the plan of whole images at once.

    Args:
        draft: What regimes have in common.
        batch: Images of a step.
        peak_bytes: What such a step takes.
    """
    work = batch * WITH_BACKWARD * draft.operations(draft.sides)
    return RegimePlan(
        name="whole",
        images=batch,
        windows=(WindowShape(shape=draft.sides, count=batch),),
        together=batch,
        terms=batch * prod(draft.map_shape),
        peak_bytes=peak_bytes,
        operations=work,
        seconds=draft.gauge.pace.seconds(work, runs=1),
        epoch_steps=draft.epoch_steps(batch),
    )


def through_windows(draft: Draft, name: str, sampler: Sampler, images: int) -> RegimePlan:
    """Return the plan of steps over chosen units, through windows as `fullconv.StepLoss` has them.

    Args:
        draft: What regimes have in common.
        name: Of the regime.
        sampler: Which units count.
        images: That a step looks at.
    """
    try:
        units = _drawn(sampler, draft.map_shape, images)
        return _fitted(draft, name, units)
    except FullconvError as error:
        return RegimePlan(name=name, images=images, refusal=str(error))


def smallest(draft: Draft, images: int) -> RegimePlan:
    """Return the plan of steps over all units of so many images that takes the least memory.

    Raises:
        NotLocalError: If a layer looks at the whole image.
    """
    draft.planner.geometry(draft.shape[0], draft.sides)
    return _planned(draft, "streamed", [(None, images)], _least_step(draft, images))


def _fitted(draft: Draft, name: str, units: Sequence[Alike]) -> RegimePlan:
    """Return the plan whose windows take most of the memory, and no more.

    The windows are chosen by an estimate of what they take, and then rehearsed; what steps may add is
    corrected until both agree.

    Raises:
        FullconvError: If not even the smallest windows fit.
    """
    usable = draft.usable
    if usable is None:
        return _planned(draft, name, units, None)
    images = _num_images(units)
    left = usable - _beside(draft, images)
    if left <= 0:
        raise FullconvError(
            f"weights, gradients, optimiser and {images} images with their labels take "
            f"{amount(usable - left)}, where a step may take {amount(usable)}"
        )
    least = _least_step(draft, images)
    step_bytes, best = max(left, least), None
    for _ in range(ROUNDS):
        found = _planned(draft, name, units, step_bytes)
        if found.peak_bytes <= usable:
            best = found if best is None else max(best, found, key=lambda f: f.peak_bytes)
            if found.peak_bytes >= ENOUGH * usable or found.is_whole(draft.sides):
                break
        elif step_bytes == least:
            break
        taken = found.peak_bytes - (usable - left)
        step_bytes = max(least, int(step_bytes * 0.96 * left / max(1, taken)))
    best = best or _planned(draft, name, units, least)
    if best.peak_bytes > usable:
        raise FullconvError(
            f"steps through the smallest windows take {amount(best.peak_bytes)}, where they may take "
            f"{amount(usable)}"
        )
    return best


def _beside(draft: Draft, images: int) -> int:
    """Return what is there beside the windows of a step over so many images."""
    return draft.standing + draft.gauge.loaded + images * draft.data_bytes


def _least_step(draft: Draft, images: int) -> int:
    """Return the least that the windows of a step over so many images are planned to add."""
    return max(_least_estimate(draft), int(WORTH_SAVING * _beside(draft, images)))


def _least_estimate(draft: Draft) -> int:
    """Return what the smallest windows take by the estimate; 1 byte if nothing is known of windows."""
    channels, planner = draft.shape[0], draft.planner
    try:
        geometry = planner.geometry(channels, draft.sides)
    except NotLocalError:
        return 1
    least = least_window(geometry, draft.sides)
    return ceil(planner.costs(channels, geometry).training_bytes(least))


def _planned(draft: Draft, name: str, units: Sequence[Alike], step_bytes: int | None) -> RegimePlan:
    channels, planner = draft.shape[0], draft.planner
    planner.memory = step_bytes
    covers = [
        planner.cover(
            channels, draft.sides, draft.map_shape, None if chosen is None else Mask(chosen)
        )
        for chosen, _ in units
    ]
    descents = Descents(planner)
    downs = [_down(draft, descents, cover) for cover in covers]
    if all(downs) and downs[0]:
        return _down_images(draft, name, units, descents, downs[0])
    counts: Counter[tuple[int, ...]] = Counter()
    for cover, (_, alike) in zip(covers, units, strict=True):
        for shape, count in Counter(zip(*cover.sides.tolist(), strict=True)).items():
            counts[shape] += count * alike
    device = draft.stage.device.type
    together = {
        shape: min(count, planner.most_together(channels, shape, count, device))
        for shape, count in counts.items()
    }
    windows = (window for cover in covers for window in cover.windows())
    largest = max(windows, key=lambda w: together[w.reads.shape] * w.reads.size)
    most, images = together[largest.reads.shape], _num_images(units)
    taken = _taken(draft, largest.reads.shape, largest.inside, most, images)
    work = _work(draft, counts)
    return RegimePlan(
        name=name,
        images=images,
        windows=tuple(WindowShape(shape=s, count=n) for s, n in counts.most_common()),
        together=most,
        terms=_terms(draft, units),
        peak_bytes=taken,
        step_bytes=step_bytes,
        operations=work,
        seconds=draft.gauge.pace.seconds(
            work, sum(ceil(n / together[s]) for s, n in counts.items())
        ),
        epoch_steps=draft.epoch_steps(images),
    )


def _down(draft: Draft, descents: Descents, cover: Cover) -> Rewind | None:
    """Return how an image runs down the network and back, where that costs less than its windows."""
    with draft.stage.manner.cast(draft.stage.device):
        return descents.plan(draft.shape[0], draft.sides, cover)


def _down_images(
    draft: Draft, name: str, units: Sequence[Alike], descents: Descents, down: Rewind
) -> RegimePlan:
    """Return the plan of images that run down the network and back, one by one."""
    count = _num_images(units)
    with draft.stage.manner.cast(draft.stage.device):
        passing = descents.peak_bytes(draft.shape[0], draft.sides, down)
    work = count * down.cost * draft.operations(draft.sides)
    passes = ceil(draft.sides[0] / down.rows) * count
    return RegimePlan(
        name=name,
        images=count,
        windows=(WindowShape(shape=draft.sides, count=count),),
        rows=down.rows,
        terms=_terms(draft, units),
        peak_bytes=_beside(draft, count) + ceil(passing),
        step_bytes=draft.planner.memory,
        operations=work,
        seconds=draft.gauge.pace.seconds(work, 2 * passes),
        epoch_steps=draft.epoch_steps(count),
    )


def _num_images(units: Sequence[Alike]) -> int:
    return sum(alike for _, alike in units)


def _terms(draft: Draft, units: Sequence[Alike]) -> int:
    whole = prod(draft.map_shape)
    return sum(n * (whole if chosen is None else int(chosen.sum())) for chosen, n in units)


def _taken(
    draft: Draft, shape: tuple[int, ...], owned: Box | None, together: int, images: int
) -> int:
    """Return the bytes that a step with such windows takes."""
    key = shape, owned, together
    if key not in draft.rehearsed:
        draft.rehearsed[key] = rehearse_windows(
            draft.stage, (draft.shape[0], *shape), owned=owned, together=together
        ).course
    return draft.gauge.taken(draft.rehearsed[key].holding(images * draft.data_bytes))


def _work(draft: Draft, counts: Mapping[tuple[int, ...], int]) -> float:
    """Return the operations of windows of these shapes, backward included."""
    channels, planner = draft.shape[0], draft.planner
    try:
        costs = planner.costs(channels, planner.geometry(channels, draft.sides))
    except NotLocalError:  # then they are whole images
        each = {s: draft.operations(s) for s in counts}
    else:
        each = {s: float(costs.operations(s)) for s in counts}
    return WITH_BACKWARD * sum(n * each[s] for s, n in counts.items())


def _drawn(sampler: Sampler, map_shape: tuple[int, ...], images: int) -> list[Alike]:
    """Return which units of each image count, as a sampler might draw them; None for all.

    A share of units is alike in all images, so that few are drawn for many.

    Raises:
        FullconvError: If units of more images would have to be drawn than is done, none is drawn, or
            what is drawn are no units of these images.
    """
    if isinstance(sampler, Whole) or prod(map_shape) > MOST_DRAWN:
        return [(None, images)]
    num = min(images, max(FEW_DRAWN, min(MANY_DRAWN, MOST_DRAWN // prod(map_shape))))
    if num < images and not isinstance(sampler, Sampled):
        raise FullconvError(
            f"units are drawn to be planned from {num} images of {times(map_shape)} units at most, got "
            f"{images:,}: take a smaller batch"
        )
    found = (_masks(sampler, map_shape, num, label) for label in LABELS)
    chosen = next((masks for masks in found if any(m is None or m.any() for m in masks)), None)
    if chosen is None:
        raise FullconvError(
            "`sampler` must choose a unit to be planned, got none of any image whose labels are all "
            f"{' or all '.join(map(str, LABELS))}: give one that chooses among these"
        )
    return [(mask, images // num + (i < images % num)) for i, mask in enumerate(chosen)]


def _masks(
    sampler: Sampler, map_shape: tuple[int, ...], num: int, label: int
) -> list[NDArray[np.bool_] | None]:
    """Return which units a sampler chooses of images with one label everywhere; None for all."""
    labels = torch.full(map_shape, label)
    drawn: Any = sampler([labels] * num, generator(0))
    given = [None] * num if drawn is None else drawn
    if not isinstance(given, Sequence | Tensor) or len(given) != num:
        raise FullconvError(
            f"`sampler` must return the units of each of {num} images, got {drawn!r:.80}: a list with "
            "a tensor, boxes or None for each, or None for all units of all"
        )
    return [_as_mask(labels, units) for units in given]


def _as_mask(labels: Tensor, units: Any) -> NDArray[np.bool_] | None:
    """Return which units of a map count, refused where `fullconv.StepLoss` would; None for all."""
    spread = choose(labels, units, None).spread()
    return spread.chosen if isinstance(spread, Mask) else None
