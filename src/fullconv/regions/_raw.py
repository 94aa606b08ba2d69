"""Numbers that lie in a file one after another, uncompressed: `.npy` files, contiguous TIFF.

Each run of numbers that are neighbours both in the box and in the file is read in one go, or, where
runs are short, a page of memory with several of them. They are read rather than mapped into memory: a file that is cut off then ends in an error, not in a crash.
"""

from __future__ import annotations

from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.errors import BadDataError
from fullconv.geometry import Box
from fullconv.regions._array import Read, Source

# What a system reads from a disk at least.
PAGE_BYTES = 4096


def raw_read(path: Path, name: str, shape: tuple[int, ...], dtype: Any, offset: int) -> Read:
    """Return a function that reads boxes of an array in C order.

    Args:
        path: The file.
        name: What to call it in messages.
        shape: Of the array.
        dtype: As it is stored.
        offset: Of the first number, in bytes.
    """
    kind = np.dtype(dtype)
    strides = [prod(shape[k + 1 :]) for k in range(len(shape))]

    def read(box: Box) -> npt.NDArray[Any]:
        split = _split(box, shape, kind.itemsize)
        outer = [range(a, b) for a, b in zip(box.start[:split], box.stop, strict=False)]
        run = box.shape[split] * strides[split]
        first = box.start[split] * strides[split]
        rows = np.empty((prod(box.shape[:split]), run), kind)
        with path.open("rb", buffering=0) as file:
            for row, place in zip(rows, product(*outer), strict=True):
                begin = first + sum(p * s for p, s in zip(place, strides, strict=False))
                file.seek(offset + begin * kind.itemsize)
                if file.readinto(row.data) != row.nbytes:
                    raise BadDataError(
                        f"{name}: is cut off: there is nothing at byte "
                        f"{offset + begin * kind.itemsize + row.nbytes}, where the array goes on"
                    )
        found = rows.reshape(*box.shape[: split + 1], *shape[split + 1 :])
        return found[..., *box.slices[split + 1 :]].astype(kind.newbyteorder("="), copy=False)

    return read


def _split(box: Box, shape: tuple[int, ...], itemsize: int) -> int:
    """Return the first axis of what is read in one go: nothing but the box, or a page of memory."""
    for k in range(len(shape)):
        run = box.shape[k] * prod(shape[k + 1 :])
        if run == prod(box.shape[k:]) or run * itemsize <= PAGE_BYTES:
            return k
    return len(shape) - 1


def npy_source(path: Path) -> Source:
    """Return the array of a ``.npy`` file; nothing but its header is read."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BadDataError(f"{path}: cannot be read as .npy ({error})") from error
    if array.ndim == 0:
        raise BadDataError(f"{path}: holds a single number, and no image")
    offset: int = array.offset
    shape, kind = array.shape, array.dtype
    if array.flags.c_contiguous:
        read: Read = raw_read(path, str(path), shape, kind, offset)
        chunks = (*(1 for _ in shape[:-1]), shape[-1])
    else:  # in Fortran order: the same numbers are the transposed array in C order
        backwards = raw_read(path, str(path), shape[::-1], kind, offset)

        read = lambda box: backwards(_reversed(box)).transpose()
        chunks = (shape[0], *(1 for _ in shape[1:]))
    return Source(
        name=str(path),
        axes="",
        shape=shape,
        dtype=kind.newbyteorder("="),
        chunks=chunks,
        read=read,
    )


def _reversed(box: Box) -> Box:
    return Box(start=box.start[::-1], stop=box.stop[::-1])
