"""The chosen units of one image, however they were given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fullconv.errors import FullconvError
from fullconv.execution._checks import check_boxes
from fullconv.geometry import Box

# Below this share, chosen units are picked out of a window; above, all of them are computed.
SPARSE = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The units of one map that count.

    Attributes:
        targets: Labels, `(*map_shape)`.
        counts: How much each unit counts, `(*map_shape)`, boolean or floating; None for 1 each.
        boxes: The boxes that were asked for, if units were given as boxes.
        weight: How much the units count together.
    """

    targets: Tensor
    counts: Tensor | None
    boxes: Sequence[Box] | None
    weight: float

    def mask(self) -> NDArray[np.bool_] | None:
        """Return which units count, `(*map_shape)`; None for all."""
        if self.counts is None:
            return None
        found = (self.counts != 0).cpu().numpy()
        return None if found.all() else found


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


def choose(targets: Tensor, units: Any, ignore: int | None) -> Chosen:
    """Return the units of a map that were asked for and have a label that counts.

    Args:
        targets: Labels, `(*map_shape)`.
        units: Boolean or weights `(*map_shape)`, boxes of units, or None for all.
        ignore: Label of the units that never count.

    Raises:
        FullconvError: If units do not fit the map.
    """
    boxes = None
    if units is None:
        counts = None
    elif isinstance(units, Tensor | np.ndarray):
        counts = _checked(torch.as_tensor(units), targets)
    else:
        check_boxes(units)
        boxes = list(units)
        counts = _painted(boxes, targets)
    valid = None if ignore is None else targets != ignore
    if valid is not None and not valid.all():
        valid = valid.to(targets.device if counts is None else counts.device)
        counts = valid if counts is None else counts * valid
    weight = targets.numel() if counts is None else float(counts.sum(dtype=torch.float64))
    return Chosen(targets, counts, boxes, weight)


def terms(chosen: Chosen, box: Box) -> Terms:
    """Return the units of a box that count."""
    labels = chosen.targets[box.slices]
    if chosen.counts is None:
        return Terms(None, labels.flatten(), None)
    counts = chosen.counts[box.slices].to(labels.device)
    keep = counts != 0
    if int(keep.sum()) < SPARSE * keep.numel():
        labels, counts = labels[keep], counts[keep]
    else:
        keep = None
    one_each = counts.dtype == torch.bool and bool(counts.all())
    return Terms(keep, labels.flatten(), None if one_each else counts.flatten())


def valid_terms(chosen: Chosen, box: Box, ignore: int | None) -> Terms:
    """Return the valid units of a box, each counting once however many boxes hold it."""
    labels = chosen.targets[box.slices].flatten()
    return Terms(None, labels, None if ignore is None else labels != ignore)


def _checked(units: Tensor, targets: Tensor) -> Tensor:
    if units.shape != targets.shape:
        raise FullconvError(
            f"`units` must have the shape of the map, {tuple(targets.shape)}, got "
            f"{tuple(units.shape)}"
        )
    if units.dtype != torch.bool and not units.is_floating_point():
        raise FullconvError(
            f"`units` must be boolean, or floating (how much each unit counts), got {units.dtype}"
        )
    if units.is_floating_point() and not ((units >= 0) & units.isfinite()).all():
        raise FullconvError(
            "`units` must count 0 or more each, got a weight below 0, NaN or infinite"
        )
    return units


def _painted(boxes: Sequence[Box], targets: Tensor) -> Tensor:
    """Return how many of the boxes hold each unit."""
    counts = torch.zeros(targets.shape, device=targets.device)
    whole = Box.whole(tuple(targets.shape))
    for box in boxes:
        if not isinstance(box, Box):  # pyright: ignore[reportUnnecessaryIsInstance] (users' data)
            raise FullconvError(
                f"`units` must be tensors or lists of `Box` or None, got a {type(box).__name__}"
            )
        if len(box.start) != targets.ndim or not whole.contains(box):
            raise FullconvError(f"`units` must lie in the map of shape {whole.shape}, got {box}")
        counts[box.slices] += 1
    return counts
