"""What is kept on disk of the map of an image: labels, probabilities, and in which files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fullconv.errors import BadOutputError
from fullconv.images import ClassTable, codes_of_positions, colormap, palette
from fullconv.regions import Format, LazyArray, add_pyramid, full, open_array, write_tiff

Progress = Callable[[int, int], None]
Kind = Literal["labels", "probabilities", "quantised"]
FileKind = Literal["zarr", "tiff", "ome-tiff"]
Reduce = Callable[[Tensor, npt.NDArray[np.bool_] | None], npt.NDArray[Any]]

# Resolutions of OME-TIFF hang on the pages of the full one: all have as many.
HALVED: dict[FileKind, str] = {"zarr": "zyx", "ome-tiff": "yx"}
# Of probabilities where an image has no data: no class has it.
NO_SHARE = -1
SUFFIXES: dict[FileKind, str] = {"zarr": ".zarr", "tiff": ".tif", "ome-tiff": ".ome.tif"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What is wanted of a map.

    Attributes:
        labels: Where the label image goes; None if it is not wanted.
        probabilities: Where the probabilities of all classes go, likewise.
        quantised: Whether probabilities are 8-bit numbers, `round(255 p)`, instead of float16.
        classes: What mask indices and colours the classes have; None to number them.
    """

    labels: Path | None = None
    probabilities: Path | None = None
    quantised: bool = False
    classes: ClassTable | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where things go; the first one stands for all."""
        return tuple(path for path in (self.labels, self.probabilities) if path is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Product:
    """One output of a prediction.

    Attributes:
        name: ``labels`` or ``probabilities``.
        target: Its path, in the end.
        file: Its format.
        kind: What the array is like.
        reduce: Makes the array of a window of its logits `(classes, *units)`, and of where the image
            has no data `(*units)`, if it says so.
        facts: Of the image.
        colours: As TIFF files have them; None for none.
        nodata: The value that stands for no data; None for none.
    """

    name: str
    target: Path
    file: FileKind
    kind: Format
    reduce: Reduce
    facts: Mapping[str, Any]
    colours: npt.NDArray[np.uint16] | None = None
    nodata: int | None = None

    def array(self, folder: Path) -> Any:
        """Return the array that is being written, in the folder of unfinished outputs."""
        return full(self._staged(folder))

    def path(self, folder: Path) -> Path:
        """Return where the finished output lies before it gets its name."""
        staged = self._staged(folder)
        return staged if self.file == "zarr" else folder / f"{self.name}{SUFFIXES[self.file]}"

    def finish(self, folder: Path) -> Path:
        """Make the output of the array, all of whose windows are written; return where it lies."""
        staged = self._staged(folder)
        count = 1 if self.file == "tiff" else add_pyramid(staged, self.kind, HALVED[self.file])
        if self.file == "zarr":
            return staged
        made = self.path(folder)
        write_tiff(
            made,
            [open_level(staged, level, self.kind.axes) for level in range(count)],
            self.kind.axes,
            tile=self.kind.chunks[-1],
            ome=self.file == "ome-tiff",
            colormap=self.colours,
            facts=self.facts,
            nodata=self.nodata,
        )
        if self.facts.get("transform") is not None:
            _tie_to_earth(made, self.facts, self.nodata)
        return made

    def _staged(self, folder: Path) -> Path:
        return folder / f"{self.name}.zarr"


def open_level(path: Path, level: int, axes: str) -> Any:
    """Return one resolution of an image that is being made, as an array without added axes."""
    found = open_array(f"{path}::{level}")
    if axes.startswith("c"):
        return found
    return _Plain(found)


class _Plain:
    """A lazy array without its channel axis of one."""

    def __init__(self, array: LazyArray) -> None:
        self._array = array
        self.shape, self.dtype = array.shape[1:], array.dtype

    def __getitem__(self, place: Any) -> npt.NDArray[Any]:
        return self._array[(0, *place)]


def file_kind(path: Path) -> FileKind:
    """Return the format of an output by its name.

    Raises:
        BadOutputError: If it is none that is written window by window.
    """
    name = path.name.lower()
    if name.endswith((".ome.tif", ".ome.tiff")):
        return "ome-tiff"
    if name.endswith((".tif", ".tiff")):
        return "tiff"
    if name.endswith(".zarr"):
        return "zarr"
    raise BadOutputError(f"`out` must end in .zarr, .tif or .ome.tif, got {path.name}")


def products(
    wanted: Wanted,
    image: LazyArray,
    *,
    num_classes: int,
    map_shape: tuple[int, ...],
    chunks: tuple[int, ...],
) -> tuple[Product, ...]:
    """Return what will be written of an image."""
    classes = wanted.classes or ClassTable.default(num_classes)
    same_px = map_shape == image.shape[1:]
    facts = image.facts if same_px else {}
    some_nodata = facts.get("nodata") is not None
    found: list[Product] = []
    if wanted.labels is not None:
        found.append(_labels(wanted.labels, image, classes, map_shape, chunks, facts))
    if wanted.probabilities is not None:
        ome = file_kind(wanted.probabilities) == "ome-tiff"  # which knows no float16
        dtype = "uint8" if wanted.quantised else "float32" if ome else "float16"
        kind = _kind(
            image, f"c{image.spatial}", (num_classes, *map_shape), dtype, (1, *chunks), facts
        )
        found.append(
            Product(
                name="probabilities",
                target=wanted.probabilities,
                file=file_kind(wanted.probabilities),
                kind=kind,
                reduce=_quantised if wanted.quantised else _shares if ome else _half_shares,
                facts=facts,
                nodata=NO_SHARE if some_nodata and not wanted.quantised else None,
            )
        )
    return tuple(found)


def _labels(
    path: Path,
    image: LazyArray,
    classes: ClassTable,
    map_shape: tuple[int, ...],
    chunks: tuple[int, ...],
    facts: Mapping[str, Any],
) -> Product:
    some_nodata = facts.get("nodata") is not None
    codes = codes_of_positions(classes, some_ignored=some_nodata)
    ignored = codes[classes.ignore]

    def reduce(logits: Tensor, nothing: npt.NDArray[np.bool_] | None) -> npt.NDArray[Any]:
        found = codes[logits.argmax(0).cpu().numpy()]
        if nothing is not None:
            found[nothing] = ignored
        return found

    small = codes.dtype == np.uint8
    colours = [
        {"label-value": code, "rgba": [*colour, 255]}
        for code, colour in zip(classes.indices, classes.colours, strict=True)
    ]
    label = {"image-label": {"colors": colours}}
    kind = _kind(image, image.spatial, map_shape, codes.dtype.name, chunks, facts, label)
    file = file_kind(path)
    return Product(
        name="labels",
        target=path,
        file=file,
        kind=kind,
        reduce=reduce,
        facts=facts,
        colours=colormap(palette(classes)) if small and file == "tiff" else None,
        nodata=int(ignored) if some_nodata else None,
    )


def _kind(
    image: LazyArray,
    axes: str,
    shape: tuple[int, ...],
    dtype: str,
    chunks: tuple[int, ...],
    facts: Mapping[str, Any],
    attributes: Mapping[str, Any] | None = None,
) -> Format:
    return Format(
        axes=axes,
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        zarr_format=image.facts.get("zarr_format", 3),
        facts=facts,
        attributes=attributes or {},
    )


def _half_shares(logits: Tensor, nothing: npt.NDArray[np.bool_] | None) -> npt.NDArray[Any]:
    return _but(logits.float().softmax(0).half().cpu().numpy(), nothing, NO_SHARE)


def _shares(logits: Tensor, nothing: npt.NDArray[np.bool_] | None) -> npt.NDArray[Any]:
    return _but(logits.float().softmax(0).cpu().numpy(), nothing, NO_SHARE)


def _quantised(logits: Tensor, nothing: npt.NDArray[np.bool_] | None) -> npt.NDArray[Any]:
    """Return shares of 255; where there are no data all are 0, as elsewhere they cannot be."""
    return _but(logits.float().softmax(0).mul_(255).round_().byte().cpu().numpy(), nothing, 0)


def _but(
    shares: npt.NDArray[Any], nothing: npt.NDArray[np.bool_] | None, value: int
) -> npt.NDArray[Any]:
    if nothing is not None:
        shares[:, nothing] = value
    return shares


def bytes_per_unit(wanted: Wanted, num_classes: int) -> float:
    """Return what is held of each unit of a window while its outputs are made and written."""
    labels = 8 + 3 * 2 if wanted.labels is not None else 0  # argmax is of 64 bits
    shares = num_classes * (4 + 3 * (1 if wanted.quantised else 4))
    return labels + (shares if wanted.probabilities is not None else 0)


def chunk_choices(axes: int, *, pages: bool) -> list[tuple[int, ...]]:
    """Return the chunks that outputs may have, in units: large ones first.

    Args:
        axes: Spatial axes of the map.
        pages: Whether volumes are written page by page.
    """
    if axes == 1:
        return [(n,) for n in (2**18, 2**14, 2**10)]
    if axes == 2:
        return [(n, n) for n in (1024, 512, 256, 128, 64, 32)]
    return [((1 if pages else n), n, n) for n in (128, 64, 32, 16)]


def chunk_bytes(product: Product) -> int:
    """Return the size of a chunk of an output in memory."""
    return prod(product.kind.chunks) * np.dtype(product.kind.dtype).itemsize


def _tie_to_earth(path: Path, facts: Mapping[str, Any], nodata: int | None) -> None:
    """Write coordinate system and transform of a raster into a TIFF file."""
    import rasterio
    from rasterio.crs import CRS
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():  # that it lies nowhere on Earth as yet
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        opened = rasterio.open(path, "r+")
    with opened as file:
        file.transform = rasterio.Affine(*facts["transform"])
        if facts["crs"]:
            file.crs = CRS.from_wkt(facts["crs"])
        if nodata is not None:
            file.nodata = nodata
