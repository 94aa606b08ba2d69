"""PNG, JPEG and BMP files, through Pillow.

The file classes are opened directly, not through `PIL.Image.open`: that refuses images of more than
179 megapixels, and its limit is global. The limit of `check_size` holds instead.
"""

import struct
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import IO, Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import BmpImagePlugin, ImageFile, JpegImagePlugin, PngImagePlugin

from fullconv.images._stored import Format, Header, Stored, turn

# What an image of some Pillow modes is turned into: what a viewer shows.
SHOWN_MODE = {"1": "L", "P": "RGB", "CMYK": "RGB"}
BYTES_PER_PX = {"1": 1, "L": 1, "P": 3, "LA": 2, "I;16": 2}  # 4 for all others
ORIENTATION = 0x0112
DAMAGED_EXIF = (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error)

Opener = Callable[[IO[bytes]], ImageFile.ImageFile]


def _header(path: Path, opener: Opener) -> Header:
    with path.open("rb") as file, closing(opener(file)) as picture:
        width, height = picture.size
        num_bytes = width * height * BYTES_PER_PX.get(picture.mode, 4)
        return Header(width=width, height=height, decoded_bytes=num_bytes)


def _decode(path: Path, opener: Opener, *, mask: bool) -> Stored:
    with path.open("rb") as file, closing(opener(file)) as picture:
        return turn(_pixels(picture, mask=mask), _orientation(picture))


def _pixels(picture: ImageFile.ImageFile, *, mask: bool) -> npt.NDArray[Any]:
    if not mask and picture.mode in SHOWN_MODE:
        picture.load()
        picture.info.pop("transparency", None)  # a transparent palette entry keeps its colour
        return np.asarray(picture.convert(SHOWN_MODE[picture.mode]))
    pixels = np.asarray(picture)
    return pixels.astype(np.uint8) if pixels.dtype == np.bool_ else pixels


def _orientation(picture: ImageFile.ImageFile) -> object:
    try:
        return picture.getexif().get(ORIENTATION, 1)
    except DAMAGED_EXIF:  # in a sound image: upright, as viewers show it
        return 1


def _png_type(path: Path) -> tuple[int, int]:
    """Return bit depth and colour type from a PNG's first chunk."""
    with path.open("rb") as file:
        head = file.read(26)
    return head[24], head[25]


def _png_header(path: Path) -> Header:
    header = _header(path, PngImagePlugin.PngImageFile)
    depth, _ = _png_type(path)
    twice = 2 if depth == 16 else 1  # Pillow counts 8 bits for 16-bit colour
    return Header(
        width=header.width, height=header.height, decoded_bytes=twice * header.decoded_bytes
    )


def _decode_png(path: Path, *, mask: bool) -> Stored:
    depth, colour_type = _png_type(path)
    if depth == 16 and colour_type != 0:  # Pillow would keep the upper 8 bits only
        with path.open("rb") as file, closing(PngImagePlugin.PngImageFile(file)) as picture:
            orientation = _orientation(picture)
        return turn(np.asarray(imagecodecs.png_decode(path.read_bytes())), orientation)
    stored = _decode(path, PngImagePlugin.PngImageFile, mask=mask)
    if mask and colour_type == 0 and depth in (2, 4):  # Pillow scales these to 0 … 255
        return Stored(pixels=stored.pixels // (255 // (2**depth - 1)), turned=stored.turned)
    return stored


PNG = Format(magics=(b"\x89PNG\r\n\x1a\n",), header=_png_header, decode=_decode_png)
JPEG = Format(
    magics=(b"\xff\xd8\xff",),
    header=partial(_header, opener=JpegImagePlugin.JpegImageFile),
    decode=partial(_decode, opener=JpegImagePlugin.JpegImageFile),
    lossy=True,
)
BMP = Format(
    magics=(b"BM",),
    header=partial(_header, opener=BmpImagePlugin.BmpImageFile),
    decode=partial(_decode, opener=BmpImagePlugin.BmpImageFile),
)
