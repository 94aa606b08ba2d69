"""TIFF files in tiles or strips, BigTIFF and OME-TIFF, by their tiles.

Reduced copies inside the file (OME-TIFF pyramids, the overviews of cloud-optimised GeoTIFF) are its
levels, ``0`` being the full resolution. Pages that say which px are valid (transparency masks) are
passed over. A tile of no bytes is one of the stated nodata value; where
none is stated, it is missing, and reading it an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fullconv.errors import BadDataError
from fullconv.geometry import Box
from fullconv.regions._array import MOST_CHANNELS, Source, level_number
from fullconv.regions._raw import raw_read

if TYPE_CHECKING:
    import tifffile

LETTERS = {"S": "c", "C": "c", "Z": "z", "Y": "y", "X": "x", "T": "t"}
# Pages of which the file does not say what they are: channels, if they are few.
UNNAMED = "QI"
JPEG = {6, 7, 34892, 33007}
# What ties pixels to places on Earth: scale, tie points, transformation, and the keys of the CRS.
GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737)
NODATA, ORIENTATION = 42113, 274


def tiff_source(path: Path, level: str | None = None) -> Source:
    """Return the image in a TIFF file, in one of its resolutions.

    Raises:
        BadDataError: If the file holds several images, or cannot be read.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            levels = _levels(path, file)
            return _source(path, file, levels[0], levels[level_number(path, level, len(levels))])
    except BadDataError:
        raise
    except Exception as error:  # tifffile raises anything on damaged files
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise BadDataError(f"{path}: cannot be read, perhaps truncated ({reason})") from error


def _levels(path: Path, file: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    """Return the resolutions of the image in a file, the full one first."""
    images = [s for s in file.series if not s.keyframe.is_mask]
    full = [s for s in images if not s.keyframe.is_reduced]
    if len(full) != 1:
        raise BadDataError(
            f"{path}: a TIFF file must hold one image, got {len(full)} of different size or type; "
            "save each to a file of its own"
        )
    reduced = [s for s in images if s.keyframe.is_reduced and s.ndim == full[0].ndim]
    reduced.sort(key=lambda s: -prod(s.shape))
    return list(full[0].levels) if len(full[0].levels) > 1 else [full[0], *reduced]


def _source(
    path: Path,
    file: tifffile.TiffFile,
    full: tifffile.TiffPageSeries,
    series: tifffile.TiffPageSeries,
) -> Source:
    page, axes = series.keyframe, str(series.axes)
    pages = _Pages.of(path, series)
    shape = tuple(series.shape)
    kind = np.dtype(series.dtype)
    if pages is None:
        if series.dataoffset is None:
            raise BadDataError(f"{path}: pages of axes {axes} {shape} cannot be read one by one")
        stored = np.dtype(f"{file.byteorder}{kind.char}")
        read = raw_read(path, str(path), shape, stored, series.dataoffset)
        chunks = (*(1 for _ in shape[:-1]), shape[-1])
    else:
        read, chunks = pages, pages.chunks
    return Source(
        name=str(path),
        axes=_letters(axes, shape),
        shape=shape,
        dtype=kind.newbyteorder("="),
        chunks=chunks,
        read=read,
        facts={
            "tiff": "ome" if file.is_ome else "geo" if page.is_geotiff else "plain",
            "pages": axes,
            "photometric": getattr(page.photometric, "name", ""),
            "colormap": None if page.colormap is None else np.asarray(page.colormap),
            "orientation": page.tags.valueof(ORIENTATION, default=1),
            "geo": _geo(page),
            "nodata": page.nodata if NODATA in page.tags else None,
            **_pixel_size(file, _reduction(full, series)),
        },
    )


def _letters(axes: str, shape: tuple[int, ...]) -> str:
    """Return a letter for each axis; none where the file does not say what its many pages are."""
    unnamed = [size for a, size in zip(axes, shape, strict=True) if a in UNNAMED]
    if any(size > MOST_CHANNELS for size in unnamed):
        return ""
    return "".join("c" if a in UNNAMED else LETTERS.get(a, "?") for a in axes)


def _geo(page: tifffile.TiffPage) -> tuple[tuple[Any, ...], ...]:
    """Return the tags that tie the image to Earth, as `tifffile` writes them."""
    found: list[tuple[Any, ...]] = []
    for code in GEO_TAGS:
        if tag := page.tags.get(code):
            found.append((code, int(tag.dtype), tag.count, tag.value, True))
    return tuple(found)


def _reduction(full: tifffile.TiffPageSeries, series: tifffile.TiffPageSeries) -> dict[str, int]:
    """Return how many px of the full resolution a px of another one stands for, by axis."""
    axes = zip(str(full.axes).lower(), full.shape, series.shape, strict=True)
    return {a: round(size / reduced) for a, size, reduced in axes}


def _pixel_size(file: tifffile.TiffFile, reduction: dict[str, int]) -> dict[str, Any]:
    """Return the size of a pixel by axis, from OME metadata, which state that of the full resolution."""
    text = file.ome_metadata or ""
    sizes = {
        a.lower(): float(v) * reduction.get(a.lower(), 1)
        for a, v in re.findall(r'PhysicalSize([XYZ])="([\d.eE+-]+)"', text)
    }
    units = {a.lower(): u for a, u in re.findall(r'PhysicalSize([XYZ])Unit="([^"]+)"', text)}
    return {"pixel_size": sizes, "unit": units} if sizes else {}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pages:
    """The tiles of the pages of an image; calling it reads a box.

    Attributes:
        path: The file.
        outer: Shape of the axes along which pages lie, before those within a page.
        inner: Axes within a page: Y, X and the samples, S, before or behind them, if any.
        shape: Shape of a page, likewise.
        tile: (rows, columns) of a tile or strip.
        grid: Tiles along both, (down, across).
        places: For each page, offset and size of its tiles in the file.
        decode: tifffile's function for a tile's bytes.
        tables: Extra arguments of it.
        nodata: What a tile without bytes is full of; None if that is not stated.
        kind: Type of the numbers.
    """

    path: Path
    outer: tuple[int, ...]
    inner: str
    shape: tuple[int, ...]
    tile: tuple[int, int]
    grid: tuple[int, int]
    places: Sequence[tuple[Sequence[int], Sequence[int]]]
    decode: Callable[..., Any]
    tables: dict[str, Any]
    nodata: Any
    kind: np.dtype[Any]

    @staticmethod
    def of(path: Path, series: tifffile.TiffPageSeries) -> _Pages | None:
        """Return the pages of an image; None if it is one run of numbers instead."""
        page = series.keyframe
        axes, inner = str(series.axes), str(page.axes)
        pages = list(series.pages)
        outer = tuple(series.shape[: len(axes) - len(inner)])
        fits = axes.endswith(inner) and prod(outer) == len(pages) and None not in pages
        if not fits or page.imagedepth != 1 or not set(inner) <= set("SYX"):
            return None
        tiled = page.is_tiled
        tile = (page.tilelength, page.tilewidth) if tiled else (page.rowsperstrip, page.imagewidth)
        tile = (
            (min(tile[0], page.imagelength), min(tile[1], page.imagewidth)) if not tiled else tile
        )
        return _Pages(
            path=path,
            outer=outer,
            inner=inner,
            shape=tuple(page.shape),
            tile=tile,
            grid=(-(-page.imagelength // tile[0]), -(-page.imagewidth // tile[1])),
            places=[(tuple(p.dataoffsets), tuple(p.databytecounts)) for p in pages if p],
            decode=page.decode,
            tables={"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
            if page.compression in JPEG
            else {},
            nodata=page.nodata if NODATA in page.tags else None,
            kind=np.dtype(page.dtype),
        )

    @cached_property
    def chunks(self) -> tuple[int, ...]:
        """What is kept together along all axes."""
        sizes = {"Y": self.tile[0], "X": self.tile[1]}
        separate = self.inner.startswith("S")
        inner = (
            sizes.get(a, 1 if separate else size)
            for a, size in zip(self.inner, self.shape, strict=True)
        )
        return (*(1 for _ in self.outer), *inner)

    def __call__(self, box: Box) -> npt.NDArray[Any]:
        """Return a box, read tile by tile."""
        found = np.empty(box.shape, self.kind)
        num = len(self.outer)
        rest = Box(start=box.start[num:], stop=box.stop[num:])
        outer = [range(a, b) for a, b in zip(box.start[:num], box.stop[:num], strict=True)]
        with self.path.open("rb", buffering=0) as file:
            for place in product(*outer):
                number = 0
                for p, size in zip(place, self.outer, strict=True):
                    number = number * size + p
                at = tuple(p - a for p, a in zip(place, box.start, strict=False))
                self._fill(file, number, rest, found[at])
        return found

    def _fill(self, file: Any, number: int, box: Box, out: npt.NDArray[Any]) -> None:
        """Read a box of one page into an array."""
        ranges = {a: (i, j) for a, i, j in zip(self.inner, box.start, box.stop, strict=True)}
        separate = self.inner.startswith("S")
        samples = range(*ranges["S"]) if separate else range(1)
        (y0, y1), (x0, x1) = ranges["Y"], ranges["X"]
        height, width = self.tile
        down = range(y0 // height, -(-y1 // height))
        across = range(x0 // width, -(-x1 // width))
        for s, i, j in product(samples, down, across):
            tile = self._tile(file, number, (s * self.grid[0] + i) * self.grid[1] + j)
            rows = slice(max(y0, i * height), min(y1, (i + 1) * height))
            columns = slice(max(x0, j * width), min(x1, (j + 1) * width))
            part = tile[
                rows.start - i * height : rows.stop - i * height,
                columns.start - j * width : columns.stop - j * width,
            ]
            target = out[s - samples.start] if separate else out
            target = target[
                rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0
            ]
            if separate or "S" not in ranges:
                target[...] = part[..., 0]
            else:
                target[...] = part[..., slice(*ranges["S"])]

    def _tile(self, file: Any, number: int, index: int) -> npt.NDArray[Any]:
        """Return a tile of a page, (rows, columns, samples)."""
        offset, count = (values[index] for values in self.places[number])
        where = f"tile {index}" + (f" of page {number}" if len(self.places) > 1 else "")
        if count == 0:
            if self.nodata is None:
                raise BadDataError(
                    f"{self.path}: {where} is missing, and the file states no nodata value for it"
                )
            return np.broadcast_to(np.asarray(self.nodata, self.kind), (*self.tile, self._samples))
        file.seek(offset)
        data = file.read(count)
        if len(data) != count:
            raise BadDataError(
                f"{self.path}: is cut off: {where} should end at byte {offset + count}, and the file "
                f"ends at {offset + len(data)}"
            )
        try:
            tile = self.decode(data, index, **self.tables)[0]
        except Exception as error:  # decoders raise anything
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise BadDataError(f"{self.path}: {where} cannot be decoded ({reason})") from error
        return tile[0]

    @property
    def _samples(self) -> int:
        contiguous = self.inner.endswith("S") and not self.inner.startswith("S")
        return self.shape[-1] if contiguous else 1
