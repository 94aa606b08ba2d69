"""How an image is predicted to disk: through which windows, into which chunks."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

from torch import nn

from fullconv.errors import BadOutputError, FullconvError, NotLocalError
from fullconv.execution import Down, Windows, in_words
from fullconv.geometry import Geometry, Window, band_units, cover_px, grid_of
from fullconv.prediction._products import (
    Product,
    Wanted,
    bytes_per_unit,
    chunk_choices,
    file_kind,
    products,
)
from fullconv.regions import LazyArray, Part

# Chunks may make windows read this many times the pixels that the best cover reads.
MOST_MORE = 1.15
# Chunks that are decoded or encoded at the same time, and once more as they lie on disk.
CHUNKS_AT_ONCE = 12
# What is run down begins anew after so many times the field: it is what is lost if the process ends.
STRETCH = 10
VERSION = 3
# In a key, between what is made of which image, and the state of that image.
APART = ":"

Ints = tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How an image is predicted.

    Attributes:
        outputs: What is written.
        geometry: Of the network, for the image.
        cover: The windows.
        way: How they are run.
        values: What must be the same to go on with what is done, as JSON values.
    """

    outputs: tuple[Product, ...]
    geometry: Geometry
    cover: tuple[Window, ...]
    way: Way
    values: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """How the windows of an image are run, and what they own.

    Attributes:
        blocks: Units that each owns, along each axis.
        chunks: Units of a chunk of the outputs.
        rows: Rows of the image at a time that the network is run down; 0 to run windows at once.
    """

    blocks: Ints
    chunks: Ints
    rows: int

    @staticmethod
    def of(values: dict[str, Any]) -> Way:
        """Return the way that a plan's values say."""
        return Way(
            blocks=tuple(values["blocks"]), chunks=tuple(values["chunks"]), rows=values["rows"]
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {"blocks": [*self.blocks], "chunks": [*self.chunks], "rows": self.rows}


def planned(
    net: nn.Module,
    image: LazyArray,
    wanted: Wanted,
    memory: int,
    *,
    key: str,
    part: Part,
    overwrite: bool,
    margin: float = 0,
) -> Plan:
    """Return the plan of what is unfinished, if it is the same thing, or a new one.

    Args:
        net: The network.
        image: The image.
        wanted: What goes where.
        memory: Bytes that may be added.
        key: Says of what the outputs are made.
        part: What may be unfinished.
        overwrite: Whether it may be forgotten, where it cannot be gone on with.
        margin: Share of `memory` that a new plan leaves, if there is one that does.

    Raises:
        BadOutputError: If something else is unfinished there.
        FullconvError: If `memory` is too little, or the network has other classes.
    """
    budget = _Budget.of(net, image, wanted, memory)
    values: dict[str, Any] | None = _earlier(part, budget, memory, key=key, overwrite=overwrite)
    if values is None:
        way = _chosen(net, budget, wanted, memory, margin)
        values = {"version": VERSION, "key": key, **way.to_json()}
    way, geometry = Way.of(values), budget.geometry
    outputs = products(
        wanted,
        image,
        num_classes=budget.num_classes,
        map_shape=geometry.map_shape(image.shape[1:]),
        chunks=way.chunks,
    )
    cover = budget.grid(way.blocks)
    return Plan(outputs=outputs, geometry=geometry, cover=cover, way=way, values=values)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Budget:
    """What windows of an image may take.

    Attributes:
        windows: Of the network, in what is left for them.
        by_rows: What running down takes for each column, by rows; None where it cannot be.
        left: Bytes for them.
        image: The image.
        num_classes: Channels of the map.
        per_unit: Bytes that are held of a unit while its outputs are made and written.
        held: Bytes that are held whatever the windows are: chunks being decoded.
    """

    windows: Windows
    by_rows: dict[int, float]
    left: int
    image: LazyArray
    num_classes: int
    per_unit: float
    held: int

    @staticmethod
    def of(net: nn.Module, image: LazyArray, wanted: Wanted, memory: int) -> _Budget:
        channels, *sides = image.shape
        held = CHUNKS_AT_ONCE * image.chunk_bytes
        left = max(1, memory - held)
        windows = Windows(net, left)
        geometry = windows.geometry(channels, tuple(sides))
        num_classes = windows.classes(channels, tuple(sides))
        if wanted.classes is not None and wanted.classes.num_classes != num_classes:
            raise FullconvError(
                f"`net` must have the {wanted.classes.num_classes} classes of the table, got "
                f"{num_classes}"
            )
        by_rows = Down(net).bytes_per_column(channels, tuple(sides), geometry)
        return _Budget(
            windows=windows,
            by_rows=by_rows or {},
            left=left,
            image=image,
            num_classes=num_classes,
            per_unit=bytes_per_unit(wanted, num_classes),
            held=held,
        )

    @property
    def sides(self) -> Ints:
        """Shape of the image without channels."""
        return self.image.shape[1:]

    @property
    def geometry(self) -> Geometry:
        """Of the network, for the image."""
        return self.windows.geometry(self.image.shape[0], self.sides)

    @property
    def besides(self) -> float:
        """Bytes for each px of a window that are held besides the network's own."""
        channels, units = self.image.shape[0], (a.units / a.period for a in self.geometry.axes)
        return 2 * channels * self.image.dtype.itemsize + self.per_unit * prod(units)

    def per_column(self, rows: int, chunks: Ints) -> float:
        """Return the bytes for each px of a band along the last axis, its outputs and image included."""
        first, last = self.geometry.axes[0], self.geometry.axes[-1]
        between, across = prod(self.sides[1:-1]), last.units / last.period
        units = between * (chunks[0] + ceil(2 * rows / first.stride)) * across
        strip = 3 * strip_rows(self.image, rows) * between * self.image.shape[0]
        return self.by_rows[rows] + strip * self.image.dtype.itemsize + self.per_unit * units

    def grid(self, blocks: Ints) -> tuple[Window, ...]:
        """Return the windows that own blocks of so many units."""
        return grid_of(self.geometry, self.sides, blocks)

    def needed(self, way: Way) -> float:
        """Return the bytes that this way takes."""
        sides = [window.reads.shape for window in self.grid(way.blocks)]
        if way.rows:
            columns = max(shape[-1] for shape in sides)
            return self.per_column(way.rows, way.chunks) * columns + self.held
        per_px = self.windows.bytes_per_px(self.image.shape[0], self.sides)
        return (per_px + self.besides) * max(map(prod, sides)) + self.held

    def chosen(self, wanted: Wanted) -> Way:
        """Return the way that reads the fewest px within the memory, with large chunks if they cost little."""
        pages = any(file_kind(path) != "zarr" for path in wanted.paths)
        found: list[tuple[int, Way]] = []
        refusal: FullconvError | None = None
        for chunks in chunk_choices(len(self.sides), pages=pages):
            found += self._downs(chunks)
            try:
                cover = self.windows.cover(
                    self.image.shape[0], self.sides, besides=self.besides, multiples=chunks
                )
            except NotLocalError:
                raise
            except FullconvError as error:
                refusal = error
                continue
            way = Way(blocks=cover[0].units.shape, chunks=chunks, rows=0)
            if len(cover) == 1:
                return way
            found.append((cover_px(cover), way))
        if not found:
            assert refusal is not None
            raise refusal
        least = min(px for px, _ in found)
        return next(way for px, way in found if px <= MOST_MORE * least)

    def _downs(self, chunks: Ints) -> list[tuple[int, Way]]:
        """Return the way of running down bands, with the px that it reads, if it fits with these chunks."""
        found: list[tuple[int, Way]] = []
        map_shape, axis = self.geometry.map_shape(self.sides), self.geometry.axes[0]
        if len(map_shape) == 1:
            return found
        stretch = chunks[0] * ceil(STRETCH * axis.field / axis.stride / chunks[0])
        for rows in self.by_rows:
            most = int(self.left / self.per_column(rows, chunks))
            units = band_units(self.geometry, self.sides, most, chunks[-1])
            if units is None:
                continue
            blocks = (min(stretch, map_shape[0]), *map_shape[1:-1], units)
            px = cover_px(self.grid(blocks))
            found.append((px, Way(blocks=blocks, chunks=chunks, rows=rows)))
            if units == map_shape[-1]:
                break
        return [min(found, key=lambda pair: pair[0])] if found else []


def _chosen(net: nn.Module, budget: _Budget, wanted: Wanted, memory: int, margin: float) -> Way:
    """Return a way for a share of the memory, so that a little less is enough to go on; else for all of it."""
    if margin:
        with suppress(FullconvError):
            most = int(memory * (1 - margin))
            return _Budget.of(net, budget.image, wanted, most).chosen(wanted)
    return budget.chosen(wanted)


def strip_rows(image: LazyArray, rows: int) -> int:
    """Return how many rows of an image are read at a time: whole chunks, `rows` at least."""
    chunk = image.chunks[1]
    return chunk * ceil(rows / chunk)


def same_but_the_state(one: str, other: str) -> bool:
    """Return whether two keys are of the same image, network and outputs, the image as it was and is."""
    return APART in one and one.split(APART, maxsplit=1)[0] == other.split(APART, maxsplit=1)[0]


def _earlier(
    part: Part, budget: _Budget, memory: int, *, key: str, overwrite: bool
) -> dict[str, Any] | None:
    """Return the values of the plan that is unfinished; None to begin anew."""
    values = part.plan
    if values is None:
        return None
    if values.get("key") != key or values.get("version") != VERSION:
        # Of an image that was changed or restored since, what is done is of no use to anyone.
        if overwrite or same_but_the_state(str(values.get("key")), key):
            return None
        raise BadOutputError(
            f"`out` must not be begun by something else, got {part.folder}, left unfinished by "
            "another network, image or kind of output; remove it, or overwrite it"
        )
    needed = budget.needed(Way.of(values))
    if needed <= memory:
        return values
    if overwrite:
        return None
    raise FullconvError(
        f"`memory` must be as much as what is unfinished was begun with, about {in_words(needed)}, "
        f"got {in_words(memory)}; give as much, or overwrite it"
    )
