"""Covers of chosen units: the cheapest windows that own each of them once.

Between one window per unit and one window for all lie the covers that merge units whose fields
overlap. They are searched for in a tree: the map is cut into small blocks, neighbouring blocks are
joined two by two, along one axis after the other, until one node holds the whole map; from the
leaves up, each node keeps the cheaper of two ways, one window over its chosen units, or the best of
its two halves. All nodes of a level are priced at once, as arrays of integers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import ceil

import numpy as np
from numpy.typing import NDArray

from fullconv.execution._spread import Spread
from fullconv.geometry import Axis, Box, Geometry

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
# The price of windows by their sides, one array per axis; infinite for those that do not fit.
Price = Callable[[list[Ints]], Floats]

# A block's side is at most this share of the field: what it joins is always cheaper joined.
BLOCK = 1 / 8
# Planning must take next to no time; a block then holds units that might be cheaper apart.
MOST_LEAVES = 2**14
# The tree never sees neighbours across its cuts; as few boxes as this are compared in pairs too.
MOST_PAIRED = 48


@dataclass(frozen=True, slots=True)
class _Reads:
    """`Axis.reads` for arrays of boxes; for boxes shorter than a period, what it reads or more."""

    axis: Axis
    size: int

    def __call__(self, start: Ints, stop: Ints) -> Ints:
        """Return how many px the windows of units `[start, stop)` read."""
        axis, size = self.axis, self.size
        units, period = axis.units, axis.period
        firsts, lasts = _extremes(axis)
        first = firsts[start % units] + start // units * period
        last = lasts[(stop - 1) % units] + (stop - 1) // units * period
        begin = np.maximum(0, first // period * period)
        end = np.minimum(size, last + (size - last) % period)
        entry = axis.legal[size % period]
        needed = np.full_like(begin, max(entry[0] if entry else size, axis.shortest))
        needed = np.maximum(needed, np.where(begin == 0, axis.borders[0], 0))
        needed = np.maximum(needed, np.where(end == size, axis.borders[1], 0))
        needed = needed + (size - needed) % period
        end = np.minimum(size, np.maximum(end, begin + needed))
        begin = np.minimum(begin, np.maximum(0, end - needed) // period * period)
        return end - begin


@cache
def _extremes(axis: Axis) -> tuple[Ints, Ints]:
    """Return for each phase the first px of the period that it begins, and the last of the one it ends."""
    units, period = axis.units, axis.period
    turns = np.arange(-units, 2 * units) // units * period
    first = np.tile([p.first for p in axis.phases], 3) + turns
    last = np.tile([p.last for p in axis.phases], 3) + turns
    firsts = [first[units + r : 2 * units + r].min() for r in range(units)]
    lasts = [last[r + 1 : units + r + 1].max() for r in range(units)]
    return np.array(firsts), np.array(lasts)


@dataclass(slots=True)
class _Level:
    """The nodes of one level of the tree: the tight box of each one's chosen units, and its price.

    Attributes:
        lows: First chosen unit along each axis, `(axes, *grid)`.
        highs: One past the last; 0 where nothing is chosen.
        price: Of the cheapest cover of the node's units.
        joined: Whether that is one window.
        axis: The axis along which two nodes of the level below were joined; -1 for the leaves.
    """

    lows: Ints
    highs: Ints
    price: Floats
    joined: NDArray[np.bool_]
    axis: int = -1


def cheapest_boxes(
    geometry: Geometry, shape: tuple[int, ...], chosen: Spread, price: Price
) -> list[Box]:
    """Return disjoint boxes of units that hold every chosen unit, at the least price.

    Args:
        geometry: Geometry of the network, traced for this shape.
        shape: Shape of the image, in px per axis.
        chosen: The chosen units; at least one.
        price: Of windows by their sides.
    """
    reads = [_Reads(axis, size) for axis, size in zip(geometry.axes, shape, strict=True)]

    def price_of(lows: Ints, highs: Ints) -> Floats:
        return price([r(a, b) for r, a, b in zip(reads, lows, highs, strict=True)])

    levels = [_leaves(geometry, chosen, price_of)]
    while levels[-1].price.size > 1:
        grid = levels[-1].price.shape
        axis = max(range(len(grid)), key=lambda k: (grid[k], k))
        levels.append(_joined(levels[-1], axis, price_of))
    boxes = _opened(levels)
    return _paired(boxes, price_of) if len(boxes) <= MOST_PAIRED else boxes


def _leaves(geometry: Geometry, chosen: Spread, price_of: Callable[[Ints, Ints], Floats]) -> _Level:
    blocks = _blocks(geometry, chosen.shape)
    grid = tuple(ceil(m / b) for m, b in zip(chosen.shape, blocks, strict=True))
    lows, highs = chosen.leaves(blocks, grid)
    return _Level(lows, highs, _own(lows, highs, price_of), np.ones(grid, np.bool_))


def _blocks(geometry: Geometry, map_shape: tuple[int, ...]) -> list[int]:
    """Return the sides of a block, in units: larger ones where there would be too many."""
    blocks = [_block(axis) for axis in geometry.axes]
    while (
        np.prod(grid := [ceil(m / b) for m, b in zip(map_shape, blocks, strict=True)]) > MOST_LEAVES
    ):
        blocks[grid.index(max(grid))] *= 2
    return blocks


def _block(axis: Axis) -> int:
    """Return the side of a block in units: whole periods, a small share of the field."""
    periods = max(1, int(axis.field * BLOCK) // axis.period)
    return periods * axis.units


def _own(lows: Ints, highs: Ints, price_of: Callable[[Ints, Ints], Floats]) -> Floats:
    """Return the price of one window for each node; 0 for those without chosen units."""
    there = highs[0] > 0
    found = np.zeros(there.shape)
    if there.any():
        found[there] = price_of(lows[:, there], highs[:, there])
    return found


def _joined(below: _Level, axis: int, price_of: Callable[[Ints, Ints], Floats]) -> _Level:
    odd = below.price.shape[axis] % 2
    width = [(0, odd if k == axis else 0) for k in range(below.price.ndim)]
    lows = np.pad(below.lows, [(0, 0), *width], constant_values=np.iinfo(np.int64).max)
    highs = np.pad(below.highs, [(0, 0), *width])
    split = np.pad(below.price, width)
    first, second = ([slice(None)] * split.ndim for _ in range(2))
    first[axis], second[axis] = slice(0, None, 2), slice(1, None, 2)
    one, two = tuple(first), tuple(second)
    lows = np.minimum(lows[:, *one], lows[:, *two])
    highs = np.maximum(highs[:, *one], highs[:, *two])
    split = split[one] + split[two]
    own = _own(lows, highs, price_of)
    return _Level(lows, highs, np.minimum(own, split), own <= split, axis)


def _opened(levels: list[_Level]) -> list[Box]:
    """Return the boxes of the nodes that are covered by one window, from the root down."""
    boxes: list[Box] = []
    asked = np.ones(levels[-1].price.shape, np.bool_)
    for position in range(len(levels) - 1, -1, -1):
        level = levels[position]
        taken = asked & level.joined & (level.highs[0] > 0)
        pairs = zip(level.lows[:, taken].T.tolist(), level.highs[:, taken].T.tolist(), strict=True)
        boxes += [Box(start=tuple(a), stop=tuple(b)) for a, b in pairs]
        if position:
            below = levels[position - 1].price.shape
            asked = np.repeat(asked & ~level.joined, 2, level.axis)
            asked = asked[tuple(slice(0, size) for size in below)]
    return boxes


def _paired(boxes: list[Box], price_of: Callable[[Ints, Ints], Floats]) -> list[Box]:
    """Return the boxes with those joined that are cheaper as one, the best pair first."""
    while len(boxes) > 1:
        lows = np.array([b.start for b in boxes]).T
        highs = np.array([b.stop for b in boxes]).T
        i, j = np.triu_indices(len(boxes), 1)
        joined_lows, joined_highs = (
            np.minimum(lows[:, i], lows[:, j]),
            np.maximum(highs[:, i], highs[:, j]),
        )
        each = price_of(lows, highs)
        gain = each[i] + each[j] - price_of(joined_lows, joined_highs)
        # What else the joined box meets would be owned twice: it must not.
        meets = np.ones((len(i), len(boxes)), np.bool_)
        for k in range(len(lows)):
            meets &= (joined_lows[k, :, None] < highs[k]) & (lows[k] < joined_highs[k, :, None])
        gain[meets.sum(1) > 2] = -np.inf
        best = int(np.argmax(gain))
        if not gain[best] > 0:
            break
        joined = Box(
            start=tuple(joined_lows[:, best].tolist()), stop=tuple(joined_highs[:, best].tolist())
        )
        boxes = [b for n, b in enumerate(boxes) if n not in (i[best], j[best])] + [joined]
    return boxes
