"""TIFF files, through tifffile.

One file is one image. Its channels are the samples of each pixel (interleaved or planar), or its
pages, if all are of one size and type and the metadata does not call them slices (Z) or times (T).
Smaller copies of the image (pyramids, thumbnails) and pages that say which px are valid (transparency
masks) are passed over. What a page's metadata says of
its meaning is heeded in images: palettes and CMYK become RGB, white-is-zero is inverted. In masks
the stored numbers count.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fullconv.images._faults import BrokenRuleError
from fullconv.images._stored import Format, Header, Stored, turn

if TYPE_CHECKING:
    import tifffile

ORIENTATION = 274
CHANNEL_AXES = "SCQI"  # samples, channels, unknown, a sequence of pages
NARROW_PX = 16


def _header(path: Path) -> Header:
    import tifffile

    with tifffile.TiffFile(path) as file:
        series = _only_series(file)
        _channel_axis(series)
        size = dict(zip(series.axes, series.shape, strict=True))
        return Header(width=size["X"], height=size["Y"], decoded_bytes=series.nbytes)


def _decode(path: Path, *, mask: bool) -> Stored:
    import tifffile

    with tifffile.TiffFile(path) as file:
        series = _only_series(file)
        axis = _channel_axis(series)
        pixels = np.asarray(series.asarray())
        if axis is not None:
            pixels = np.moveaxis(pixels, axis, -1)
        page = series.keyframe
        photometric = str(getattr(page.photometric, "name", ""))
        pixels = plain(pixels) if mask else shown(pixels, photometric, page.colormap)
        return turn(pixels, page.tags.valueof(ORIENTATION, default=1))


def _only_series(file: "tifffile.TiffFile") -> "tifffile.TiffPageSeries":
    full = [s for s in file.series if not s.keyframe.is_reduced and not s.keyframe.is_mask]
    if len(full) != 1:
        raise BrokenRuleError(
            f"a TIFF file must hold one image, got {len(full)} of different size or type; "
            "save each to a file of its own"
        )
    return full[0]


def _channel_axis(series: "tifffile.TiffPageSeries") -> int | None:
    """Return which axis besides Y and X holds the channels, if there is one."""
    axes: str = series.axes
    others = axes.replace("Y", "", 1).replace("X", "", 1)
    if len(axes) - len(others) != 2 or len(others) > 1 or (others and others not in CHANNEL_AXES):
        raise BrokenRuleError(
            f"a TIFF image must have the axes Y, X and at most one of channels, got {axes} "
            f"{series.shape}; save each slice or time to a file of its own"
        )
    if not others:
        return None
    axis = axes.index(others)
    width = series.shape[axes.index("X")]
    if others == "Q" and width <= NARROW_PX < series.shape[axis]:
        raise BrokenRuleError(
            f"pages of a TIFF image must be channels, got {series.shape[axis]} pages only {width} "
            "px wide; if the array was (height, width, channels), write it with "
            "planarconfig='contig', photometric='minisblack'"
        )
    return axis


def plain(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the stored numbers of a mask."""
    return pixels.astype(np.uint8) if pixels.dtype == np.bool_ else pixels


def shown(
    pixels: npt.NDArray[Any], photometric: str, colormap: npt.NDArray[Any] | None
) -> npt.NDArray[Any]:
    """Return what a viewer shows of the stored numbers of an image, (height, width[, channels])."""
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    if photometric == "MINISWHITE" and pixels.dtype.kind == "u":
        return np.iinfo(pixels.dtype).max - pixels
    if photometric == "PALETTE" and colormap is not None:
        colours = (np.asarray(colormap) >> 8).astype(np.uint8)
        return colours.T[pixels]
    if photometric == "SEPARATED" and pixels.ndim == 3 and pixels.shape[-1] == 4:
        if pixels.dtype != np.uint8:
            raise BrokenRuleError(f"a CMYK image must have 8 bits, got {pixels.dtype}; save as RGB")
        inks = Image.frombytes("CMYK", pixels.shape[1::-1], pixels.tobytes())
        return np.asarray(inks.convert("RGB"))
    return pixels


TIFF = Format(
    magics=(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),  # the last two are BigTIFF
    header=_header,
    decode=_decode,
)
