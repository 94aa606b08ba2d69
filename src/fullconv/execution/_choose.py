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
from math import ceil

import numpy as np
from numpy.typing import NDArray

from fullconv.execution._reads import Blocks, Ints, Reads
from fullconv.execution._spread import NOWHERE, Spread
from fullconv.geometry import Axis, Geometry

Floats = NDArray[np.float64]
# The price of windows by their sides, `(axes, n)`; infinite for those that do not fit.
Price = Callable[[Ints], Floats]

# A block's side is at most this share of the field: what it joins is always cheaper joined.
BLOCK = 1 / 8
# Planning must take next to no time; a block then holds units that might be cheaper apart.
MOST_LEAVES = 2**12
# The tree never sees neighbours across its cuts; as few boxes as this are compared in pairs too.
MOST_PAIRED = 48


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


def cheapest_blocks(geometry: Geometry, reads: Reads, chosen: Spread, price: Price) -> Blocks:
    """Return disjoint boxes of units that hold every chosen unit, at the least price.

    Args:
        geometry: Geometry of the network, traced for the image.
        reads: What windows on the image read.
        chosen: The chosen units; at least one.
        price: Of windows by their sides.
    """

    def price_of(lows: Ints, highs: Ints) -> Floats:
        return price(reads(Blocks(lows, highs)).sides)

    levels = [_leaves(geometry, chosen, price_of)]
    while levels[-1].price.size > 1:
        grid = levels[-1].price.shape
        axis = max(range(len(grid)), key=lambda k: (grid[k], k))
        levels.append(_joined(levels[-1], axis, price_of))
    found = _opened(levels)
    return _paired(found, price_of) if len(found) <= MOST_PAIRED else found


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
    lows, highs, split = below.lows, below.highs, below.price
    if split.shape[axis] % 2:  # the last one is joined with a node in which nothing is chosen
        width = [(0, int(k == axis)) for k in range(split.ndim)]
        lows = np.pad(lows, [(0, 0), *width], constant_values=NOWHERE)
        highs, split = np.pad(highs, [(0, 0), *width]), np.pad(split, width)
    first, second = ([slice(None)] * split.ndim for _ in range(2))
    first[axis], second[axis] = slice(0, None, 2), slice(1, None, 2)
    one, two = tuple(first), tuple(second)
    lows = np.minimum(lows[:, *one], lows[:, *two])
    highs = np.maximum(highs[:, *one], highs[:, *two])
    split = split[one] + split[two]
    own = _own(lows, highs, price_of)
    return _Level(lows, highs, np.minimum(own, split), own <= split, axis)


def _opened(levels: list[_Level]) -> Blocks:
    """Return the boxes of the nodes that are covered by one window, from the root down."""
    lows: list[Ints] = []
    highs: list[Ints] = []
    asked = np.ones(levels[-1].price.shape, np.bool_)
    for position in range(len(levels) - 1, -1, -1):
        level = levels[position]
        taken = asked & level.joined & (level.highs[0] > 0)
        lows.append(level.lows[:, taken])
        highs.append(level.highs[:, taken])
        if position:
            below = levels[position - 1].price.shape
            asked = np.repeat(asked & ~level.joined, 2, level.axis)
            asked = asked[tuple(slice(0, size) for size in below)]
    return Blocks(np.concatenate(lows, 1), np.concatenate(highs, 1))


def _paired(found: Blocks, price_of: Callable[[Ints, Ints], Floats]) -> Blocks:
    """Return the boxes with those joined that are cheaper as one, the best pair first."""
    lows, highs = found.lows, found.highs
    while lows.shape[1] > 1:
        i, j = np.triu_indices(lows.shape[1], 1)
        joined_lows = np.minimum(lows[:, i], lows[:, j])
        joined_highs = np.maximum(highs[:, i], highs[:, j])
        each = price_of(lows, highs)
        gain = each[i] + each[j] - price_of(joined_lows, joined_highs)
        # What else the joined box meets would be owned twice: it must not.
        meets = (joined_lows[:, :, None] < highs[:, None]) & (
            lows[:, None] < joined_highs[:, :, None]
        )
        gain[meets.all(0).sum(1) > 2] = -np.inf
        best = int(np.argmax(gain))
        if not gain[best] > 0:
            break
        rest = np.delete(np.arange(lows.shape[1]), [i[best], j[best]])
        lows = np.concatenate([lows[:, rest], joined_lows[:, best, None]], 1)
        highs = np.concatenate([highs[:, rest], joined_highs[:, best, None]], 1)
    return Blocks(lows, highs)
