"""Label images, overlays and probabilities → files. Each is there whole, or not at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fullconv.errors import BadOutputError
from fullconv.images._atomic import atomic
from fullconv.images._classes import IGNORE_8_BIT, IGNORE_16_BIT, ClassTable
from fullconv.images._display import overlay

TIFF_SUFFIXES = (".tif", ".tiff")
BIG_TIFF_BYTES = 2**31


def write_labels(path: Path, labels: npt.NDArray[Any], classes: ClassTable) -> None:
    """Write a label image that `read_mask` reads back.

    The file holds the table's mask indices, as 8 bits with the classes' colours as palette; as
    16 bits without a palette where that is not enough.

    Args:
        path: Ends in ``.png``, ``.tif`` or ``.tiff``. Folders above it are made.
        labels: (height, width) class positions; `classes.ignore` where there is no class.
        classes: Indices and colours.

    Raises:
        BadOutputError: If the file cannot be written.
    """
    codes = _mask_indices(labels, classes)
    colours = palette(classes) if codes.dtype == np.uint8 else None
    writers: dict[str, Callable[[Path], None]] = {
        ".png": lambda p: _write_png(p, codes, colours),
        **dict.fromkeys(TIFF_SUFFIXES, lambda p: _write_tiff(p, codes, colours)),
    }
    _write(path, writers)


def write_overlay(
    path: Path, image: npt.NDArray[Any], labels: npt.NDArray[Any], classes: ClassTable
) -> None:
    """Write a picture of an image with its labels laid over it, for people to look at.

    Args:
        path: Ends in ``.png``, ``.jpg`` or ``.jpeg``.
        image: (channels, height, width).
        labels: (height, width) class positions.
        classes: Their colours.

    Raises:
        BadOutputError: If the file cannot be written.
    """
    picture = Image.fromarray(overlay(image, labels, classes))
    writers: dict[str, Callable[[Path], None]] = {
        ".png": lambda p: picture.save(p, format="PNG"),
        **dict.fromkeys((".jpg", ".jpeg"), lambda p: picture.save(p, format="JPEG", quality=92)),
    }
    _write(path, writers)


def write_probabilities(path: Path, probabilities: npt.NDArray[Any]) -> None:
    """Write the map of class probabilities, in the type that it has.

    Args:
        path: Ends in ``.tif`` or ``.tiff`` (a page per class, compressed) or in ``.npy``.
        probabilities: (classes, height, width), float16 or float32.

    Raises:
        BadOutputError: If the file cannot be written.
    """
    writers: dict[str, Callable[[Path], None]] = {
        ".npy": lambda p: np.save(p, probabilities),
        **dict.fromkeys(TIFF_SUFFIXES, lambda p: _write_pages(p, probabilities)),
    }
    _write(path, writers)


def _write(path: Path, writers: dict[str, Callable[[Path], None]]) -> None:
    """Write with the function for the path's suffix."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in writers:
        raise BadOutputError(f"`path` must end in {', '.join(writers)}; got {path.name}")
    with atomic(path) as temporary:
        writers[suffix](temporary)


def _mask_indices(labels: npt.NDArray[Any], classes: ClassTable) -> npt.NDArray[Any]:
    """Return positions as mask indices, in 8 bits if they and the ignored ones fit."""
    return codes_of_positions(classes, some_ignored=bool((labels == classes.ignore).any()))[labels]


def codes_of_positions(classes: ClassTable, *, some_ignored: bool) -> npt.NDArray[Any]:
    """Return the mask index of each class position, and of `classes.ignore`, which is the last.

    Args:
        classes: The classes.
        some_ignored: Whether there will be pixels without a class.

    Raises:
        BadOutputError: If there will be, and no index is left for them.
    """
    free = {IGNORE_8_BIT, IGNORE_16_BIT, *classes.ignored} - set(classes.indices)
    if some_ignored and not free:
        raise BadOutputError(
            "`classes` must leave an index for ignored pixels, got classes with 255 and 65535; "
            "add a row with ignore: yes to the class table"
        )
    small = max(classes.indices) <= IGNORE_8_BIT and (not some_ignored or min(free) <= IGNORE_8_BIT)
    ignored = max((i for i in free if i <= IGNORE_8_BIT or not small), default=0)
    table = np.full(classes.ignore + 1, ignored, dtype=np.uint8 if small else np.uint16)
    table[: classes.num_classes] = classes.indices
    return table


def palette(classes: ClassTable) -> npt.NDArray[np.uint8]:
    """Return the colour of each mask index, (256, 3); white where there is no class."""
    colours = np.full((256, 3), 255, dtype=np.uint8)
    colours[list(classes.indices)] = classes.colours
    return colours


def colormap(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """Return colours as TIFF files have them: (3, 256), of 16 bits."""
    return colours.T.astype(np.uint16) * np.uint16(257)


def _write_png(path: Path, codes: npt.NDArray[Any], colours: npt.NDArray[Any] | None) -> None:
    picture = Image.fromarray(codes)
    if colours is not None:
        picture.putpalette(colours.tobytes())
    picture.save(path, format="PNG")


def _write_tiff(path: Path, codes: npt.NDArray[Any], colours: npt.NDArray[Any] | None) -> None:
    import tifffile

    if colours is None:
        kind: dict[str, Any] = {"photometric": "minisblack"}
    else:
        kind = {"photometric": "palette", "colormap": colormap(colours)}
    big = codes.nbytes > BIG_TIFF_BYTES
    tifffile.imwrite(path, codes, bigtiff=big, compression="zlib", metadata=None, **kind)


def _write_pages(path: Path, probabilities: npt.NDArray[Any]) -> None:
    import tifffile

    big = probabilities.nbytes > BIG_TIFF_BYTES
    kind: dict[str, Any] = {"photometric": "minisblack", "metadata": {"axes": "CYX"}}
    tifffile.imwrite(path, probabilities, bigtiff=big, compression="zlib", **kind)
