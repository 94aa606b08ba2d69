"""Arrays of any size written as TIFF, tile after tile: BigTIFF where they need it, OME-TIFF, GeoTIFF."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.regions._tiff import NODATA

BIG_BYTES = 2**31
LETTERS = {"c": "C", "z": "Z", "y": "Y", "x": "X"}


def write_tiff(
    path: Path,
    levels: Sequence[Any],
    axes: str,
    *,
    tile: int,
    ome: bool = False,
    colormap: npt.NDArray[Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    nodata: float | None = None,
) -> None:
    """Write arrays as the resolutions of one image.

    Channels of a plane are samples of one page, as rasters have bands; in OME-TIFF, and of volumes, each
    has pages of its own.

    Args:
        path: The new file.
        levels: The arrays, largest first; only `ome` files take more than one.
        axes: Their axes, ``y`` and ``x`` last.
        tile: Side of a tile; a multiple of 16.
        ome: Whether to write OME metadata.
        colormap: Colours of the values of an 8-bit image, (3, 256) of 16 bits.
        facts: Of the image that this one lies over: ``geo`` tags, ``pixel_size``, ``unit``.
        nodata: The value that stands for nothing.
    """
    import tifffile

    facts = facts or {}
    size = sum(int(np.prod(a.shape)) * np.dtype(a.dtype).itemsize for a in levels)
    metadata: dict[str, Any] = {"axes": "".join(LETTERS[a] for a in axes)}
    if ome:
        for a, value in facts.get("pixel_size", {}).items():
            metadata[f"PhysicalSize{a.upper()}"] = value
        for a, unit in facts.get("unit", {}).items():
            metadata[f"PhysicalSize{a.upper()}Unit"] = _UNITS.get(unit, unit)
    tags = list(facts.get("geo", ()))
    if nodata is not None:
        text = f"{nodata:g}"
        tags.append((NODATA, 2, len(text) + 1, text, True))
    options: dict[str, Any] = {"tile": (tile, tile), "compression": "zlib"}
    options |= {"photometric": "minisblack"} if colormap is None else {
        "photometric": "palette", "colormap": colormap
    }  # fmt: skip
    bands = axes == "cyx" and not ome and levels[0].shape[0] > 1
    options |= {"planarconfig": "separate"} if bands else {}
    with tifffile.TiffWriter(path, bigtiff=size > BIG_BYTES, ome=ome) as file:
        for number, level in enumerate(levels):
            first = number == 0
            file.write(
                _tiles(level, tile),
                shape=level.shape,
                dtype=level.dtype,
                subifds=len(levels) - 1 if first else None,
                subfiletype=0 if first else 1,
                metadata=metadata if first and not bands and (ome or len(axes) > 2) else None,
                extratags=tags if first else None,
                **options,
            )


# OME-TIFF has signs for what OME-Zarr has words for.
_UNITS = {"micrometer": "µm", "nanometer": "nm", "millimeter": "mm", "meter": "m"}


def _tiles(level: Any, tile: int) -> Iterator[npt.NDArray[Any]]:
    """Yield the tiles of an array page by page, row by row, those at the ends filled up."""
    *outer, height, width = level.shape
    for place in product(*map(range, outer)):
        for y, x in product(range(0, height, tile), range(0, width, tile)):
            part = np.asarray(level[(*place, slice(y, y + tile), slice(x, x + tile))])
            if part.shape != (tile, tile):
                whole = np.zeros((tile, tile), part.dtype)
                whole[: part.shape[0], : part.shape[1]] = part
                part = whole
            yield part
