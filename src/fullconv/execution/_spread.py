"""Where the chosen units of a map lie, for the search of covers: on a mask, or in boxes.

A mask has a number for each unit of the map. Boxes take no memory to speak of, however large the map
is; they may overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fullconv.execution._reads import Blocks, Ints
from fullconv.geometry import Box

NOWHERE = np.iinfo(np.int64).max


class Spread(Protocol):
    """Where the chosen units of a map lie."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the map."""
        ...

    @property
    def count(self) -> int:
        """How many there are at most."""
        ...

    def any(self) -> bool:
        """Return whether there is one."""
        ...

    def cells(self, blocks: Sequence[int], grid: tuple[int, ...]) -> Ints:
        """Return the places of the blocks of a grid that hold one, in order, `(axes, n)`."""
        ...

    def leaves(self, blocks: Sequence[int], grid: tuple[int, ...]) -> tuple[Ints, Ints]:
        """Return the tight box of those in each block of a grid, as first and past the last.

        Args:
            blocks: Sides of a block, in units.
            grid: Blocks along each axis.

        Returns:
            Arrays `(axes, *grid)`; where there is none, the second one is 0.
        """
        ...

    def each(self) -> Blocks:
        """Return a box for each of them, in order."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """Chosen units as a boolean map."""

    chosen: NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the map."""
        return self.chosen.shape

    @property
    def count(self) -> int:
        """How many there are."""
        return int(np.count_nonzero(self.chosen))

    def any(self) -> bool:
        """Return whether there is one."""
        return bool(self.chosen.any())

    def cells(self, blocks: Sequence[int], grid: tuple[int, ...]) -> Ints:
        """Return the places of the blocks of a grid that hold one, in order, `(axes, n)`."""
        inner = tuple(2 * k + 1 for k in range(len(grid)))
        return np.stack(np.nonzero(self._blocked(blocks, grid).any(inner)))

    def leaves(self, blocks: Sequence[int], grid: tuple[int, ...]) -> tuple[Ints, Ints]:
        """Return the tight box of those in each block of a grid, as first and past the last."""
        inner = tuple(2 * k + 1 for k in range(len(grid)))
        cells = self._blocked(blocks, grid)
        lows = np.full((len(grid), *grid), NOWHERE)
        highs = np.zeros_like(lows)
        for k, block in enumerate(blocks):
            # Which of the block's places along this axis hold a chosen unit.
            others = tuple(j for j in inner if j != 2 * k + 1)
            hit = np.moveaxis(np.asarray(cells.any(others)), k + 1, -1)
            there = hit.any(-1)
            start = np.indices(grid, sparse=True)[k] * block
            lows[k] = np.where(there, start + hit.argmax(-1), lows[k])
            highs[k] = np.where(there, start + block - hit[..., ::-1].argmax(-1), 0)
        return lows, highs

    def each(self) -> Blocks:
        """Return a box for each of them, in order."""
        # Many times as fast as `nonzero` of several axes, where few are chosen.
        places = np.stack(np.unravel_index(np.flatnonzero(self.chosen), self.shape))
        return Blocks(places, places + 1)

    def _blocked(self, blocks: Sequence[int], grid: tuple[int, ...]) -> NDArray[np.bool_]:
        """Return the map cut into blocks, `(grid[0], blocks[0], grid[1], ...)`."""
        ends = [(0, g * b - m) for m, g, b in zip(self.shape, grid, blocks, strict=True)]
        sides = [n for pair in zip(grid, blocks, strict=True) for n in pair]
        padded = np.pad(self.chosen, ends) if any(end for _, end in ends) else self.chosen
        return padded.reshape(sides)


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Chosen units as boxes, `(n, axes)` firsts and past the lasts."""

    shape: tuple[int, ...]
    lows: Ints
    highs: Ints

    @staticmethod
    def of(boxes: Sequence[Box], shape: tuple[int, ...]) -> Boxes:
        """Return the units of some boxes of a map of that shape; empty boxes have none."""
        full = [box for box in boxes if box.size]
        size = (len(full), len(shape))
        lows = np.array([b.start for b in full], np.int64).reshape(size)
        return Boxes(shape, lows, np.array([b.stop for b in full], np.int64).reshape(size))

    @property
    def count(self) -> int:
        """How many there are, those in several boxes counted in each."""
        return int((self.highs - self.lows).prod(1).sum())

    def any(self) -> bool:
        """Return whether there is one."""
        return len(self.lows) > 0

    def meeting(self, box: Box) -> NDArray[np.intp]:
        """Return the positions of the boxes that meet a box."""
        hit = (self.lows < np.array(box.stop)) & (self.highs > np.array(box.start))
        return np.flatnonzero(hit.all(1))

    def cells(self, blocks: Sequence[int], grid: tuple[int, ...]) -> Ints:
        """Return the places of the blocks of a grid that hold one, in order, `(axes, n)`."""
        del grid
        sides = np.array(blocks)
        return _places(self.lows // sides, (self.highs - 1) // sides + 1)

    def leaves(self, blocks: Sequence[int], grid: tuple[int, ...]) -> tuple[Ints, Ints]:
        """Return the tight box of those in each block of a grid, as first and past the last."""
        lows = np.full((len(grid), *grid), NOWHERE)
        highs = np.zeros_like(lows)
        sides = np.array(blocks)
        for low, high in zip(self.lows, self.highs, strict=True):
            first, last = low // sides, (high - 1) // sides
            for place in product(*(range(a, b + 1) for a, b in zip(first, last, strict=True))):
                begin = np.array(place) * sides
                at = (slice(None), *place)
                lows[at] = np.minimum(lows[at], np.maximum(low, begin))
                highs[at] = np.maximum(highs[at], np.minimum(high, begin + sides))
        return lows, highs

    def each(self) -> Blocks:
        """Return a box for each of them, in order."""
        places = _places(self.lows, self.highs)
        return Blocks(places, places + 1)


def _places(lows: Ints, highs: Ints) -> Ints:
    """Return the places that lie in one box at least, each once, in order, `(axes, n)`."""
    places = {
        place
        for low, high in zip(lows.tolist(), highs.tolist(), strict=True)
        for place in product(*map(range, low, high))
    }
    return np.array(sorted(places), int).reshape(-1, lows.shape[1]).T
