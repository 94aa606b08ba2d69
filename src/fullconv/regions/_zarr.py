"""Zarr arrays (formats 2 and 3) and OME-Zarr images (versions 0.4 and 0.5), in folders.

An OME-Zarr image has copies of itself in several resolutions, called by name; the first one is the
full resolution. Axes are those that the image names, or the array's ``dimension_names`` or
``_ARRAY_DIMENSIONS``.

A chunk that is not there is full of the fill value, as both formats have it. Where the metadata says
that there is none (``"fill_value": null``, format 2 only), it is missing, and reading it an error.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.errors import BadDataError
from fullconv.geometry import Box
from fullconv.regions._array import Read, Source

MARKS = ("zarr.json", ".zarray", ".zgroup")


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a Zarr array or group, by its metadata."""
    return path.is_dir() and any((path / mark).is_file() for mark in MARKS)


def zarr_source(path: Path, level: str | None = None) -> Source:
    """Return an array, or an image in a group, in one of its resolutions.

    Args:
        path: Folder of an array, an OME-Zarr image, or a group.
        level: Name of the array in the group; None for the full resolution.
    """
    node = _open(path)
    facts: dict[str, Any] = {}
    names = ""
    if not hasattr(node, "shape"):
        level, names, facts = _chosen(path, node, level)
        node = _member(path, node, level)
    elif level is not None:
        raise BadDataError(f"{path}: is a Zarr array, which has no parts, got `{level}`")
    name = str(path if level is None else path / level)
    kind = np.dtype(node.dtype)
    return Source(
        name=name,
        axes=names or _named(node),
        shape=tuple(node.shape),
        dtype=kind.newbyteorder("="),
        chunks=tuple(node.chunks),
        read=_reader(name, node),
        facts={**facts, "zarr_format": node.metadata.zarr_format},
    )


def _open(path: Path) -> Any:
    import zarr

    try:
        return zarr.open(str(path), mode="r")
    except Exception as error:  # whatever damaged metadata leads to
        raise BadDataError(f"{path}: cannot be opened as Zarr ({_first_line(error)})") from error


def _member(path: Path, group: Any, level: str) -> Any:
    try:
        found = group.get(level)
    except Exception as error:  # whatever damaged metadata leads to
        raise BadDataError(f"{path / level}: cannot be opened ({_first_line(error)})") from error
    if found is None or not hasattr(found, "shape"):
        there = ", ".join(sorted(name for name, _ in group.arrays())) or "none"
        raise BadDataError(f"{path}: has no array `{level}`; there are: {there}")
    return found


def _chosen(path: Path, group: Any, level: str | None) -> tuple[str, str, dict[str, Any]]:
    """Return which array of a group is meant, the letters of its axes, and the size of its px."""
    attributes = dict(group.attrs)
    images = (attributes.get("ome") or attributes).get("multiscales")
    if not images:
        arrays = sorted(name for name, _ in group.arrays())
        if level is None and len(arrays) != 1:
            raise BadDataError(
                f"{path}: is a Zarr group of several arrays; name one, such as "
                f"{path}::{arrays[0] if arrays else 'NAME'} (there are: {', '.join(arrays) or 'none'})"
            )
        return arrays[0] if level is None else level, "", {}
    try:
        axes = [a if isinstance(a, dict) else {"name": a} for a in images[0].get("axes", [])]
        levels = {row["path"]: row for row in images[0]["datasets"]}
        chosen = str(images[0]["datasets"][0]["path"] if level is None else level)
        letters = "".join(_letter(axis) for axis in axes)
        scale = _scale(levels.get(chosen, {}))
    except (KeyError, TypeError, IndexError) as error:
        raise BadDataError(f"{path}: its OME-Zarr metadata cannot be read ({error!r})") from error
    sizes = {
        a: (size, axis.get("unit"))
        for a, size, axis in zip(letters, scale, axes, strict=False)
        if a in "zyx"
    }
    facts: dict[str, Any] = {
        "ome": True,
        "levels": tuple(levels),
        "pixel_size": {a: size for a, (size, _) in sizes.items()},
        "unit": {a: unit for a, (_, unit) in sizes.items() if unit},
    }
    return chosen, letters, facts


def _letter(axis: dict[str, Any]) -> str:
    kind, name = axis.get("type"), str(axis["name"]).lower()
    return {"channel": "c", "time": "t"}.get(str(kind), name[:1])


def _scale(row: dict[str, Any]) -> list[float]:
    for change in row.get("coordinateTransformations", ()):
        if change["type"] == "scale":
            return [float(value) for value in change["scale"]]
    return []


def _named(array: Any) -> str:
    """Return the letters of an array's axes, if it names them all."""
    names = getattr(array.metadata, "dimension_names", None)
    names = names or array.attrs.get("_ARRAY_DIMENSIONS") or ()
    letters = [_ALIASES.get(name, name[:1]) for name in (str(n or "").lower() for n in names)]
    return "".join(letters) if all(letters) else ""


_ALIASES = {
    "band": "c", "bands": "c", "samples": "c", "row": "y", "rows": "y", "col": "x",
    "cols": "x", "column": "x", "columns": "x", "height": "y", "width": "x", "depth": "z", "lat": "y", "lon": "x",
    "latitude": "y", "longitude": "x",
}  # fmt: skip


def _reader(name: str, array: Any) -> Read:
    undefined = array.metadata.fill_value is None
    kind = np.dtype(array.dtype).newbyteorder("=")

    def read(box: Box) -> npt.NDArray[Any]:
        if undefined:
            _refuse_missing(name, array, box)
        try:
            return np.asarray(array[box.slices]).astype(kind, copy=False)
        except Exception as error:  # codecs raise anything
            raise BadDataError(
                f"{name}: {_damaged(array, box)} cannot be decoded, perhaps truncated "
                f"({_first_line(error)})"
            ) from error

    return read


def _chunks(array: Any, box: Box) -> list[tuple[int, ...]]:
    """Return the chunks that a box touches, as they lie on disk."""
    sizes = getattr(array, "shards", None) or array.chunks
    return list(
        product(
            *(range(a // c, -(-b // c)) for a, b, c in zip(box.start, box.stop, sizes, strict=True))
        )
    )


def _refuse_missing(name: str, array: Any, box: Box) -> None:
    """Raise for the first chunk that is neither there nor has a fill value."""
    root = Path(array.store_path.store.root) / array.store_path.path
    for place in _chunks(array, box):
        key = array.metadata.encode_chunk_key(place)
        if not (root / key).is_file():
            raise BadDataError(
                f"{name}: chunk {key} is missing, and the metadata state no fill value for it; "
                "restore the chunk, or set `fill_value` in .zarray"
            )


def _damaged(array: Any, box: Box) -> str:
    """Return the name of the first chunk of a box that cannot be read by itself."""
    sizes = getattr(array, "shards", None) or array.chunks
    for place in _chunks(array, box):
        part = tuple(
            slice(p * c, min((p + 1) * c, n))
            for p, c, n in zip(place, sizes, array.shape, strict=True)
        )
        try:
            array[part]
        except Exception:  # noqa: BLE001 - any of them is the one that is looked for
            return f"chunk {array.metadata.encode_chunk_key(place)}"
    return "a chunk"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
