"""Images and masks of any size: read box by box where their format allows it.

What `read_image` and `read_mask` say of values, colours and orientation holds here, too. PNG, JPEG and
BMP files cannot be read in parts: they are read whole when they are opened.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.errors import BadDataError
from fullconv.geometry import Box
from fullconv.images._classes import ClassTable
from fullconv.images._faults import BrokenRuleError, bad_file, plural
from fullconv.images._files import IMAGE_DTYPES, read_image
from fullconv.images._masks import positions, read_mask
from fullconv.images._stored import TURNS, turn
from fullconv.images._tiff import TIFF, plain, shown
from fullconv.regions import LazyArray, in_memory, open_array, opens, split_name

# TIFF files of so many bytes in memory and more are read piece by piece.
LARGE_BYTES = 2**27


def reads_boxes(path: Path | str) -> bool:
    """Return whether a file can be read in parts: by its content where it looks like TIFF."""
    file = split_name(path)[0]
    if not opens(file):
        return False
    if file.suffix.lower() not in (".tif", ".tiff"):
        return True
    try:
        with file.open("rb") as content:
            return content.read(8).startswith(TIFF.magics)
    except OSError:
        return False


def goes_by_pieces(path: Path | str) -> bool:
    """Return whether a file is never read whole: all but pictures and TIFF files that are not large."""
    if not reads_boxes(path):
        return False
    if split_name(path)[0].suffix.lower() not in (".tif", ".tiff"):
        return True
    try:
        return open_array(path).nbytes >= LARGE_BYTES
    except BadDataError:  # reading it whole will tell why
        return False


@contextmanager
def told_by_rule(path: Path | str) -> Generator[None]:
    """Leave the file's name out of what is wrong with it."""
    try:
        yield
    except BadDataError as error:
        told = str(error)
        for name in (str(path), str(split_name(path)[0])):
            told = told.removeprefix(f"{name}: ")
        raise BrokenRuleError(told) from error


def open_image(path: Path | str, *, axes: str | None = None) -> LazyArray:
    """Return an image `(channels, *spatial)` that is read box by box.

    Args:
        path: An image file, a Zarr folder, or an array in one, as ``scan.h5::raw``.
        axes: A letter of ``czyx`` for each axis, where the file does not say.

    Raises:
        BadDataError: If it cannot be read, now or when a box is.

    Examples:
        >>> import numpy as np, tempfile
        >>> path = Path(tempfile.mkdtemp()) / "image.npy"
        >>> np.save(path, np.zeros((3, 600, 500), np.uint8))
        >>> open_image(path)[:, 10:20, 30:45].shape
        (3, 10, 15)
    """
    if not reads_boxes(path):
        return in_memory(read_image(Path(path)), str(path)).reopened_by(open_image, str(path))
    stored = open_array(path, axes=axes)
    if "photometric" in stored.facts:
        stored = _turned(_shown(stored))
    if stored.dtype.name not in IMAGE_DTYPES:
        raise bad_file(
            Path(stored.name), f"images must be of {', '.join(IMAGE_DTYPES)}; got {stored.dtype}"
        )
    checked = _finite(stored) if stored.dtype.kind == "f" else stored
    return checked.reopened_by(_again, str(path), axes)


def open_mask(path: Path | str, classes: ClassTable, *, axes: str | None = None) -> LazyArray:
    """Return a mask as class positions `(*spatial)`, which is read box by box.

    Args:
        path: As for `open_image`.
        classes: What the mask's indices or colours mean.
        axes: As for `open_image`.

    Raises:
        BadDataError: If it cannot be read, or a box holds what the class table does not.
    """
    if not reads_boxes(path):
        found = in_memory(read_mask(Path(path), classes), str(path), "yx")
        return found.reopened_by(open_mask, str(path), classes)
    codes = open_codes(path, axes=axes)

    def read(box: Box) -> npt.NDArray[Any]:
        part = codes.read(Box(start=(0, *box.start), stop=(codes.shape[0], *box.stop)))
        flat = part.reshape(len(part), -1, part.shape[-1])
        try:
            found = positions(flat[0] if len(flat) == 1 else np.moveaxis(flat, 0, -1), classes)
        except BrokenRuleError as error:
            raise bad_file(Path(codes.name), error) from error
        return found.reshape(box.shape)

    return replace(
        codes,
        shape=codes.shape[1:],
        chunks=codes.chunks[1:],
        dtype=classes.dtype,
        read=read,
    ).reopened_by(_mask_again, str(path), classes, axes)


def open_codes(path: Path | str, *, axes: str | None = None) -> LazyArray:
    """Return the numbers of a mask, `(1, *spatial)` indices or `(3, *spatial)` colours."""
    stored = open_array(path, axes=axes)
    if "photometric" in stored.facts:
        stored = _turned(stored)
    if stored.dtype == np.bool_:
        stored = stored.mapped(plain, dtype=np.uint8)
    count, kind = stored.shape[0], stored.dtype
    if kind.kind not in "ui":
        raise bad_file(Path(stored.name), f"a mask must hold integers, got {kind}")
    if count not in (1, 3) or (count == 3 and kind != np.uint8):
        raise bad_file(
            Path(stored.name),
            f"a mask must have 1 channel of indices or 3 of 8-bit colour, got {count} of {kind}",
        )
    return stored


def _again(path: str, axes: str | None) -> LazyArray:
    return open_image(path, axes=axes)


def _mask_again(path: str, classes: ClassTable, axes: str | None) -> LazyArray:
    return open_mask(path, classes, axes=axes)


def _shown(stored: LazyArray) -> LazyArray:
    """Return what a viewer shows of the stored numbers of a TIFF image."""
    photometric, colormap = stored.facts["photometric"], stored.facts["colormap"]
    count, kind = stored.shape[0], stored.dtype

    def change(part: npt.NDArray[Any]) -> npt.NDArray[Any]:
        flat = part.reshape(len(part), -1, part.shape[-1])
        pixels = flat[0] if len(flat) == 1 else np.moveaxis(flat, 0, -1)
        try:
            found = shown(pixels, photometric, colormap)
        except BrokenRuleError as error:
            raise bad_file(Path(stored.name), error) from error
        found = found[..., np.newaxis] if found.ndim == 2 else found
        return np.moveaxis(found, -1, 0).reshape(found.shape[-1], *part.shape[1:])

    coloured = (photometric == "PALETTE" and colormap is not None) or (
        photometric == "SEPARATED" and count == 4
    )
    if coloured:
        return stored.mapped(change, dtype=np.uint8, channels=3)
    if kind == np.bool_:
        return stored.mapped(change, dtype=np.uint8)
    return stored.mapped(change) if photometric == "MINISWHITE" else stored


def _turned(stored: LazyArray) -> LazyArray:
    """Return a plane as a viewer shows it, by its orientation tag."""
    orientation = stored.facts["orientation"]
    if orientation not in TURNS or stored.ndim != 3:
        return stored
    transposed, upside_down, mirrored = TURNS[orientation]
    channels, rows, columns = stored.shape
    if transposed:
        rows, columns = columns, rows

    def read(box: Box) -> npt.NDArray[Any]:
        y, x = ((box.start[k], box.stop[k]) for k in (1, 2))
        y = (rows - y[1], rows - y[0]) if upside_down else y
        x = (columns - x[1], columns - x[0]) if mirrored else x
        first, second = (x, y) if transposed else (y, x)
        part = stored.read(
            Box(start=(box.start[0], first[0], second[0]), stop=(box.stop[0], first[1], second[1]))
        )
        return np.moveaxis(turn(np.moveaxis(part, 0, -1), orientation).pixels, -1, 0)

    _, down, across = stored.chunks
    return replace(
        stored,
        shape=(channels, rows, columns),
        chunks=(stored.chunks[0], *((across, down) if transposed else (down, across))),
        read=read,
    )


def _finite(stored: LazyArray) -> LazyArray:
    """Return the array with a check of all that is read: no NaN, no infinity."""
    nodata = stored.facts.get("nodata")
    # Around a px that is NaN, nothing that a network makes is a number.
    instead = (
        "; its nodata value is NaN, which a network cannot see: write a number for it, as "
        "`gdalwarp -dstnodata -9999` does"
        if nodata is not None and np.isnan(nodata)
        else ""
    )

    def check(part: npt.NDArray[Any]) -> npt.NDArray[Any]:
        bad = int(part.size - np.isfinite(part).sum())
        if bad:
            raise BadDataError(
                f"{stored.name}: values must be finite, got NaN or infinity at {plural(bad, 'place')} "
                f"of a part that was read{instead}"
            )
        return part

    return stored.mapped(check)
