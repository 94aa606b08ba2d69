"""Pixels as a file stores them, before anyone says whether they are an image or a mask."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from fullconv.images._faults import BrokenRuleError

# 23 170 × 23 170 px. Whole images above it do not train on any machine we know of.
MAX_PX = 2**29
# Below this many pixels a file cannot do harm, however small it is.
HARMLESS_PX = 2**27
# No photograph or scan shrinks so far; deflate reaches 1030 on a constant image.
MAX_RATIO = 500

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


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stored:
    """Pixels of one file.

    Attributes:
        pixels: (height, width) or (height, width, channels).
        turned: Whether the file's orientation tag asked for turning, which has been done.
    """

    pixels: npt.NDArray[Any]
    turned: bool = False


def check_size(path: Path, size: tuple[int, int], bytes_per_px: int, *, mask: bool) -> None:
    """Refuse a file that would fill the memory, before a pixel is decoded.

    Three rules: at most 2²⁹ px (23 170 × 23 170); decoded, at most half of the memory that is
    available now; and an image (not a mask, which may well be of one class) of more than 2²⁷ px
    must not grow more than 500-fold when decoded, since no real image does.
    """
    width, height = size
    num_px = width * height
    decoded_bytes = num_px * bytes_per_px
    what = f"decompression bomb or too large an image: {width} x {height} px"
    if num_px > MAX_PX:
        raise BrokenRuleError(f"{what}, more than {MAX_PX:,} px")
    available_bytes = psutil.virtual_memory().available
    if decoded_bytes > available_bytes // 2:
        raise BrokenRuleError(
            f"{what} need {decoded_bytes / 2**30:.1f} GiB, more than half of the available "
            f"{available_bytes / 2**30:.1f} GiB"
        )
    file_bytes = path.stat().st_size
    if not mask and num_px > HARMLESS_PX and decoded_bytes > MAX_RATIO * file_bytes:
        raise BrokenRuleError(
            f"{what} in a file of {file_bytes:,} bytes, {decoded_bytes // file_bytes} times less"
        )


def turn(pixels: npt.NDArray[Any], orientation: int) -> Stored:
    """Return the pixels as a viewer shows them.

    Args:
        pixels: (height, width) or (height, width, channels).
        orientation: Value of the EXIF or TIFF tag 274; 1 is upright. Values that the standard does
            not know count as upright.
    """
    if orientation not in TURNS:
        return Stored(pixels=pixels)
    transposed, upside_down, mirrored = TURNS[orientation]
    pixels = pixels.swapaxes(0, 1) if transposed else pixels
    pixels = pixels[::-1] if upside_down else pixels
    pixels = pixels[:, ::-1] if mirrored else pixels
    return Stored(pixels=np.ascontiguousarray(pixels), turned=True)
