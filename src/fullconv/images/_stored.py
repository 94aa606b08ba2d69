"""Pixels as a file stores them, before anyone says whether they are an image or a mask."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import psutil

from fullconv.images._faults import BrokenRuleError

# 23 170 × 23 170 px: more than anyone trains on as one whole array.
MAX_PX = 2**29
# A file of fewer pixels can do no harm, however small it is.
HARMLESS_PX = 2**27
# No photograph or scan shrinks so far; deflate shrinks a constant image 1030 times.
MAX_RATIO = 500
# The decoder's buffer, the array made of it, and the array in another order of axes.
COPIES = 3
# Whole-image work in wider numbers goes by so many pixels, so that it needs no memory to speak of.
CHUNK_PX = 2**20

# Orientation tag → swap the axes, then flip the rows, then flip the columns (TIFF 6.0, tag 274).
TURNS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What a file says of itself before anything is decoded.

    Attributes:
        width: In px, before turning.
        height: In px, before turning.
        decoded_bytes: Size of all pixels and channels in memory.
    """

    width: int
    height: int
    decoded_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stored:
    """Pixels of one file.

    Attributes:
        pixels: (height, width) or (height, width, channels).
        turned: Whether the file's orientation tag asked for turning, which has been done.
    """

    pixels: npt.NDArray[Any]
    turned: bool = False


class Decode(Protocol):
    """Decodes one file of a format."""

    def __call__(self, path: Path, *, mask: bool) -> Stored:
        """Return the pixels as a viewer shows them; of a mask, the numbers as they are stored."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """How to read one file format.

    Attributes:
        magics: First bytes of its files.
        header: Reads what a file says of itself.
        decode: Reads the pixels.
        lossy: Whether it changes values, so that no mask can be stored in it.
    """

    magics: tuple[bytes, ...]
    header: Callable[[Path], Header]
    decode: Decode
    lossy: bool = False


def check_size(header: Header, file_bytes: int, *, mask: bool) -> None:
    """Refuse a file that would fill the memory, before a pixel is decoded.

    Three rules. At most 2²⁹ px (23 170 × 23 170). Decoding, which needs three times the decoded
    size for a moment, must fit into the memory that is available now. An image of more than 2²⁷ px
    must not grow more than 500-fold, since no real one does; a mask may, if it is of one class.
    """
    num_px = header.width * header.height
    needed_bytes = COPIES * header.decoded_bytes
    what = f"is too large, or a decompression bomb: {header.width} x {header.height} px"
    if num_px > MAX_PX:
        raise BrokenRuleError(f"{what}, more than {MAX_PX:,}; cut it into smaller images")
    available_bytes = psutil.virtual_memory().available
    if needed_bytes > available_bytes:
        raise BrokenRuleError(
            f"{what} need {needed_bytes / 2**30:.1f} GiB to decode, and "
            f"{available_bytes / 2**30:.1f} GiB are available; cut it into smaller images"
        )
    if not mask and num_px > HARMLESS_PX and header.decoded_bytes > MAX_RATIO * file_bytes:
        raise BrokenRuleError(
            f"{what} in a file of {file_bytes:,} bytes, which real images never fit in"
        )


def turn(pixels: npt.NDArray[Any], orientation: object) -> Stored:
    """Return the pixels as a viewer shows them.

    Args:
        pixels: (height, width) or (height, width, channels).
        orientation: Value of the EXIF or TIFF tag 274; 1 is upright. What the standard does not
            know counts as upright.
    """
    if not isinstance(orientation, int) or orientation not in TURNS:
        return Stored(pixels=pixels)
    transposed, upside_down, mirrored = TURNS[orientation]
    pixels = pixels.swapaxes(0, 1) if transposed else pixels
    pixels = pixels[::-1] if upside_down else pixels
    pixels = pixels[:, ::-1] if mirrored else pixels
    return Stored(pixels=np.ascontiguousarray(pixels), turned=True)


def row_chunks(pixels: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Return views of all rows, about 2²⁰ px each."""
    rows = max(1, CHUNK_PX // max(1, pixels.shape[1]))
    return [pixels[start : start + rows] for start in range(0, len(pixels), rows)]
