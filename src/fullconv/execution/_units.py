"""The chosen units of one image, however they were given, and however large the image is.

Labels in memory have a number for each unit that says how much it counts. Labels that are read by boxes
have none: what counts is found box by box, when a window is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fullconv.errors import FullconvError
from fullconv.execution._checks import check_boxes, is_read
from fullconv.execution._reads import Ints
from fullconv.execution._spread import Boxes, Mask, Spread
from fullconv.geometry import Box

# Labels are counted in pieces of about so many units.
PIECE = 2**22


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """The units of a window that its loss is made of.

    Attributes:
        keep: Which of the window's units they are, `(*units)`; None for all.
        targets: Their labels, `(n,)`.
        counts: How much each counts, `(n,)`; None for 1 each.
    """

    keep: Tensor | None
    targets: Tensor
    counts: Tensor | None


class Chosen(Protocol):
    """The units of one map that count."""

    @property
    def boxes(self) -> Sequence[Box] | None:
        """The boxes that were asked for, if units were given as boxes."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the map."""
        ...

    def spread(self) -> Spread | None:
        """Return where the units lie; None for everywhere."""
        ...

    def weight(self) -> float:
        """Return how much the units count together."""
        ...

    def labels(self, box: Box) -> Tensor:
        """Return the labels of a box of units."""
        ...

    def terms(self, box: Box) -> Terms:
        """Return the units of a box that count."""
        ...

    def pieces(self) -> Iterator[Box]:
        """Yield boxes, no two of which meet, that hold all units that count."""
        ...


def choose(targets: Any, units: Any, ignore: int | None) -> Chosen:
    """Return the units of a map that were asked for and have a label that counts.

    Args:
        targets: Labels, `(*map_shape)`: a tensor, or anything sliced into arrays.
        units: Boolean or weights `(*map_shape)`, boxes of units, or None for all.
        ignore: Label of the units that never count.

    Raises:
        FullconvError: If units do not fit the map.
    """
    if not isinstance(targets, Tensor):
        return ReadChosen.of(targets, units, ignore)
    boxes = None
    if units is None:
        counts = None
    elif isinstance(units, Tensor | np.ndarray):
        counts = _checked(torch.as_tensor(units), targets)
    elif is_read(units):
        counts = _checked(torch.as_tensor(np.asarray(units[...])), targets)
    else:
        check_boxes(units)
        boxes = _inside(units, tuple(targets.shape))
        counts = torch.zeros(targets.shape, device=targets.device)
        for box in boxes:
            counts[box.slices] += 1
    return HeldChosen(targets, _valid_counts(targets, counts, ignore), boxes)


def _valid_counts(targets: Tensor, counts: Tensor | None, ignore: int | None) -> Tensor | None:
    """Return how much each unit counts; those without a label that counts do not."""
    if ignore is None:
        return counts
    valid = targets != ignore
    if counts is None:
        return None if valid.all() else valid
    return counts * valid.to(counts.device)


def valid_terms(chosen: Chosen, ignore: int | None, box: Box) -> Terms:
    """Return the valid units of a box, each counting once however many boxes hold it."""
    labels = chosen.labels(box)
    return (
        Terms(None, labels.flatten(), None) if ignore is None else _picked(labels, labels != ignore)
    )


@dataclass(frozen=True, slots=True, eq=False)
class HeldChosen:
    """Units of a map whose labels are in memory.

    Attributes:
        targets: Labels, `(*map_shape)`.
        counts: How much each unit counts, `(*map_shape)`, boolean or floating; None for 1 each.
        boxes: The boxes that were asked for, if units were given as boxes.
    """

    targets: Tensor
    counts: Tensor | None = None
    boxes: Sequence[Box] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the map."""
        return tuple(self.targets.shape)

    def spread(self) -> Spread | None:
        """Return where the units lie; None for everywhere."""
        if self.counts is None:
            return None
        counts = self.counts
        found = (counts if counts.dtype == torch.bool else counts != 0).cpu().numpy()
        return None if found.all() else Mask(found)

    def weight(self) -> float:
        """Return how much the units count together."""
        if self.counts is None:
            return self.targets.numel()
        if self.counts.dtype == torch.bool:
            return float(self.counts.count_nonzero())
        return float(self.counts.sum(dtype=torch.float64))

    def labels(self, box: Box) -> Tensor:
        """Return the labels of a box of units."""
        return self.targets[box.slices]

    def terms(self, box: Box) -> Terms:
        """Return the units of a box that count."""
        labels = self.targets[box.slices]
        if self.counts is None:
            return Terms(None, labels.flatten(), None)
        return _picked(labels, self.counts[box.slices].to(labels.device))

    def terms_at(self, units: Ints) -> Terms:
        """Return units that count, given their places `(axes, n)`."""
        at = tuple(torch.from_numpy(units).to(self.targets.device))
        if self.counts is None or self.counts.dtype == torch.bool:
            return Terms(None, self.targets[at], None)
        return Terms(None, self.targets[at], self.counts.to(self.targets.device)[at])

    def pieces(self) -> Iterator[Box]:
        """Yield boxes, no two of which meet, that hold all units that count."""
        yield from _pieces(self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class ReadChosen:
    """Units of a map whose labels are read by boxes.

    Attributes:
        targets: Labels `(*map_shape)`, anything sliced into arrays.
        units: How much units count, likewise; None for 1 each, or where there are boxes.
        boxes: The boxes that were asked for, if units were given as boxes.
        weights: How much the units of each box count; None for 1 each.
        ignore: Label of the units that never count.
        places: Where the boxes lie; None for everywhere.
    """

    targets: Any
    units: Any
    boxes: Sequence[Box] | None
    weights: Sequence[float] | None
    ignore: int | None
    places: Boxes | None

    @staticmethod
    def of(targets: Any, units: Any, ignore: int | None) -> ReadChosen:
        """Return the units of a map, as `choose` takes them."""
        shape = tuple(targets.shape)
        weights: Sequence[float] | None = getattr(units, "weights", None)
        boxes = getattr(units, "boxes", None)
        if boxes is None and (units is None or hasattr(units, "shape")):
            if units is not None and tuple(units.shape) != shape:
                raise _other_shape(shape, tuple(units.shape))
            return ReadChosen(targets, units, None, None, ignore, None)
        if boxes is None:
            check_boxes(units)
            boxes = units
        found = _inside(boxes, shape)
        return ReadChosen(targets, None, found, weights, ignore, Boxes.of(found, shape))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the map."""
        return tuple(self.targets.shape)

    def spread(self) -> Spread | None:
        """Return where the units lie; None for everywhere."""
        return self.places

    def weight(self) -> float:
        """Return how much the units count together; labels are read for it, piece by piece."""
        if self.places is None and self.units is None and self.ignore is None:
            return float(np.prod(self.shape, dtype=np.float64))
        boxes = _pieces(self.shape) if self.boxes is None else self.boxes
        total = 0.0
        for number, box in enumerate(boxes):
            valid = self._valid(self.labels(box))
            if self.units is not None:
                total += float((valid * self._given(box)).sum(dtype=torch.float64))
            else:
                total += float(valid.sum()) * (
                    1.0 if self.weights is None else self.weights[number]
                )
        return total

    def labels(self, box: Box) -> Tensor:
        """Return the labels of a box of units; they are read now."""
        found = np.asarray(self.targets[box.slices])
        whole = found.dtype.kind in "ui"
        kind = np.int64 if whole else found.dtype.newbyteorder("=")
        return torch.from_numpy(np.require(found, kind, ["C", "W"]))

    def terms(self, box: Box) -> Terms:
        """Return the units of a box that count."""
        labels = self.labels(box)
        valid = self._valid(labels)
        if self.places is not None:
            counts = self._painted(box) * valid
        elif self.units is not None:
            counts = self._given(box) * valid
        elif bool(valid.all()):
            return Terms(None, labels.flatten(), None)
        else:
            counts = valid
        return _picked(labels, counts)

    def pieces(self) -> Iterator[Box]:
        """Yield boxes, no two of which meet, that hold all units that count."""
        if self.places is None:
            yield from _pieces(self.shape)
            return
        sides = tuple(min(n, 2**11) for n in self.shape)
        grid = tuple(-(-n // s) for n, s in zip(self.shape, sides, strict=True))
        lows, highs = self.places.leaves(sides, grid)
        for place in self.places.cells(sides, grid).T.tolist():
            at = (slice(None), *place)
            yield Box(start=tuple(lows[at].tolist()), stop=tuple(highs[at].tolist()))

    def _valid(self, labels: Tensor) -> Tensor:
        if self.ignore is None:
            return torch.ones_like(labels, dtype=torch.bool)
        return labels != self.ignore

    def _given(self, box: Box) -> Tensor:
        part = torch.as_tensor(np.asarray(self.units[box.slices]))
        return _check_counts(part)

    def _painted(self, box: Box) -> Tensor:
        """Return how much the boxes make each unit of a box count."""
        assert self.places is not None
        counts = torch.zeros(box.shape)
        back = tuple(-a for a in box.start)
        for number in self.places.meeting(box).tolist():
            low, high = self.places.lows[number], self.places.highs[number]
            part = Box(
                start=tuple(np.maximum(low, box.start).tolist()),
                stop=tuple(np.minimum(high, box.stop).tolist()),
            )
            counts[part.shifted(back).slices] += (
                1.0 if self.weights is None else self.weights[number]
            )
        return counts


def _picked(labels: Tensor, counts: Tensor) -> Terms:
    """Return the units that count: a criterion never sees the others, which may be anything."""
    keep = counts != 0
    if keep.all():
        keep = None
    else:
        labels, counts = labels[keep], counts[keep]
    return Terms(keep, labels.flatten(), None if counts.dtype == torch.bool else counts.flatten())


def _pieces(shape: tuple[int, ...]) -> Iterator[Box]:
    """Yield boxes that make up a map, long along the last axes."""
    sides = list(shape)
    for k in range(len(sides)):
        while sides[k] > 1 and np.prod(sides, dtype=np.float64) > PIECE:
            sides[k] = -(-sides[k] // 2)
    for start in product(*(range(0, n, s) for n, s in zip(shape, sides, strict=True))):
        stop = tuple(min(a + s, n) for a, s, n in zip(start, sides, shape, strict=True))
        yield Box(start=start, stop=stop)


def _checked(units: Tensor, targets: Tensor) -> Tensor:
    if units.shape != targets.shape:
        raise _other_shape(tuple(targets.shape), tuple(units.shape))
    return _check_counts(units)


def _other_shape(expected: tuple[int, ...], got: tuple[int, ...]) -> FullconvError:
    return FullconvError(f"`units` must have the shape of the map, {expected}, got {got}")


def _check_counts(units: Tensor) -> Tensor:
    if units.dtype != torch.bool and not units.is_floating_point():
        raise FullconvError(
            f"`units` must be boolean, or floating (how much each unit counts), got {units.dtype}"
        )
    if units.requires_grad:
        raise FullconvError(
            "`units` must be numbers that gradients are not asked for, got weights that require them: "
            "`detach()` them"
        )
    if units.is_floating_point() and not ((units >= 0) & units.isfinite()).all():
        raise FullconvError(
            "`units` must count 0 or more each, got a weight below 0, NaN or infinite"
        )
    return units


def _inside(boxes: Sequence[Box], shape: tuple[int, ...]) -> list[Box]:
    """Return the boxes, or refuse those that do not lie in the map."""
    whole = Box.whole(shape)
    for box in boxes:
        if not isinstance(box, Box):  # pyright: ignore[reportUnnecessaryIsInstance] (users' data)
            raise FullconvError(
                f"`units` must be tensors or lists of `Box` or None, got a {type(box).__name__}"
            )
        if len(box.start) != len(shape) or not whole.contains(box):
            raise FullconvError(f"`units` must lie in the map of shape {whole.shape}, got {box}")
    return list(boxes)
