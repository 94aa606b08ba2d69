"""Masks: one class index, or one colour of the class table, per pixel.

The numbers of a mask file are indices: grey levels, or palette indices, never the palette's
colours. Only a mask without palette and with three channels is read by colour.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fullconv.images._classes import ClassTable, default_colour
from fullconv.images._faults import BrokenRuleError
from fullconv.images._files import has_picture, naming, stored
from fullconv.images._stored import Stored, row_chunks

NUM_SHOWN = 5
NUM_LISTED = 12
_CHOSEN = ", which is what it gets where it states no colours: add the column colour"


def read_mask(path: Path, classes: ClassTable) -> npt.NDArray[Any]:
    """Return a mask as class positions, (height, width), ignored pixels as `classes.ignore`.

    Args:
        path: A PNG, BMP or TIFF file with class indices, or with the table's colours.
        classes: What indices and colours mean.

    Raises:
        BadDataError: If the file cannot be read or holds what the table does not.
    """
    if not has_picture(path):
        from fullconv.images._lazy import open_mask

        return open_mask(path, classes)[...]
    return naming(path, lambda p: positions(codes_of(p).pixels, classes))


def codes_of(path: Path) -> Stored:
    """Return a mask's numbers: (height, width) indices, or (height, width, 3) colours."""
    found = stored(path, mask=True)
    pixels = found.pixels
    if pixels.dtype.kind not in "ui":
        raise BrokenRuleError(f"a mask must hold integers, got {pixels.dtype}")
    if pixels.ndim == 3 and pixels.shape[-1] in (2, 4):
        if (pixels[..., -1] != np.iinfo(pixels.dtype).max).any():
            raise BrokenRuleError("a mask must be opaque, got an alpha channel that is not full")
        pixels = pixels[..., :-1]
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim == 3 and (pixels.shape[-1] != 3 or pixels.dtype != np.uint8):
        raise BrokenRuleError(
            f"a mask must have 1 channel of indices or 3 of 8-bit colour, got {pixels.shape[-1]} "
            f"of {pixels.dtype}"
        )
    return replace(found, pixels=pixels)


def positions(codes: npt.NDArray[Any], classes: ClassTable) -> npt.NDArray[Any]:
    """Return indices or colours as class positions."""
    by_colour = codes.ndim == 3
    known = known_codes(classes, by_colour=by_colour)
    all_8_bit = not by_colour and codes.dtype == classes.dtype == np.uint8
    look_up = _looked_up_8_bit if all_8_bit else _looked_up
    found = np.empty(codes.shape[:2], dtype=classes.dtype)
    unknown: set[int] = set()
    for rows, target in zip(row_chunks(codes), row_chunks(found), strict=True):
        target[...], strange = look_up(pack(rows) if by_colour else rows, known)
        unknown |= strange
    refuse_unknown(unknown, classes, by_colour=by_colour)
    return found


def _looked_up(
    numbers: npt.NDArray[Any], known: dict[int, int]
) -> tuple[npt.NDArray[Any], set[int]]:
    """Return the position of each number, and the numbers that have none."""
    keys = np.array(sorted(known), dtype=np.int64)
    places = np.minimum(np.searchsorted(keys, numbers), len(keys) - 1)
    strange = keys[places] != numbers
    table = np.array([known[int(key)] for key in keys])
    return table[places], set(np.unique(numbers[strange]).tolist()) if strange.any() else set()


def _looked_up_8_bit(
    numbers: npt.NDArray[Any], known: dict[int, int]
) -> tuple[npt.NDArray[Any], set[int]]:
    """Do what `_looked_up` does in a fraction of the time: masks are read again every epoch."""
    used = {int(code) for code in np.flatnonzero(Image.fromarray(numbers).histogram())}
    table = bytes(known.get(code, 0) for code in range(256))
    found = np.frombuffer(numbers.tobytes().translate(table), dtype=np.uint8)
    return found.reshape(numbers.shape), used - known.keys()


def known_codes(classes: ClassTable, *, by_colour: bool) -> dict[int, int]:
    """Return index, or colour as 0xrrggbb, → position."""
    if by_colour:
        return {pack_one(colour): p for colour, p in classes.position_of_colour().items()}
    return classes.position_of()


def refuse_unknown(codes: Iterable[int], classes: ClassTable, *, by_colour: bool) -> None:
    """Raise if a mask holds an index or a colour that the table does not have."""
    known = known_codes(classes, by_colour=by_colour)
    unknown = sorted(code for code in codes if code not in known)
    if not unknown:
        return
    show = _colour_name if by_colour else str
    shown = ", ".join(map(show, unknown[:NUM_SHOWN])) + (" …" if len(unknown) > NUM_SHOWN else "")
    what = "colour" if by_colour else "class index"
    table = [show(code) for code in known if known[code] != classes.ignore]
    has = ", ".join(table[:NUM_LISTED]) + (" …" if len(table) > NUM_LISTED else "")
    hint = _CHOSEN if by_colour and _chosen(classes) else ""
    raise BrokenRuleError(f"{what} outside the class table: {shown}; the table has {has}{hint}")


def _chosen(classes: ClassTable) -> bool:
    """Return whether the colours are those that a table without colours gets."""
    return classes.colours == tuple(map(default_colour, range(classes.num_classes)))


def _colour_name(code: int) -> str:
    return f"#{code:06x}"


def pack(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Return (height, width, 3) colours as one number per pixel, 0xrrggbb."""
    red, green, blue = (colours[..., channel].astype(np.uint32) for channel in range(3))
    return red * np.uint32(1 << 16) + green * np.uint32(1 << 8) + blue


def pack_one(colour: tuple[int, int, int]) -> int:
    """Return one colour as 0xrrggbb."""
    red, green, blue = colour
    return red << 16 | green << 8 | blue
