"""One array in many formats, written by their own libraries, and what was read of a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import rasterio
import tifffile
import zarr

Write = Callable[[Path, np.ndarray], Path]


def zarr_array(path: Path, array: np.ndarray, **options: Any) -> Path:
    options = {"dimension_names": ["c", "y", "x"]} | options
    if options.get("zarr_format") == 2:
        options.pop("dimension_names")
    found = zarr.create_array(str(path), shape=array.shape, dtype=array.dtype, **options)
    found[...] = array
    return path


def ome_zarr(path: Path, array: np.ndarray, version: int) -> Path:
    """A pyramid of two levels with axes t, c, y, x; times are one."""
    group = zarr.create_group(str(path), zarr_format=version)
    rows = []
    for k, level in enumerate((array, array[..., ::2, ::2])):
        stored = group.create_array(
            str(k), shape=(1, *level.shape), chunks=(1, 1, 64, 48), dtype=array.dtype
        )
        stored[...] = level[None]
        scale = [1, 1, 0.5 * 2**k, 0.25 * 2**k]
        rows.append(
            {"path": str(k), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
    axes += [{"name": a, "type": "space", "unit": "micrometer"} for a in "yx"]
    images = [{"axes": axes, "datasets": rows, "version": {2: "0.4", 3: "0.5"}[version]}]
    group.attrs.update(
        {"multiscales": images} if version == 2 else {"ome": {"multiscales": images}}
    )
    return path


def tiff(path: Path, array: np.ndarray, *, last: bool = True, **options: Any) -> Path:
    pixels = np.moveaxis(array, 0, -1) if last else array
    planar = {} if last else {"planarconfig": "separate"}
    tifffile.imwrite(path, pixels, photometric="rgb", **planar, **options)
    return path


def ome_tiff(path: Path, array: np.ndarray) -> Path:
    """A pyramid of two levels, a page for each channel."""
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as file:
        options = {"tile": (64, 48), "photometric": "minisblack", "compression": "zlib"}
        axes = {"axes": "CYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}
        file.write(array, subifds=1, metadata=axes, **options)
        file.write(array[:, ::2, ::2], subfiletype=1, **options)
    return path


def hdf5(path: Path, array: np.ndarray, **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        stored = file.create_dataset("scans/raw", data=array, **options)
        for k, label in enumerate("cyx"):
            stored.dims[k].label = label
    return path


def geotiff(path: Path, array: np.ndarray, **options: Any) -> Path:
    transform = rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 5_800_000)
    count, height, width = array.shape
    kind: dict[str, Any] = {"driver": "GTiff", "count": count, "dtype": array.dtype}
    kind |= {"width": width, "height": height, "crs": "EPSG:32632", "transform": transform}
    with rasterio.open(path, "w", **(kind | options)) as file:
        file.write(array)
    return path


def npy(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


# Suffix and writer of each; all of them hold an array (3, 301, 277) of uint8.
FORMATS: dict[str, tuple[str, Write]] = {
    "zarr-2": (".zarr", lambda p, a: zarr_array(p, a, zarr_format=2, chunks=(1, 64, 48))),
    "zarr-3": (".zarr", lambda p, a: zarr_array(p, a, chunks=(3, 64, 48))),
    "zarr-3-shards": (
        ".zarr",
        lambda p, a: zarr_array(p, a, chunks=(3, 32, 32), shards=(3, 128, 128)),
    ),
    "ome-zarr-0.4": (".ome.zarr", lambda p, a: ome_zarr(p, a, 2)),
    "ome-zarr-0.5": (".ome.zarr", lambda p, a: ome_zarr(p, a, 3)),
    "tiff-tiles": (".tif", lambda p, a: tiff(p, a, tile=(64, 48), compression="zlib")),
    "tiff-jpeg-like-lzw": (".tif", lambda p, a: tiff(p, a, tile=(32, 32), compression="lzw", predictor=True)),
    "tiff-strips": (".tif", lambda p, a: tiff(p, a, rowsperstrip=17, compression="zlib")),
    "tiff-plain": (".tif", tiff),
    "tiff-planar": (".tif", lambda p, a: tiff(p, a, last=False, tile=(64, 48))),
    "bigtiff": (".tif", lambda p, a: tiff(p, a, bigtiff=True, tile=(64, 48), byteorder=">")),
    "ome-tiff": (".ome.tif", ome_tiff),
    "geotiff": (".tif", lambda p, a: geotiff(p, a, tiled=True, blockxsize=64, blockysize=64)),
    "hdf5": (".h5", lambda p, a: hdf5(p, a, chunks=(1, 64, 48), compression="gzip")),
    "hdf5-plain": (".h5", hdf5),
    "npy": (".npy", npy),
    "npy-last": (".npy", lambda p, a: npy(p, np.ascontiguousarray(np.moveaxis(a, 0, -1)))),
    "npy-fortran": (".npy", lambda p, a: npy(p, np.asfortranarray(a))),
    "raster": (".img", lambda p, a: geotiff(p, a, driver="HFA")),
}  # fmt: skip


def write(name: str, folder: Path, array: np.ndarray) -> Path:
    suffix, writer = FORMATS[name]
    return writer(folder / f"image{suffix}", array)


def bytes_read() -> int:
    """What this process has asked the system to read so far: Linux counts it."""
    text = Path("/proc/self/io").read_text()
    return int(text.split("rchar:")[1].split()[0])
