"""Sizes that a network takes, for those that get one that it does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from operator import index
from typing import Any

from torch import nn

from fullconv.errors import BadConfigError, FullconvError
from fullconv.planning._rehearsal import Rehearsal, UnfitShapeError, rehearse_forward
from fullconv.planning._stage import Stage
from fullconv.planning._words import times
from fullconv.tracing import hollow, trace

# Sides that networks ask for are multiples of powers of two.
POWERS = (2, 4, 8, 16, 32, 64)


def checked(
    run: Callable[..., Rehearsal], stage: Stage, shape: Sequence[int], **settings: Any
) -> Rehearsal:
    """Return what a rehearsal shows, or say which sizes the network takes.

    Args:
        run: The rehearsal.
        stage: The network.
        shape: Of an image, `(channels, *spatial)`.
        **settings: What the rehearsal takes besides.

    Raises:
        BadConfigError: If it has another number of spatial axes than what the network takes.
        FullconvError: If the network does not take it, with the nearest that it takes; or fails on it
            for another reason.
    """
    try:
        found = run(stage, shape, **settings)
    except UnfitShapeError as error:
        sizes = nearest_shapes(stage.net, shape)
        if not sizes:
            raise
        if tuple(shape[1:]) in sizes:
            raise _not_for_its_size(stage.net, shape, error) from error
        nearest = " and ".join(f"{times(found)} px" for found in sizes)
        raise FullconvError(
            f"`shape` must be one that the network takes, got an image of {times(shape[1:])} px: "
            f"nearest are {nearest}"
        ) from error
    if len(found.map_shape) < 2:
        got = ", ".join(["N", *map(str, found.map_shape)])
        raise FullconvError(
            f"`net` must return a map with a value of each class for each unit, got ({got}): see "
            "`fullconv.convolutionalize`, which makes one of a classifier"
        )
    if len(found.map_shape) != len(shape):  # PyTorch took the axis of images for one in space
        raise _of_other_axes(shape, len(found.map_shape) - 2)
    return found


def shape_of_image(shape: object) -> tuple[int, ...]:
    """Return the shape of an image, `(channels, *spatial)`, as plain numbers.

    Raises:
        BadConfigError: If it is none.
    """
    try:
        sizes = tuple(index(size) for size in shape)  # pyright: ignore[reportGeneralTypeIssues]
    except TypeError:
        sizes = ()
    if not 2 <= len(sizes) <= 4 or min(sizes) < 1:
        raise BadConfigError(
            "`shape` must be (channels, *spatial) with 1 to 3 spatial axes, such as (3, 980, 980), got "
            f"{shape!r}"
        )
    return sizes


def _of_other_axes(shape: Sequence[int], axes: int) -> BadConfigError:
    """Return the error for a shape of other spatial axes than a network takes."""
    right = (shape[0], *shape[1:], *[shape[-1]] * axes)[: 1 + axes]
    return BadConfigError(
        f"`shape` must be (channels, *spatial) with as many spatial axes as the network takes (= {axes}), "
        f"got {tuple(shape)} with {len(shape) - 1}: such as {right}"
    )


def _not_for_its_size(
    net: nn.Module, shape: Sequence[int], error: UnfitShapeError
) -> FullconvError:
    """Return the error for a step that fails on images of a size that the network takes."""
    return FullconvError(
        f"`net` must make a training step on tensors without numbers, got a {type(net).__name__} that "
        f"takes images of {times(shape[1:])} px and fails for another reason: {error.__cause__}"
    )


def nearest_shapes(net: nn.Module, shape: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return the nearest sizes that a network takes, smaller and larger; none if none is found.

    Raises:
        BadConfigError: If the network takes images of other spatial axes.
    """
    channels, *sides = shape
    geometry = None
    with suppress(FullconvError):
        geometry = trace(hollow(net).eval(), channels)
    if geometry is not None:
        if len(geometry.axes) != len(sides):
            raise _of_other_axes(shape, len(geometry.axes))
        return geometry.nearest_shapes(tuple(sides))
    for power in POWERS:
        below = tuple(size // power * power for size in sides)
        above = tuple(-(-size // power) * power for size in sides)
        found = tuple(s for s in dict.fromkeys((below, above)) if _takes(net, channels, s))
        if found:
            return found
    return ()


def _takes(net: nn.Module, channels: int, sides: tuple[int, ...]) -> bool:
    if min(sides) < 1:
        return False
    try:
        rehearse_forward(net, (channels, *sides))
    except FullconvError:
        return False
    return True
