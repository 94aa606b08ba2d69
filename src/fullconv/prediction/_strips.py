"""The rows of a window, read and written in whole chunks while the network runs down them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.errors import BadDataError
from fullconv.execution import ahead
from fullconv.geometry import Box
from fullconv.prediction._plan import strip_rows
from fullconv.regions import LazyArray

Made = dict[str, npt.NDArray[Any]]


class Strips:
    """Part of an image, whose rows are asked for once and in order; whole chunks are read ahead.

    Args:
        image: `(channels, *spatial)`.
        part: Which px.
        rows: Rows that are asked for at a time.
        nodata: The value that says that a px has no data; None if there is none.
    """

    def __init__(self, image: LazyArray, part: Box, rows: int, nodata: float | None) -> None:
        self.shape = image.shape
        self._coming = ahead(_strips(part, strip_rows(image, rows)), lambda b: read_box(image, b))
        self._held: list[tuple[int, npt.NDArray[Any]]] = []
        self._part, self._nodata = part, nodata
        self._without: list[tuple[int, npt.NDArray[np.bool_]]] = []

    def __getitem__(self, place: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Return the next rows, `(channels, rows, ...)`."""
        start, stop = place[1].start, place[1].stop
        while not self._held or self._held[-1][0] + self._held[-1][1].shape[1] < stop:
            box, pixels = next(self._coming)
            self._held.append((box.start[0], pixels))
        found = _rows(self._held, start, stop, axis=1)
        self._held = [(a, p) for a, p in self._held if a + p.shape[1] > stop]
        if self._nodata is not None:
            self._without.append((start, without_data(found, self._nodata)))
        return found

    def nothing(self, units: Box) -> npt.NDArray[np.bool_] | None:
        """Return which units have no data, where each is a px; those before are forgotten."""
        if self._nodata is None:
            return None
        first, last = units.start[0], units.stop[0]
        found = _rows(self._without, first, last, axis=0)
        self._without = [(a, w) for a, w in self._without if a + len(w) > last]
        inner = units.shifted(tuple(-a for a in self._part.start)).slices[1:]
        return found[(slice(None), *inner)]


def in_chunks(pieces: Iterator[tuple[Box, Made]], rows: int) -> Iterator[tuple[Box, Made]]:
    """Yield pieces that follow each other down a window as pieces of whole rows of chunks.

    Args:
        pieces: Boxes of units as wide as the window, and what is made of each.
        rows: Units of a chunk along the first axis. The first piece begins with a chunk.
    """
    held: list[tuple[Box, Made]] = []
    for units, made in pieces:
        held.append((units, made))
        while (end := held[-1][0].stop[0]) // rows > held[0][0].start[0] // rows:
            cut = end // rows * rows
            yield _joined(held, cut)
            held = _behind(held, cut)
            if not held:
                break
    if held:
        yield _joined(held, held[-1][0].stop[0])


def read_box(image: LazyArray, box: Box) -> npt.NDArray[Any]:
    """Return a box of an image, `(channels, *box.shape)`, or say why it cannot be read."""
    try:
        return image[(slice(None), *box.slices)]
    except OSError as error:
        raise BadDataError(f"{image.name}: cannot be read ({error.strerror or error})") from error


def without_data(pixels: npt.NDArray[Any], nodata: float) -> npt.NDArray[np.bool_]:
    """Return which px have the value that says that there are no data, in all channels."""
    return np.asarray((pixels == nodata).all(0))


def _strips(part: Box, rows: int) -> Iterator[Box]:
    """Yield a box in strips that end at multiples of `rows`, from its first to its last."""
    first, last = part.start[0], part.stop[0]
    while first < last:
        stop = min(last, (first // rows + 1) * rows)
        yield Box(start=(first, *part.start[1:]), stop=(stop, *part.stop[1:]))
        first = stop


def _rows(held: list[tuple[int, npt.NDArray[Any]]], start: int, stop: int, axis: int) -> Any:
    """Return rows `[start, stop)` of pieces that follow each other."""
    found = [
        piece[(slice(None),) * axis + (slice(max(start - first, 0), stop - first),)]
        for first, piece in held
        if first < stop and first + piece.shape[axis] > start
    ]
    return found[0] if len(found) == 1 else np.concatenate(found, axis)


def _joined(held: list[tuple[Box, Made]], cut: int) -> tuple[Box, Made]:
    """Return the units before row `cut` as one piece."""
    first, last = held[0][0], held[-1][0]
    units = Box(start=first.start, stop=(cut, *last.stop[1:]))
    back = 1 - len(units.shape)
    made = {
        name: np.concatenate(
            [
                values[(..., slice(0, cut - box.start[0]), *[slice(None)] * -back)]
                for box, part in held
                for values in [part[name]]
            ],
            back - 1,
        )
        for name in held[0][1]
    }
    return units, made


def _behind(held: list[tuple[Box, Made]], cut: int) -> list[tuple[Box, Made]]:
    """Return what is left from row `cut` on; only the last piece reaches past it."""
    box, made = held[-1]
    if box.stop[0] == cut:
        return []
    skip = cut - box.start[0]
    inner = [slice(None)] * (len(box.shape) - 1)
    rest = {name: values[(..., slice(skip, None), *inner)].copy() for name, values in made.items()}
    return [(Box(start=(cut, *box.start[1:]), stop=box.stop), rest)]
