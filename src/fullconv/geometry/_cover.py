"""Covers: windows that own every chosen unit exactly once, and what they cost.

A grid is the product of one cut per axis, and so are the sides of its windows: everything here is
computed axis by axis, and a cover of a million windows is chosen without writing one down.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import ceil, prod

from fullconv.errors import FullconvError
from fullconv.geometry._axis import Axis
from fullconv.geometry._box import Box
from fullconv.geometry._geometry import Geometry, Window

# Ways to cut an axis that are compared; their block sizes grow geometrically beyond this many.
MAX_CUTS = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cut:
    """One axis cut into blocks of units: the longest window and all windows together, in px."""

    block: int
    longest: int
    total: int


def grid_cover(
    geometry: Geometry,
    shape: tuple[int, ...],
    *,
    max_window_px: int | None = None,
    multiples: tuple[int, ...] | None = None,
) -> tuple[Window, ...]:
    """Return the grid of windows that covers a whole map and reads the fewest pixels.

    Full-width strips read the fewest and are taken where they fit; boxes otherwise.

    Args:
        geometry: Geometry of the network, traced for this shape.
        shape: Shape of the image, in px per axis.
        max_window_px: Most pixels that one window may read; None for one window.
        multiples: Of how many units windows own a multiple along each axis, or all of it, so that
            what is written never shares a chunk; None for whole periods.

    Raises:
        FullconvError: If not even the smallest windows fit; the message says the least that does.
    """
    if max_window_px is None:
        return grid_of(geometry, shape, geometry.map_shape(shape))
    return grid_of(geometry, shape, grid_blocks(geometry, shape, max_window_px, multiples))


def grid_of(
    geometry: Geometry, shape: tuple[int, ...], blocks: tuple[int, ...]
) -> tuple[Window, ...]:
    """Return the grid of windows that own blocks of so many units, the last ones along an axis less."""
    map_shape = geometry.map_shape(shape)
    grid = (range(-(-m // b)) for m, b in zip(map_shape, blocks, strict=True))
    return tuple(
        geometry.window(block_at(place, blocks, map_shape), shape) for place in product(*grid)
    )


def block_at(place: tuple[int, ...], blocks: tuple[int, ...], map_shape: tuple[int, ...]) -> Box:
    """Return the units of a block of a grid, given its place, the blocks' sides and the map's."""
    start = tuple(p * b for p, b in zip(place, blocks, strict=True))
    stop = tuple(min(s + b, m) for s, b, m in zip(start, blocks, map_shape, strict=True))
    return Box(start=start, stop=stop)


def band_units(
    geometry: Geometry, shape: tuple[int, ...], most: int, step: int | None = None
) -> int | None:
    """Return how many units bands own along the last axis, the others uncut; None if that won't do.

    Args:
        geometry: Geometry of the network, traced for this shape.
        shape: Shape of the image, in px per axis.
        most: Most pixels of a band's window along the last axis.
        step: Of how many units bands own a multiple; None for whole periods.
    """
    if most >= shape[-1]:
        return geometry.map_shape(shape)[-1]
    if len(shape) == 1:
        return None  # the only axis is the one that is run down
    cuts = _cuts(geometry.axes[-1], shape[-1], step or _periods(geometry)[-1])
    return next((cut.block for cut in cuts if cut.longest <= most), None)


@lru_cache(maxsize=64)
def least_window(
    geometry: Geometry, shape: tuple[int, ...], multiples: tuple[int, ...] | None = None
) -> tuple[int, ...]:
    """Return the sides, in px, of the largest of the smallest windows that cover an image."""
    steps = multiples or _periods(geometry)
    finest = (
        min(_cuts(axis, size, step), key=lambda cut: cut.longest)
        for axis, size, step in zip(geometry.axes, shape, steps, strict=True)
    )
    return tuple(cut.longest for cut in finest)


def cover_px(cover: tuple[Window, ...]) -> int:
    """Return the pixels that a cover reads, halos counted as often as they are read."""
    return sum(window.reads.size for window in cover)


def _periods(geometry: Geometry) -> tuple[int, ...]:
    return tuple(axis.units for axis in geometry.axes)


def grid_blocks(
    geometry: Geometry, shape: tuple[int, ...], most: int, multiples: tuple[int, ...] | None = None
) -> tuple[int, ...]:
    """Return the block of units whose grid reads the fewest pixels, with windows of at most `most` px.

    Raises:
        FullconvError: As `grid_cover` does.
    """
    steps = multiples or _periods(geometry)
    cuts = [
        _cuts(axis, size, step)
        for axis, size, step in zip(geometry.axes, shape, steps, strict=True)
    ]
    grids = [g for g in product(*cuts) if prod(cut.longest for cut in g) <= most]
    if not grids:
        least = prod(least_window(geometry, shape, steps))
        raise FullconvError(
            f"`max_window_px` must be at least {least}, the smallest window on an image of shape "
            f"{tuple(shape)}, got {most}"
        )
    best = min(grids, key=lambda g: (prod(cut.total for cut in g), -g[-1].block))
    return tuple(cut.block for cut in best)


@lru_cache(maxsize=256)
def _cuts(axis: Axis, size: int, step: int) -> tuple[_Cut, ...]:
    """Return ways to cut an axis into equal blocks of multiples of `step` units, coarsest first."""
    return tuple(_cut(axis, size, block) for block in _block_sizes(axis.map_size(size), step))


def _block_sizes(map_size: int, step: int) -> Iterator[int]:
    last = None
    for count in _counts(ceil(map_size / step)):
        block = ceil(ceil(map_size / count) / step) * step
        if block != last:
            yield block
        last = block


def _cut(axis: Axis, size: int, block: int) -> _Cut:
    lengths, alike, length = _lengths(axis, size, block)
    total = sum(lengths) + alike * length
    return _Cut(block=block, longest=max(*lengths, length), total=total)


def _lengths(axis: Axis, size: int, block: int) -> tuple[list[int], int, int]:
    """Return the lengths of the windows of a cut: those near the ends, and of the others how many.

    Far from both ends, windows of blocks of whole periods are all alike.
    """
    map_size = axis.map_size(size)
    count = ceil(map_size / block)

    def length(number: int) -> int:
        start, stop = axis.reads(number * block, min((number + 1) * block, map_size), size)
        return stop - start

    entry = axis.legal[size % axis.period]
    shortest = max(entry[0] if entry else size, axis.shortest, *axis.borders)
    near = ceil((shortest + axis.field + 3 * axis.period) * axis.stride**-1 / block) + 1
    if block % axis.units or count <= 2 * near + 1:
        return [length(number) for number in range(count)], 0, 0
    ends = [*range(near), *range(count - near, count)]
    return [length(number) for number in ends], count - len(ends), length(near)


def _counts(most: int) -> Iterator[int]:
    """Yield the numbers of blocks to try: all small ones, then growing ones, and the most."""
    count = 1
    while count < most:
        yield count
        count += max(1, count * 4 // MAX_CUTS)
    yield most
