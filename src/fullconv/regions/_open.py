"""Which format a path is of, and which array in it is meant: ``PATH`` or ``PATH::NAME``.

Behind the colons stands the level of a pyramid (``slide.svs::2``, ``image.ome.zarr::1``) or the array
in a file that holds several (``scan.h5::raw``). An array in a Zarr folder has a path of its own, too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fullconv.errors import BadDataError, BadOutputError
from fullconv.regions._array import LazyArray, Source, arranged
from fullconv.regions._hdf5 import hdf5_source
from fullconv.regions._raw import npy_source
from fullconv.regions._slides import raster_source, slide_source
from fullconv.regions._tiff import tiff_source
from fullconv.regions._zarr import is_zarr, zarr_source

Opener = Callable[[Path, str | None], Source]

TIFF_SUFFIXES = (".tif", ".tiff")
HDF5_SUFFIXES = (".h5", ".hdf5")
SLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide")
RASTER_SUFFIXES = (".vrt", ".jp2", ".img")
SUFFIXES = (*TIFF_SUFFIXES, *HDF5_SUFFIXES, *SLIDE_SUFFIXES, *RASTER_SUFFIXES, ".npy", ".zarr")


def split_name(path: Path | str) -> tuple[Path, str | None]:
    """Return a path, and the name behind ``::``, if there is one.

    Examples:
        >>> split_name("scans/a.h5::raw/volume")
        (PosixPath('scans/a.h5'), 'raw/volume')
    """
    text, colons, name = str(path).partition("::")
    return Path(text), name if colons else None


def check_output(path: Path) -> None:
    """Refuse a path that could be written, but not be read again.

    Raises:
        BadOutputError: If what stands behind ``::`` would be taken for the name of an array in a file.
    """
    if "::" in str(path):
        better = str(path).replace("::", "_")
        raise BadOutputError(
            f"`out` must have no `::`, behind which the name of an array in a file stands, got {path}; "
            f"call it {better}"
        )


def opens(path: Path | str) -> bool:
    """Return whether a path is of a format that is read by boxes, by its name; it need not exist."""
    return split_name(path)[0].suffix.lower() in SUFFIXES or is_zarr(split_name(path)[0])


def open_array(path: Path | str, *, axes: str | None = None) -> LazyArray:
    """Return the array in a file, `(channels, *spatial)`; nothing but what describes it is read.

    Args:
        path: A file or Zarr folder, if need be with ``::`` and the name of a level or an array.
        axes: A letter of ``czyx`` for each axis, where the file names none and cannot be guessed
            (channels come first or last, and are at most 16).

    Raises:
        BadDataError: If there is no such file, or it cannot be read by boxes.

    Examples:
        >>> import numpy as np, tempfile
        >>> path = Path(tempfile.mkdtemp()) / "image.npy"
        >>> np.save(path, np.zeros((600, 500, 3), np.uint8))
        >>> image = open_array(path)
        >>> image.shape, image[:, 10:20, 30:45].shape
        ((3, 600, 500), (3, 10, 15))
    """
    file, name = split_name(path)
    if not file.exists():
        raise BadDataError(f"{file}: does not exist")
    return arranged(_opener(file)(file, name), axes).reopened_by(_again, str(path), axes)


def _again(path: str, axes: str | None) -> LazyArray:
    return open_array(path, axes=axes)


def _opener(path: Path) -> Opener:
    suffix = path.suffix.lower()
    if path.is_dir():
        if is_zarr(path):
            return zarr_source
        raise BadDataError(f"{path}: is a folder, and neither a Zarr array nor an OME-Zarr image")
    known: dict[str, Opener] = {
        **dict.fromkeys(TIFF_SUFFIXES, tiff_source),
        **dict.fromkeys(HDF5_SUFFIXES, hdf5_source),
        **dict.fromkeys(SLIDE_SUFFIXES, slide_source),
        **dict.fromkeys(RASTER_SUFFIXES, raster_source),
        ".npy": _npy,
    }
    if suffix not in known:
        raise BadDataError(
            f"{path}: cannot be read by boxes; formats that can end in {', '.join(SUFFIXES)}"
        )
    return known[suffix]


def _npy(path: Path, name: str | None) -> Source:
    if name is not None:
        raise BadDataError(f"{path}: holds one array, which has no name, got `{name}`")
    return npy_source(path)
