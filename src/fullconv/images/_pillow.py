"""PNG, JPEG and BMP files, through Pillow.

The file classes are opened directly, not through `PIL.Image.open`: it refuses images of more than
179 megapixels, and its limit is global. The limit of `_files` holds instead.
"""

from contextlib import closing
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import BmpImagePlugin, ImageFile, JpegImagePlugin, PngImagePlugin

from fullconv.images._stored import Stored, check_size, turn

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
BMP = b"BM"

# What an image of each Pillow mode is turned into. An alpha channel is a channel; palettes, CMYK
# and 1 bit become what a viewer shows.
IMAGE_MODE = {"1": "L", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}
ORIENTATION = 0x0112


def read_png(path: Path, *, mask: bool) -> Stored:
    """Return the pixels of a PNG file."""
    with path.open("rb") as file:
        head = file.read(29)
        file.seek(0)
        depth, colour_type = head[24], head[25]
        with closing(PngImagePlugin.PngImageFile(file)) as picture:
            bytes_per_px = 8 if depth == 16 else 4
            check_size(path, picture.size, bytes_per_px, mask=mask)
            if depth == 16 and colour_type != 0:  # Pillow would keep the upper 8 bits only
                pixels = np.asarray(imagecodecs.png_decode(path.read_bytes()))
            else:
                pixels = _pixels(picture, mask=mask)
            if mask and colour_type == 0 and depth in (2, 4):  # Pillow scales grey levels to 255
                pixels = pixels // (255 // (2**depth - 1))
            return _turned(pixels, picture)


def read_jpeg(path: Path, *, mask: bool) -> Stored:
    """Return the pixels of a JPEG file."""
    with path.open("rb") as file, closing(JpegImagePlugin.JpegImageFile(file)) as picture:
        check_size(path, picture.size, 4, mask=mask)
        return _turned(_pixels(picture, mask=mask), picture)


def read_bmp(path: Path, *, mask: bool) -> Stored:
    """Return the pixels of a BMP file."""
    with path.open("rb") as file, closing(BmpImagePlugin.BmpImageFile(file)) as picture:
        check_size(path, picture.size, 4, mask=mask)
        return _turned(_pixels(picture, mask=mask), picture)


def _pixels(picture: ImageFile.ImageFile, *, mask: bool) -> npt.NDArray[Any]:
    if not mask and picture.mode in IMAGE_MODE:
        return np.asarray(picture.convert(IMAGE_MODE[picture.mode]))
    pixels = np.asarray(picture)
    return pixels.astype(np.uint8) if pixels.dtype == np.bool_ else pixels


def _turned(pixels: npt.NDArray[Any], picture: ImageFile.ImageFile) -> Stored:
    orientation = int(picture.getexif().get(ORIENTATION, 1))
    return turn(pixels, orientation)
