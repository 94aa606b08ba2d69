"""Whole-slide images through OpenSlide, and rasters through rasterio (GDAL): one open file per process."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.errors import BadDataError
from fullconv.geometry import Box
from fullconv.regions._array import Source, level_number
from fullconv.regions._extras import extra, first_line


class _Handle:
    """An open file that is opened again in another process, and used by one thread at a time."""

    def __init__(self, opening: Callable[[], Any]) -> None:
        self._opening, self._lock = opening, Lock()
        self._found: tuple[int, Any] = (-1, None)

    def __call__(self, use: Callable[[Any], Any]) -> Any:
        """Return what a function makes of the open file."""
        if self._found[0] != os.getpid():
            self._lock = Lock()  # the one of another process may be held there
            self._found = os.getpid(), self._opening()
        with self._lock:
            return use(self._found[1])


def slide_source(path: Path, level: str | None = None) -> Source:
    """Return a whole-slide image as RGB on the colour that the scanner gives to empty glass.

    Args:
        path: A file that OpenSlide knows.
        level: Its number, ``0`` being the full resolution.
    """
    openslide = extra("openslide", "slides", path)
    opened = _Handle(lambda: openslide.OpenSlide(str(path)))
    try:
        sizes = opened(lambda slide: slide.level_dimensions)
        facts = opened(lambda slide: dict(slide.properties))
    except Exception as error:  # OpenSlide's errors and those of the system
        raise BadDataError(f"{path}: cannot be read as a slide ({first_line(error)})") from error
    number = level_number(path, level, len(sizes))
    scale = opened(lambda slide: slide.level_downsamples[number])
    glass = tuple(bytes.fromhex(facts.get("openslide.background-color", "ffffff")))
    width, height = sizes[number]

    def read(box: Box) -> npt.NDArray[Any]:
        (y, x), (rows, columns) = box.start[:2], box.shape[:2]
        corner = (round(x * scale), round(y * scale))
        try:
            picture = opened(lambda slide: slide.read_region(corner, number, (columns, rows)))
        except Exception as error:
            raise BadDataError(f"{path}: {box} cannot be read ({first_line(error)})") from error
        return _on_glass(np.asarray(picture), glass)[..., box.start[2] : box.stop[2]]

    def side(axis: str, usual: int) -> int:
        return int(facts.get(f"openslide.level[{number}].tile-{axis}", usual))

    per_px = {"y": facts.get("openslide.mpp-y"), "x": facts.get("openslide.mpp-x")}
    return Source(
        name=str(path) if level is None else f"{path}::{level}",
        axes="yxc",
        shape=(height, width, 3),
        dtype=np.dtype(np.uint8),
        chunks=(side("height", 1), side("width", width), 3),
        read=read,
        facts={
            "pixel_size": {a: float(v) * scale for a, v in per_px.items() if v},
            "unit": {a: "micrometer" for a, v in per_px.items() if v},
            "slide": True,
        },
    )


def _on_glass(picture: npt.NDArray[Any], glass: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return RGBA pixels laid over a colour, as RGB."""
    colour, alpha = picture[..., :3], picture[..., 3:]
    if (alpha == 255).all():
        return colour
    share = alpha.astype(np.float32) / 255
    mixed = colour * share + np.array(glass, np.float32) * (1 - share)
    return np.rint(mixed).astype(np.uint8)


def raster_source(path: Path, level: str | None = None) -> Source:
    """Return a raster that GDAL reads, bands being channels.

    Args:
        path: A file that GDAL knows.
        level: Number of an overview, ``0`` being the full resolution.
    """
    rasterio = extra("rasterio", "geo", path)

    def opening(**options: Any) -> Any:
        with warnings.catch_warnings():  # that a picture lies nowhere on Earth is no fault of it
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            return rasterio.open(path, **options)

    try:
        with opening() as raster:
            number = level_number(path, level, 1 + len(raster.overviews(1)))
    except rasterio.errors.RasterioError as error:
        raise BadDataError(f"{path}: cannot be read as a raster ({first_line(error)})") from error
    options = {} if number == 0 else {"overview_level": number - 1}
    opened = _Handle(lambda: opening(**options))
    from rasterio.windows import Window

    def read(box: Box) -> npt.NDArray[Any]:
        (bands, rows, columns) = ((a, b) for a, b in zip(box.start, box.stop, strict=True))
        window = Window.from_slices(rows, columns)
        try:
            return opened(lambda r: r.read(list(range(bands[0] + 1, bands[1] + 1)), window=window))
        except rasterio.errors.RasterioError as error:
            raise BadDataError(f"{path}: {box} cannot be read ({first_line(error)})") from error

    def facts(raster: Any) -> dict[str, Any]:
        return {
            "crs": raster.crs.to_wkt() if raster.crs else None,
            "transform": tuple(raster.transform)[:6],
            "nodata": raster.nodata,
        }

    shape, kinds, blocks = opened(lambda r: ((r.count, *r.shape), set(r.dtypes), r.block_shapes[0]))
    if len(kinds) > 1:
        raise BadDataError(f"{path}: bands must be of one type, got {', '.join(sorted(kinds))}")
    return Source(
        name=str(path) if level is None else f"{path}::{level}",
        axes="cyx",
        shape=shape,
        dtype=np.dtype(kinds.pop()),
        chunks=(1, *blocks),
        read=read,
        facts=opened(facts),
    )
