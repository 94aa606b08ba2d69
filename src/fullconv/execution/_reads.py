"""The windows of many boxes of units at once: what `Geometry.window` says, in arrays.

A step over scattered units has hundreds of windows, and compares thousands of boxes before it takes
those: one by one, that takes longer than to run them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

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


class Reads:
    """What the windows of boxes of units read, on images of one shape.

    Args:
        geometry: Geometry of the network, traced for this shape.
        shape: Shape of the image, in px per axis.
    """

    def __init__(self, geometry: Geometry, shape: tuple[int, ...]) -> None:
        self._axes = tuple(zip(geometry.axes, shape, strict=True))
        self._extremes = [_extremes(axis) for axis in geometry.axes]

    def __call__(self, blocks: Blocks) -> tuple[Ints, Ints]:
        """Return the first px that each window reads, and one past the last, `(axes, n)`."""
        spans = [
            _reads(axis, size, extremes, *ends)
            for (axis, size), extremes, *ends in zip(
                self._axes, self._extremes, blocks.lows, blocks.highs, strict=True
            )
        ]
        begins, ends = zip(*spans, strict=True)
        return np.stack(begins), np.stack(ends)

    def sides(self, blocks: Blocks) -> Ints:
        """Return the sides of the windows, in px, `(axes, n)`."""
        begins, ends = self(blocks)
        return ends - begins

    def windows(self, blocks: Blocks) -> list[Window]:
        """Return the windows."""
        begins, ends = self(blocks)
        periods = np.array([[axis.period] for axis, _ in self._axes])
        units = np.array([[axis.units] for axis, _ in self._axes])
        back = begins // periods * units
        owned, inside = (
            _boxes(blocks.lows, blocks.highs),
            _boxes(blocks.lows - back, blocks.highs - back),
        )
        found = zip(owned, _boxes(begins, ends), inside, strict=True)
        return [Window(units=u, reads=r, inside=i) for u, r, i in found]


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
