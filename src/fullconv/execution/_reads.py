"""The windows of many boxes of units at once: what `Geometry.window` says, in arrays.

A step over scattered units has hundreds of windows, and compares thousands of boxes before it takes
those: one by one, that takes longer than to run them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from fullconv.geometry import Axis, Box, Geometry, Window

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Boxes of units: the first of each and one past the last, `(axes, n)`."""

    lows: Ints
    highs: Ints

    def __len__(self) -> int:
        return self.lows.shape[1]


@dataclass(frozen=True, slots=True, eq=False)
class Cover:
    """Windows that own boxes of units, one each, as arrays.

    Attributes:
        blocks: The boxes.
        begins: The first px that each window reads, `(axes, n)`.
        ends: One past the last.
        back: Units of the whole map before the first of each window's own.
    """

    blocks: Blocks
    begins: Ints
    ends: Ints
    back: Ints

    def __len__(self) -> int:
        return len(self.blocks)

    @staticmethod
    def nowhere(axes: int) -> Cover:
        """Return no window at all."""
        none = np.empty((axes, 0), np.int64)
        return Cover(Blocks(none, none), none, none, none)

    @staticmethod
    def whole(shape: tuple[int, ...], map_shape: tuple[int, ...]) -> Cover:
        """Return one window: an image of a shape, with all units of its map."""
        start = np.zeros((len(shape), 1), np.int64)
        units = Blocks(start, np.array(map_shape)[:, None])
        return Cover(units, start, np.array(shape)[:, None], start)

    @property
    def sides(self) -> Ints:
        """The sides of the windows, in px, `(axes, n)`."""
        return self.ends - self.begins

    @property
    def are_single(self) -> bool:
        """Whether each window is there for one unit."""
        return bool((self.blocks.highs - self.blocks.lows == 1).all())

    def shapes(self) -> tuple[Ints, Ints, Ints]:
        """Return the different shapes `(axes, k)`, how many windows each has, and which each window has."""
        sides = self.sides
        if (sides == sides[:, :1]).all():
            return sides[:, :1], np.array([len(self)]), np.zeros(len(self), np.int64)
        # Many times as fast as `unique` of several axes.
        codes = np.ravel_multi_index(tuple(sides), tuple(sides.max(1) + 1))
        _, first, which, counts = np.unique(codes, True, True, True)
        return sides[:, first], counts, which

    def __getitem__(self, which: slice | NDArray[np.intp]) -> Cover:
        """Return some of the windows."""
        lows, highs = self.blocks.lows[:, which], self.blocks.highs[:, which]
        at = (slice(None), which)
        return Cover(Blocks(lows, highs), self.begins[at], self.ends[at], self.back[at])

    def by_shape(self) -> list[Cover]:
        """Return the windows of each shape."""
        _, counts, which = self.shapes()
        return [self[np.flatnonzero(which == number)] for number in range(len(counts))]

    def windows(self) -> list[Window]:
        """Return the windows, one by one."""
        blocks, back = self.blocks, self.back
        owned, inside = (
            _boxes(blocks.lows, blocks.highs),
            _boxes(blocks.lows - back, blocks.highs - back),
        )
        found = zip(owned, _boxes(self.begins, self.ends), inside, strict=True)
        return [Window(units=u, reads=r, inside=i) for u, r, i in found]


class Reads:
    """What the windows of boxes of units read, on images of one shape.

    Args:
        geometry: Geometry of the network, traced for this shape.
        shape: Shape of the image, in px per axis.
    """

    def __init__(self, geometry: Geometry, shape: tuple[int, ...]) -> None:
        self._axes = tuple(zip(geometry.axes, shape, strict=True))
        self._extremes = [_extremes(axis) for axis in geometry.axes]
        self._periods = np.array([[axis.period] for axis in geometry.axes])
        self._units = np.array([[axis.units] for axis in geometry.axes])
        self._map_shape = geometry.map_shape(shape)

    def __call__(self, blocks: Blocks) -> Cover:
        """Return the smallest windows that compute these boxes of units exactly."""
        spans = [
            _reads(axis, size, extremes, *ends)
            for (axis, size), extremes, *ends in zip(
                self._axes, self._extremes, blocks.lows, blocks.highs, strict=True
            )
        ]
        return self._with_back(blocks, spans)

    @cached_property
    def smallest(self) -> Ints:
        """The sides of the smallest window that there is, `(axes, 1)`: of a unit at an end of the image."""
        ends = np.stack([np.zeros(len(self._axes), np.int64), np.array(self._map_shape) - 1], 1)
        return self(Blocks(ends, ends + 1)).sides.min(1, keepdims=True)

    def alike(self, cover: Cover) -> Cover:
        """Return windows of the same boxes of units that are all of one shape, so that they run at once.

        Those at the image's ends, which reads less there, read further into the image.
        """
        spans = [
            _alike(axis, size, *ends)
            for (axis, size), *ends in zip(self._axes, cover.begins, cover.ends, strict=True)
        ]
        return self._with_back(cover.blocks, spans)

    def _with_back(self, blocks: Blocks, spans: list[tuple[Ints, Ints]]) -> Cover:
        begins, ends = (np.stack(each) for each in zip(*spans, strict=True))
        return Cover(blocks, begins, ends, begins // self._periods * self._units)


def _boxes(lows: Ints, highs: Ints) -> list[Box]:
    pairs = zip(lows.T.tolist(), highs.T.tolist(), strict=True)
    return [Box(start=tuple(a), stop=tuple(b)) for a, b in pairs]


def _reads(
    axis: Axis, size: int, extremes: tuple[Ints, Ints], start: Ints, stop: Ints
) -> tuple[Ints, Ints]:
    """Return what `Axis.reads` does, for arrays of units."""
    units, period = axis.units, axis.period
    count = np.minimum(stop - start, units) - 1
    firsts, lasts = extremes
    first = firsts[count, start % units] + start // units * period
    last = lasts[count, (stop - 1) % units] + (stop - 1) // units * period
    begin = np.maximum(0, first // period * period)
    end = np.minimum(size, last + (size - last) % period)
    entry = axis.legal[size % period]
    needed = np.full_like(begin, max(entry[0] if entry else size, axis.shortest))
    needed = np.maximum(needed, np.where(begin == 0, axis.borders[0], 0))
    needed = np.maximum(needed, np.where(end == size, axis.borders[1], 0))
    needed = needed + (size - needed) % period
    end = np.minimum(size, np.maximum(end, begin + needed))
    return np.minimum(begin, np.maximum(0, end - needed) // period * period), end


def _alike(axis: Axis, size: int, begins: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """Return windows along an axis grown, by whole periods, until they are all of one length.

    Lengths, like the image's, are of one residue modulo the period, so that a window that ends with the
    image may begin any window's length before it.
    """
    side = int((ends - begins).max())
    if (begins + side >= size).any():  # one that comes to a border holds what that needs
        needed = max(side, *axis.borders)
        side = min(size, needed + (size - needed) % axis.period)
    grown = np.minimum(begins + side, size)
    return grown - side, grown


@cache
def _extremes(axis: Axis) -> tuple[Ints, Ints]:
    """Return the first px of units in a row, by their number and the first's phase; and the last px.

    Both `(units, units)`: of 1, 2, ... units that begin at a phase, and of as many that end at it.
    """
    units, period = axis.units, axis.period
    turns = np.arange(2 * units) // units * period
    first = np.tile([p.first for p in axis.phases], 2) + turns
    last = np.tile([p.last for p in axis.phases], 2) + turns - period
    places, counts = np.arange(units), np.arange(units)[:, None]
    firsts = np.minimum.accumulate(first[places + counts], axis=0)
    lasts = np.maximum.accumulate(last[units + places - counts], axis=0)
    return firsts, lasts
