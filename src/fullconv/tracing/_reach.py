"""The reach of a value: for every position of it, the pixels of one axis that it depends on.

A reach is four integer arrays of the value's shape, stored as one stack in which *hull* is
*minimum*, so that every rule is a matter of indexing and taking minima:

    0  start    first pixel that the position depends on
    1  -stop    minus one past the last pixel
    2  first    a window in which the position is exact starts here or before
    3  -last    minus: it stops here or after

`NOTHING` stands for "depends on no pixel" (a constant), `BORDER` in the last two for "only where the
image's own border is": the position reads padding. Axes along which nothing varies have size 1.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NOTHING = 1 << 29  # reaches are many: 32 bits hold it, its negative and their difference
BORDER = -NOTHING
# Taps below: an index of the input, or this for "reads nothing".
NO_TAP = -(1 << 30)


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """Which pixels of one axis each position of a value depends on (see the module's text)."""

    parts: Tensor  # int32 (4, *compact): each axis has the value's size, or 1

    def map(self, change: Callable[[Tensor], Tensor]) -> Reach:
        """Return the reach with a structural change (a view, a slice …) done to each part."""
        return Reach(torch.stack([change(part) for part in self.parts]))

    @property
    def ndim(self) -> int:
        """Axes of the value."""
        return self.parts.ndim - 1

    def size(self, dim: int) -> int:
        """Return the size of the compact arrays along an axis."""
        return self.parts.shape[dim + 1]

    def expanded(self, dims: Sequence[int], shape: Sequence[int]) -> Reach:
        """Return the reach with the axes `dims` written out to the sizes that `shape` gives."""
        if all(self.size(dim) == shape[dim] for dim in dims):
            return self
        sizes = list(self.parts.shape)
        for dim in dims:
            sizes[dim + 1] = shape[dim]
        return Reach(self.parts.expand(sizes))

    def compact(self, kept: Container[int]) -> Reach:
        """Return the reach with size 1 along each axis on which nothing varies, but for those `kept`."""
        parts = self.parts
        for dim in range(1, parts.ndim):
            one = parts.narrow(dim, 0, 1)
            if parts.shape[dim] > 1 and dim - 1 not in kept and bool((parts == one).all()):
                parts = one
        return Reach(parts)

    def over(self, dim: int) -> Reach:
        """Return the hull over an axis, which is kept with size 1."""
        return Reach(self.parts.amin(dim + 1, keepdim=True))


def of_image(shape: tuple[int, ...], dim: int) -> Reach:
    """Return the reach of the image itself along its axis `dim`: every pixel reads itself."""
    position = torch.arange(shape[dim], dtype=torch.int32)
    view = [1] * len(shape)
    view[dim] = shape[dim]
    parts = torch.stack([position, -position - 1, position, -position - 1])
    return Reach(parts.reshape(4, *view))


def of_constant(ndim: int) -> Reach:
    """Return the reach of a value that depends on no pixel."""
    return Reach(torch.full((4, *[1] * ndim), NOTHING, dtype=torch.int32))


def hull(reaches: Sequence[Reach]) -> Reach:
    """Return the hull of several reaches of values that are broadcast together."""
    ndim = max(reach.ndim for reach in reaches)
    padded = [r.parts.reshape(4, *[1] * (ndim - r.ndim), *r.parts.shape[1:]) for r in reaches]
    result = padded[0]
    for part in padded[1:]:
        result = torch.minimum(result, part)
    return Reach(result)


def gather(reach: Reach, dim: int, taps: Tensor, size: int, *, grows: bool) -> Reach:
    """Return the reach of positions that each read several positions along one axis.

    Args:
        reach: Reach of what is read.
        dim: The axis.
        taps: ``(num_taps, num_positions)`` indices along the axis. An index outside ``[0, size)``
            reads padding; `NO_TAP` reads nothing.
        size: Size of the axis in what is read.
        grows: Whether the axis grows with the image, so that its padding is the image's border.
    """
    if reach.size(dim) == 1 and not grows:
        return reach
    parts = reach.expanded([dim], [0] * dim + [size]).parts if reach.size(dim) == 1 else reach.parts
    slot_shape = list(parts.shape)
    slot_shape[dim + 1] = 3
    slots = parts.new_full(slot_shape, NOTHING)  # what is read before, after, and nowhere
    if grows:
        slots.select(dim + 1, 0)[2] = BORDER
        slots.select(dim + 1, 1)[3] = BORDER
    padded = torch.cat([parts, slots], dim + 1)
    index = taps.clone()
    index[taps < 0] = size
    index[taps >= size] = size + 1
    index[taps == NO_TAP] = size + 2
    read = padded.index_select(dim + 1, index.reshape(-1))
    shape = [*parts.shape[: dim + 1], *index.shape, *parts.shape[dim + 2 :]]
    return Reach(read.reshape(shape).amin(dim + 1))


def reshape(reach: Reach, old: Sequence[int], new: Sequence[int]) -> Reach:
    """Return the reach of a value of shape `old` seen as shape `new`."""
    shape: list[int] = []
    parts = reach.parts
    for old_dims, new_dims in groups(old, new):
        if all(parts.shape[d + 1] == 1 for d in old_dims):
            shape += [1] * len(new_dims)
        else:
            parts = Reach(parts).expanded(old_dims, old).parts
            shape += [new[d] for d in new_dims]
    return Reach(parts.reshape(4, *shape))


def groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Return the smallest runs of axes of both shapes that hold the same elements."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        olds, news = [i] if i < len(old) else [], [j] if j < len(new) else []
        left = old[i] if olds else 1
        right = new[j] if news else 1
        i, j = i + len(olds), j + len(news)
        while left != right:
            if (left < right and i < len(old)) or j >= len(new):
                left, i = left * old[i], i + 1
                olds.append(i - 1)
            else:
                right, j = right * new[j], j + 1
                news.append(j - 1)
        groups.append((olds, news))
    return groups
