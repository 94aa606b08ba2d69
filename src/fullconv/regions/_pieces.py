"""An array gone through piece by piece, and chunks that are kept for the neighbours of what was read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import prod
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.geometry import Box
from fullconv.regions._array import LazyArray

# Numbers of a piece, if chunks are not larger.
PIECE = 2**22
# Chunks of fewer numbers are rows of uncompressed files: there is nothing to gain by keeping them.
LEAST_KEPT = 2**12


def pieces(array: LazyArray, most: int = PIECE) -> Iterator[Box]:
    """Yield boxes of whole chunks that make up an array, each of about `most` numbers at most."""
    sides = [min(c, n) for c, n in zip(array.chunks, array.shape, strict=True)]
    for k in reversed(range(len(sides))):
        while 2 * prod(sides) <= most and sides[k] < array.shape[k]:
            sides[k] *= 2
    yield from _grid(array.shape, tuple(sides))


def _grid(shape: tuple[int, ...], sides: tuple[int, ...]) -> Iterator[Box]:
    for start in product(*(range(0, n, s) for n, s in zip(shape, sides, strict=True))):
        stop = tuple(min(a + s, n) for a, s, n in zip(start, sides, shape, strict=True))
        yield Box(start=start, stop=stop)


def sharing(array: LazyArray, num_bytes: int) -> LazyArray:
    """Return an array that keeps the chunks it has read last, so that neighbours share them.

    Args:
        array: The array.
        num_bytes: That chunks may take.
    """
    if prod(array.chunks) < LEAST_KEPT or array.chunk_bytes > num_bytes:
        return array
    return replace(array, read=_Kept(array, num_bytes))


class _Kept:
    """Reads boxes chunk by chunk, and keeps the chunks that were used last."""

    def __init__(self, array: LazyArray, num_bytes: int) -> None:
        self._array = array
        self._most = max(1, num_bytes // array.chunk_bytes)
        self._chunks: OrderedDict[tuple[int, ...], npt.NDArray[Any]] = OrderedDict()
        self._lock = Lock()

    def __call__(self, box: Box) -> npt.NDArray[Any]:
        """Return a box."""
        array = self._array
        found = np.empty(box.shape, array.dtype)
        grid = (
            range(a // c, -(-b // c))
            for a, b, c in zip(box.start, box.stop, array.chunks, strict=True)
        )
        for place in product(*grid):
            start = tuple(p * c for p, c in zip(place, array.chunks, strict=True))
            stop = tuple(
                min(a + c, n) for a, c, n in zip(start, array.chunks, array.shape, strict=True)
            )
            low = tuple(map(max, start, box.start))
            high = tuple(map(min, stop, box.stop))
            part = Box(start=low, stop=high)
            inside = part.shifted(tuple(-a for a in start)).slices
            target = part.shifted(tuple(-a for a in box.start)).slices
            found[target] = self._chunk(place, Box(start=start, stop=stop))[inside]
        return found

    def _chunk(self, place: tuple[int, ...], box: Box) -> npt.NDArray[Any]:
        with self._lock:
            if place in self._chunks:
                self._chunks.move_to_end(place)
                return self._chunks[place]
        chunk = self._array.read(box)
        with self._lock:
            self._chunks[place] = chunk
            while len(self._chunks) > self._most:
                self._chunks.popitem(last=False)
        return chunk
