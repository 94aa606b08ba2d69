"""Images written as OME-Zarr: the full resolution window by window, then its pyramid.

Format 3 holds version 0.5 of the metadata, format 2 version 0.4, and the axes are called by letter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from fullconv.regions._array import SPATIAL

VERSIONS = {2: "0.4", 3: "0.5"}
# Pyramids end when an image fits a screen.
SMALLEST_PX = 1024
# Pieces of a level are made from pieces of the one below of about so many numbers.
PIECE = 2**23


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """What an output is like.

    Attributes:
        axes: One letter per axis; ``c`` first, if there are channels.
        shape: Along each axis.
        dtype: As NumPy names it.
        chunks: Along each axis.
        zarr_format: 2 or 3.
        facts: ``pixel_size`` and ``unit`` by spatial axis, as far as they are known.
        attributes: What else is said of the image, beside ``multiscales``.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]
    zarr_format: int = 3
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])


def create(path: Path, kind: Format) -> Any:
    """Return an empty array for the full resolution of a new OME-Zarr image."""
    import zarr

    group = zarr.create_group(str(path), zarr_format=kind.zarr_format)  # pyright: ignore[reportArgumentType] (2 or 3)
    array = _level(group, 0, kind.shape, kind)
    _describe(group, 1, kind, "")
    return array


def full(path: Path) -> Any:
    """Return the array of the full resolution, to be written."""
    import zarr

    return zarr.open_array(str(path / "0"), mode="r+")


def add_pyramid(path: Path, kind: Format, halved: str = SPATIAL) -> int:
    """Add the lower resolutions; return how many there are then.

    Args:
        path: The image, of which there is the full resolution.
        kind: What it is like.
        halved: Axes along which a resolution has every second position of the one below.
    """
    import zarr

    group = zarr.open_group(str(path), mode="r+")
    below: Any = group["0"]
    count = 1
    steps = tuple(2 if a in halved else 1 for a in kind.axes)
    while max(below.shape[-2:]) > SMALLEST_PX:
        shape = tuple(-(-n // s) for n, s in zip(below.shape, steps, strict=True))
        above = _level(group, count, shape, kind)
        for place in _pieces(shape, kind.chunks):
            source = tuple(
                slice(p.start * s, p.stop * s) for p, s in zip(place, steps, strict=True)
            )
            part = np.asarray(below[source])
            above[place] = part[tuple(slice(None, None, s) for s in steps)]
        below, count = above, count + 1
    _describe(group, count, kind, halved)
    for leftover in path.rglob("*.partial"):  # of a process that was killed while it wrote a chunk
        leftover.unlink()
    return count


def _level(group: Any, number: int, shape: tuple[int, ...], kind: Format) -> Any:
    names = {"dimension_names": list(kind.axes)} if kind.zarr_format == 3 else {}
    return group.create_array(
        str(number),
        shape=shape,
        chunks=tuple(min(c, n) for c, n in zip(kind.chunks, shape, strict=True)),
        dtype=kind.dtype,
        fill_value=0,
        chunk_key_encoding={"name": "default" if names else "v2", "separator": "/"},
        overwrite=True,
        **names,
    )


def _pieces(shape: tuple[int, ...], chunks: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Yield pieces of whole chunks, longer along the last axis."""
    sides = list(chunks)
    while np.prod(sides) < PIECE // 4 and sides[-1] < shape[-1]:
        sides[-1] *= 2
    starts = [range(0, n, s) for n, s in zip(shape, sides, strict=True)]
    for start in product(*starts):
        yield tuple(slice(a, min(a + s, n)) for a, s, n in zip(start, sides, shape, strict=True))


def _describe(group: Any, num_levels: int, kind: Format, halved: str) -> None:
    sizes: Mapping[str, float] = kind.facts.get("pixel_size", {})
    units: Mapping[str, str] = kind.facts.get("unit", {})
    axes: list[dict[str, str]] = [
        {"name": "c", "type": "channel"}
        if a == "c"
        else {"name": a, "type": "space", **({"unit": units[a]} if a in units else {})}
        for a in kind.axes
    ]
    levels = [
        {
            "path": str(k),
            "coordinateTransformations": [
                {
                    "type": "scale",
                    "scale": [sizes.get(a, 1.0) * (2**k if a in halved else 1) for a in kind.axes],
                }
            ],
        }
        for k in range(num_levels)
    ]
    version = VERSIONS[kind.zarr_format]
    images: dict[str, Any] = {"axes": axes, "datasets": levels}
    if kind.zarr_format == 2:
        content = {"multiscales": [images | {"version": version}], **kind.attributes}
        group.attrs.update(content)
    else:
        group.attrs.update(
            {"ome": {"version": version, "multiscales": [images], **kind.attributes}}
        )
