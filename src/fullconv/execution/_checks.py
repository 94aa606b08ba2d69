"""What users hand over, checked once where it comes in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fullconv.errors import FullconvError
from fullconv.geometry import Box


def check_lengths(images: Any, targets: Any, units: Any) -> None:
    """Refuse steps whose parts do not belong to the same images."""
    parts = {"images": images, "targets": targets} | ({} if units is None else {"units": units})
    for name, part in parts.items():
        if not hasattr(part, "__len__"):
            raise FullconvError(
                f"`{name}` must be a sequence with one entry per image, got a "
                f"{type(part).__name__}: make it a list"
            )
    lengths = [len(part) for part in parts.values()]
    if len(set(lengths)) > 1:
        got = ", ".join(f"{size} {name}" for name, size in zip(parts, lengths, strict=True))
        raise FullconvError(f"`{'`, `'.join(parts)}` must have one entry per image, got {got}")


def is_read(array: Any) -> bool:
    """Return whether an array is in no memory yet, but gives parts of itself when it is sliced."""
    if isinstance(array, Tensor | np.ndarray) or not hasattr(array, "__getitem__"):
        return False
    return hasattr(array, "shape") and not isinstance(array, Sequence)


def labels_of(target: Any, image: Any) -> Any:
    """Return the labels of an image, `(*map_shape)`; whole numbers as int64, others as they are.

    Labels that are read by boxes stay so.

    Raises:
        FullconvError: If image and labels are not of as many axes.
    """
    if not isinstance(target, Tensor) and not is_read(target):
        found = np.asarray(target)
        target = torch.from_numpy(np.require(found, found.dtype.newbyteorder("="), ["C", "W"]))
    shapes: list[tuple[int, ...]] = [tuple(getattr(one, "shape", ())) for one in (image, target)]
    if not 2 <= len(shapes[0]) == len(shapes[1]) + 1 or 0 in shapes[0]:
        raise FullconvError(
            "`images` must be (channels, *spatial) each, and `targets` (*map) with as many spatial "
            f"axes, got an image of shape {shapes[0]} and labels of shape {shapes[1]}"
        )
    if not isinstance(target, Tensor):
        return target
    if target.requires_grad:
        raise FullconvError(
            "`targets` must be numbers that gradients are not asked for, got labels that require them: "
            "`detach()` them"
        )
    whole = not target.is_floating_point() and target.dtype != torch.bool
    return target.long() if whole else target


def check_boxes(units: Any) -> None:
    """Refuse units of one image that are neither a tensor, nor boxes, nor None."""
    if isinstance(units, Box) or not isinstance(units, Sequence):
        raise FullconvError(
            "`units` must be a tensor, a list of `Box` or None for each image, got a "
            f"{type(units).__name__}: put the boxes of each image into a list of their own"
        )


def check_losses(losses: Any, count: int) -> Tensor:
    """Return the losses, or refuse what a criterion returned."""
    if isinstance(losses, Tensor) and losses.shape == (count,):
        return losses
    got = tuple(losses.shape) if isinstance(losses, Tensor) else repr(losses)
    raise FullconvError(
        f"`criterion` must return one loss per unit, {(count,)}, got {got}: build it with "
        "`reduction='none'`"
    )


def out_of_range(labels: Tensor, classes: int) -> FullconvError:
    """Return the error for labels that no class has."""
    return FullconvError(
        f"`targets` must be classes from 0 to {classes - 1}, or the `ignore_index` of the criterion, "
        f"got labels from {int(labels.min())} to {int(labels.max())}"
    )
