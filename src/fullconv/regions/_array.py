"""Arrays in files, read box by box: what they are to the rest of the package.

A `Source` is an array as its file has it, with one letter per axis: ``c`` channels, ``t`` times, and
``z``, ``y``, ``x`` in space. A `LazyArray` is `(channels, *spatial)`, whatever the file's order is.
Both are values: nothing is open between two reads, so they may be handed to threads and processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fullconv.errors import BadDataError, FullconvError
from fullconv.geometry import Box

Read = Callable[[Box], npt.NDArray[Any]]

SPATIAL = "zyx"
# Axes without names are told apart by their length: nobody has images so narrow.
MOST_CHANNELS = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """An array as its file has it.

    Attributes:
        name: The file, and what it is called inside, for messages.
        axes: One letter per axis; empty where the file does not say.
        shape: Along each axis.
        dtype: Of the numbers, in the machine's byte order.
        chunks: What the file keeps together, along each axis.
        read: Returns a box of it; no larger part of the file is read than the chunks that the box
            touches.
        facts: What else the file says: ``pixel_size`` and ``unit`` by spatial axis, ``geo`` tags …
    """

    name: str
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    read: Read
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, kw_only=True, eq=False)
class LazyArray:
    """An array in a file: slicing reads the chunks that the slices touch, and no others.

    Attributes:
        name: The file, and what it is called inside, for messages.
        shape: `(channels, *spatial)`; `(*spatial)` for masks.
        dtype: Of the numbers.
        chunks: What the file keeps together, along each axis of `shape`.
        read: Returns the array of a box of `shape`.
        spatial: Names of the spatial axes, such as ``yx``.
        facts: What else the file says, as in `Source`.
        again: A function and its arguments that open the same array, for other processes.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    read: Read
    spatial: str
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    again: tuple[Callable[..., Any], tuple[Any, ...]] | None = None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array in memory."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk in memory."""
        return prod(self.chunks) * self.dtype.itemsize

    def __getitem__(self, place: Any) -> npt.NDArray[Any]:
        """Return a part: slices without steps, whole numbers or ``...``, as for NumPy arrays."""
        box, dropped = _box(place, self.shape)
        if not box.size:
            return np.empty(box.shape, self.dtype).squeeze(dropped)
        return self.read(box).squeeze(dropped)

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        """Return all of it, for NumPy, which would take it for an object otherwise."""
        return np.array(self[...], dtype=dtype, copy=copy)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        if self.again is None:
            raise TypeError(f"{self.name} cannot be handed to another process")
        return self.again

    def reopened_by(self, function: Callable[..., Any], *arguments: Any) -> Self:
        """Return the array, which other processes get by calling a function."""
        return replace(self, again=(function, arguments))

    def mapped(
        self,
        change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
        *,
        dtype: npt.DTypeLike | None = None,
        channels: int | None = None,
    ) -> Self:
        """Return the array with a function applied to each part `(channels, *spatial)` that is read.

        Args:
            change: Elementwise in space.
            dtype: Of what it returns; the same if None.
            channels: Of what it returns; the same if None.
        """
        count, rest = self.shape[0], self.shape[1:]
        new = count if channels is None else channels
        same, inner = new == count, self.read

        def read(box: Box) -> npt.NDArray[Any]:
            if same:
                return change(inner(box))
            every = Box(start=(0, *box.start[1:]), stop=(count, *box.stop[1:]))
            return change(inner(every))[box.start[0] : box.stop[0]]

        kept = self.chunks[0] if same else new
        return replace(
            self,
            shape=(new, *rest),
            dtype=np.dtype(self.dtype if dtype is None else dtype),
            chunks=(kept, *self.chunks[1:]),
            read=read,
        )

    def flipped(self, axes: tuple[int, ...]) -> Self:
        """Return the array with some of its axes reversed."""
        if not axes:
            return self
        inner, shape = self.read, self.shape

        def read(box: Box) -> npt.NDArray[Any]:
            ends = zip(box.start, box.stop, shape, strict=True)
            spans = [(n - b, n - a) if k in axes else (a, b) for k, (a, b, n) in enumerate(ends)]
            part = Box(start=tuple(a for a, _ in spans), stop=tuple(b for _, b in spans))
            return np.flip(inner(part), axes)

        return replace(self, read=read)


def in_memory(array: npt.NDArray[Any], name: str, spatial: str | None = None) -> LazyArray:
    """Return an array that is in memory already, `(channels, *spatial)`, as a lazy one."""
    return LazyArray(
        name=name,
        shape=array.shape,
        dtype=array.dtype,
        chunks=(1,) * array.ndim,
        read=lambda box: array[box.slices],
        spatial=SPATIAL[1 - array.ndim :] if spatial is None else spatial,
    )


def sliced(array: Any, name: str) -> LazyArray:
    """Return anything that gives arrays when it is sliced, `(channels, *spatial)`, as a lazy array."""
    shape = tuple(int(size) for size in array.shape)
    chunks = getattr(array, "chunks", None) or ()
    told = len(chunks) == len(shape) and all(isinstance(size, int) for size in chunks)
    return LazyArray(
        name=name,
        shape=shape,
        dtype=np.dtype(array.dtype).newbyteorder("="),
        chunks=tuple(chunks) if told else (1,) * len(shape),
        read=lambda box: np.asarray(array[box.slices]),
        spatial=SPATIAL[4 - len(shape) :],
    )


def level_number(path: Path, level: str | None, count: int) -> int:
    """Return the number of a resolution by its name, ``0`` being the full one."""
    names = [str(k) for k in range(count)]
    if level is not None and level not in names:
        raise BadDataError(f"{path}: has no level `{level}`; there are: {', '.join(names)}")
    return int(level or 0)


def arranged(source: Source, axes: str | None = None) -> LazyArray:
    """Return an array as `(channels, *spatial)`, space in the order z, y, x, whatever order its file has.

    Axes of length 1 that are neither channels nor space are dropped.

    Args:
        source: The array.
        axes: One letter per axis, where the file does not say; None to tell by the axes' lengths.

    Raises:
        BadDataError: If the axes cannot be told, or there are others that are longer than 1.
    """
    letters = _letters(source, axes)
    kept = [k for k, a in enumerate(letters) if a in "czyx"]
    channel = letters.find("c")
    order = sorted((k for k in kept if k != channel), key=lambda k: SPATIAL.index(letters[k]))
    spatial = "".join(letters[k] for k in order)
    places = [*([channel] if channel >= 0 else []), *order]

    def read(box: Box) -> npt.NDArray[Any]:
        start, stop = [0] * len(letters), [1] * len(letters)
        first = 0 if channel >= 0 else 1
        for k, a, b in zip(places, box.start[first:], box.stop[first:], strict=True):
            start[k], stop[k] = a, b
        found = source.read(Box(start=tuple(start), stop=tuple(stop)))
        dropped = tuple(k for k in range(len(letters)) if k not in kept)
        squeezed = [sum(j not in dropped for j in range(k)) for k in places]
        part = found.squeeze(dropped).transpose(squeezed)
        return part if channel >= 0 else part[np.newaxis]

    one = () if channel >= 0 else (1,)
    return LazyArray(
        name=source.name,
        shape=(*one, *(source.shape[k] for k in places)),
        dtype=source.dtype,
        chunks=(*one, *(min(source.chunks[k], source.shape[k]) for k in places)),
        read=read,
        spatial=spatial,
        facts=source.facts,
    )


def _letters(source: Source, axes: str | None) -> str:
    """Return one letter per axis, or refuse."""
    letters = (axes or source.axes or _guessed(source)).lower()
    odd = [
        f"{a} ({size})"
        for a, size in zip(letters, source.shape, strict=False)
        if a not in "czyx" and size != 1
    ]
    known = [a for a in letters if a in "czyx"]
    if len(letters) != len(source.shape) or len(set(known)) < len(known):
        raise BadDataError(
            f"{source.name}: `axes` must have one letter for each of the axes {source.shape}, each "
            f"once (such as `cyx`), got {letters!r}"
        )
    if odd or not set(known) & set(SPATIAL):
        raise BadDataError(
            f"{source.name}: an image must have the axes z, y, x and at most one of channels, got "
            f"{letters} {source.shape}; save each position of {', '.join(odd) or 'the rest'} apart"
        )
    return letters


def _guessed(source: Source) -> str:
    """Return the axes by their lengths: channels are few, and come first or last."""
    shape = source.shape
    if len(shape) <= 2:
        return SPATIAL[3 - len(shape) :]
    few = [k for k in (0, len(shape) - 1) if shape[k] <= MOST_CHANNELS]
    if len(shape) <= 4 and len(few) == 1:
        space = SPATIAL[4 - len(shape) :]
        return f"c{space}" if few == [0] else f"{space}c"
    raise BadDataError(
        f"{source.name}: the file does not say which of its axes {shape} are which; name them, such "
        f"as axes={'zyx' if len(shape) == 3 else 'czyx'!r}"
    )


def _box(place: Any, shape: tuple[int, ...]) -> tuple[Box, tuple[int, ...]]:
    """Return the box of an index, and the axes that it drops."""
    given = list(place) if isinstance(place, tuple) else [place]
    if ... in given:
        at = given.index(...)
        given[at : at + 1] = [slice(None)] * (len(shape) - len(given) + 1)
    given += [slice(None)] * (len(shape) - len(given))
    start: list[int] = []
    stop: list[int] = []
    for part, size in zip(given, shape, strict=True):
        if isinstance(part, slice):
            a, b, step = part.indices(size)
            if step != 1:
                raise FullconvError(f"slices must have no steps, got {part}")
            start.append(min(a, b) if b < a else a)
            stop.append(max(a, b) if b > a else start[-1])
        else:
            index = range(size)[int(part)]
            start.append(index)
            stop.append(index + 1)
    dropped = tuple(k for k, part in enumerate(given) if not isinstance(part, slice))
    return Box(start=tuple(start), stop=tuple(stop)), dropped
