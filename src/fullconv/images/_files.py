"""One image or mask file → an array.

- Formats are told by content, not by name: PNG, JPEG, BMP, TIFF.
- The origin is the upper left pixel *as shown*: EXIF and TIFF orientation tags are applied.
- Values are the file's own: nothing is scaled. 1-bit images are 0 and 255, as shown; palette and
  CMYK images become RGB. An alpha channel is a channel.
- A file is refused before it is decoded if it would fill the memory; `check_size` has the rule.
"""

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fullconv import regions
from fullconv.errors import BadDataError
from fullconv.images._faults import BrokenRuleError, bad_file, plural
from fullconv.images._mat import MAT
from fullconv.images._pillow import BMP, JPEG, PNG
from fullconv.images._stored import Format, Stored, check_size
from fullconv.images._tiff import TIFF

T = TypeVar("T")

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
SUFFIXES = (*PICTURE_SUFFIXES, *(s for s in regions.SUFFIXES if s not in PICTURE_SUFFIXES))
IMAGE_DTYPES = ("uint8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")


FORMATS = (PNG, JPEG, BMP, TIFF, MAT)


def read_image(path: Path) -> npt.NDArray[Any]:
    """Return an image as (channels, height, width) in the file's own type.

    Args:
        path: A PNG, JPEG, BMP or TIFF file of 8 or 16 bits or floating point, or what `open_image` takes.

    Raises:
        BadDataError: If the file cannot be read, would fill the memory, or holds NaN or infinity.
    """
    if not has_picture(path):
        from fullconv.images._lazy import open_image

        return open_image(path)[...]
    return naming(path, lambda p: image_of(p).pixels)


def has_picture(path: Path) -> bool:
    """Return whether a file is a picture or TIFF, by its name; other formats hold arrays."""
    file = regions.split_name(path)[0]
    return not regions.opens(file) or file.suffix.lower() in PICTURE_SUFFIXES


def image_of(path: Path) -> Stored:
    """Return (channels, height, width) pixels; raise `BrokenRuleError` without the file's name."""
    found = stored(path, mask=False)
    pixels = found.pixels
    if pixels.dtype.name not in IMAGE_DTYPES:
        raise BrokenRuleError(f"images must be of {', '.join(IMAGE_DTYPES)}; got {pixels.dtype}")
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        num_bad = int(pixels.size - np.isfinite(pixels).sum())
        raise BrokenRuleError(
            f"values must be finite, got NaN or infinity at {plural(num_bad, 'place')}"
        )
    pixels = pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
    return replace(found, pixels=np.ascontiguousarray(np.moveaxis(pixels, -1, 0)))


def stored(path: Path, *, mask: bool) -> Stored:
    """Return the pixels of a file; raise `BrokenRuleError` whatever the decoder stumbles over."""
    file_format = _format(path)
    if mask and file_format.lossy:
        raise BrokenRuleError("a mask must not be JPEG, which changes indices; save it as PNG")
    with _refusing_damage():
        header = file_format.header(path)
        if not header.width * header.height:
            raise BrokenRuleError("holds no pixel")
        check_size(header, path.stat().st_size, mask=mask)
        return file_format.decode(path, mask=mask)


def decoded_bytes(path: Path) -> int:
    """Return the size of a file in memory, by its header alone."""
    with _refusing_damage():
        return _format(path).header(path).decoded_bytes


@contextmanager
def _refusing_damage() -> Generator[None]:
    try:
        yield
    except BrokenRuleError:
        raise
    except MemoryError as error:
        raise BrokenRuleError("does not fit into the memory that is available") from error
    except Exception as error:  # decoders raise anything on damaged files
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise BrokenRuleError(f"cannot be decoded, perhaps truncated ({reason})") from error


def _format(path: Path) -> Format:
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise BrokenRuleError(f"cannot be opened ({error.strerror})") from error
    if not head:
        raise BrokenRuleError("is empty (0 bytes)")
    for file_format in FORMATS:
        if head.startswith(file_format.magics):
            return file_format
    raise BrokenRuleError("is not an image that can be read: PNG, JPEG, BMP or TIFF")


def naming(path: Path, read: Callable[[Path], T]) -> T:
    """Return ``read(path)``; add the file's name to the rule that it breaks."""
    try:
        return read(Path(path))
    except BrokenRuleError as error:
        raise bad_file(Path(path), error) from error


def image_files(paths: Sequence[Path]) -> list[Path]:
    """Return the image files among the paths, folders replaced by the images directly in them.

    Raises:
        BadDataError: If a path does not exist, a folder holds no image, or two images get the same
            name from `names_of`, since what is computed from them is called by it.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        folder = path.is_dir() and not regions.is_zarr(path)
        inside = image_paths(path, recursive=False) if folder else [path]
        if not regions.split_name(path)[0].exists():
            raise bad_file(path, "does not exist")
        if not inside:
            hint = "; take its images/" if (path / "images").is_dir() else ""
            raise bad_file(path, f"holds no image ({' '.join(SUFFIXES)}){hint}")
        found += inside
    found = list(dict.fromkeys(found))
    first: dict[str, Path] = {}
    for path, name in names_of(found).items():
        if name in first:
            raise BadDataError(
                f"image files must have different stems, got {first[name]} and {path}"
            )
        first[name] = path
    return found


def stem(path: Path) -> str:
    """Return the name of an image without what says its format.

    Examples:
        >>> stem(Path("scans/a.ome.tif")), stem(Path("scans/b.c.png")), stem(Path("d.h5::raw"))
        ('a', 'b.c', 'd')
    """
    name = regions.split_name(path)[0].stem
    return name[:-4] if name.lower().endswith(".ome") else name


def long_stem(path: Path) -> str:
    """Return the stem of an image, and behind it what the array is called inside the file.

    Examples:
        >>> long_stem(Path("d.h5::s0/raw")), long_stem(Path("a.png"))
        ('d_s0_raw', 'a')
    """
    inside = (regions.split_name(path)[1] or "").replace("::", "/")
    return "_".join([stem(path), *(part for part in inside.split("/") if part)])


def names_of(paths: Sequence[Path]) -> dict[Path, str]:
    """Return what results of images are called: by stem, or by long stem where stems are equal."""
    times = Counter(map(stem, paths))
    return {path: stem(path) if times[stem(path)] == 1 else long_stem(path) for path in paths}


def image_paths(folder: Path, *, recursive: bool) -> list[Path]:
    """Return the files with an image suffix in a folder, sorted; hidden ones are passed over."""
    return [path for path in visible_files(folder, recursive) if path.suffix.lower() in SUFFIXES]


def visible_files(folder: Path, recursive: bool) -> list[Path]:
    """Return the files and Zarr folders in a folder, sorted, without hidden ones and what desktops leave."""
    found: list[Path] = []
    waiting = [folder]
    while waiting:
        for path in waiting.pop().iterdir():
            # Zarr images are folders; a link that leads nowhere is told when it is read.
            image = path.is_file() or path.suffix.lower() == ".zarr" or not path.exists()
            if not _visible(path.relative_to(folder)):
                continue
            if image:
                found.append(path)
            elif recursive and path.is_dir():
                waiting.append(path)
    return sorted(found)


def _visible(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and path.name.lower() not in ("thumbs.db", "desktop.ini")
