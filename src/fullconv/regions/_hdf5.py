"""Arrays in HDF5 files. A file is opened for each read, so nothing is shared between processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.errors import BadDataError
from fullconv.geometry import Box
from fullconv.regions._array import Source
from fullconv.regions._extras import extra, first_line
from fullconv.regions._raw import raw_read


def hdf5_source(path: Path, dataset: str | None = None) -> Source:
    """Return an array in an HDF5 file.

    Axes are those of the dimension labels (`h5py`'s ``dims``), as far as all have one.

    Args:
        path: The file.
        dataset: Path of the array in it; None if there is only one.
    """
    h5py = extra("h5py", "hdf5", path)
    try:
        with h5py.File(path, "r") as file:
            array = _dataset(path, file, dataset, h5py.Dataset)
            if array.shape is None:
                raise BadDataError(f"{path}: its array `{array.name}` holds nothing")
            labels = [str(dim.label).lower() for dim in array.dims]
            inside = str(array.name)
            shape, kind, chunks = tuple(array.shape), np.dtype(array.dtype), array.chunks
            # Of an array without chunks the library reads 64 KiB around each row.
            offset = None if chunks or array.external else array.id.get_offset()
    except OSError as error:
        raise BadDataError(f"{path}: cannot be read as HDF5 ({first_line(error)})") from error
    name = f"{path}::{inside.strip('/')}"

    def read(box: Box) -> npt.NDArray[Any]:
        try:
            with h5py.File(path, "r") as file:
                return np.asarray(file[inside][box.slices]).astype(
                    kind.newbyteorder("="), copy=False
                )
        except (OSError, KeyError) as error:
            raise BadDataError(f"{name}: {box} cannot be read ({first_line(error)})") from error

    return Source(
        name=name,
        axes="".join(label[:1] for label in labels) if all(labels) else "",
        shape=shape,
        dtype=kind.newbyteorder("="),
        chunks=tuple(chunks) if chunks else (*(1 for _ in shape[:-1]), shape[-1]),
        read=read if offset is None else raw_read(path, name, shape, kind, offset),
    )


def _dataset(path: Path, file: Any, name: str | None, kind: type) -> Any:
    found: list[str] = []

    def note(key: str, item: Any) -> None:
        if isinstance(item, kind):
            found.append(key)

    file.visititems(note)
    if name is None and len(found) == 1:
        return file[found[0]]
    if name is None or name.strip("/") not in found:
        got = (
            f"has no array `{name}`"
            if name
            else f"holds {len(found)} arrays; name one as {path}::NAME"
        )
        raise BadDataError(f"{path}: {got}; there are: {', '.join(found) or 'none'}")
    return file[name.strip("/")]
