"""How an image is predicted to disk: through which windows, into which chunks."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from torch import nn

from fullconv.errors import BadOutputError, FullconvError, NotLocalError
from fullconv.execution import Windows, in_words
from fullconv.geometry import Window, cover_px, grid_of
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
VERSION = 1

Ints = tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How an image is predicted.

    Attributes:
        outputs: What is written.
        cover: The windows.
        values: What must be the same to go on with what is done, as JSON values.
    """

    outputs: tuple[Product, ...]
    cover: tuple[Window, ...]
    values: dict[str, Any]


def planned(
    net: nn.Module,
    image: LazyArray,
    wanted: Wanted,
    memory: int,
    *,
    key: str,
    part: Part,
    overwrite: bool,
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

    Raises:
        BadOutputError: If something else is unfinished there.
        FullconvError: If `memory` is too little, or the network has other classes.
    """
    budget = _Budget.of(net, image, wanted, memory)
    values: dict[str, Any] | None = _earlier(part, budget, memory, key=key, overwrite=overwrite)
    if values is None:
        blocks, chunks = budget.chosen(wanted)
        values = {"version": VERSION, "key": key, "blocks": [*blocks], "chunks": [*chunks]}
    outputs = products(
        wanted,
        image,
        num_classes=budget.num_classes,
        map_shape=budget.windows.geometry(image.shape[0], image.shape[1:]).map_shape(
            image.shape[1:]
        ),
        chunks=tuple(values["chunks"]),
    )
    return Plan(outputs=outputs, cover=budget.grid(tuple(values["blocks"])), values=values)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Budget:
    """What windows of an image may take.

    Attributes:
        windows: Of the network, in what is left for them.
        image: The image.
        num_classes: Channels of the map.
        besides: Bytes for each px of a window that are held besides the network's own.
        held: Bytes that are held whatever the windows are: chunks being decoded.
    """

    windows: Windows
    image: LazyArray
    num_classes: int
    besides: float
    held: int

    @staticmethod
    def of(net: nn.Module, image: LazyArray, wanted: Wanted, memory: int) -> _Budget:
        channels, *sides = image.shape
        held = CHUNKS_AT_ONCE * image.chunk_bytes
        windows = Windows(net, max(1, memory - held))
        geometry = windows.geometry(channels, tuple(sides))
        num_classes = windows.classes(channels, tuple(sides))
        if wanted.classes is not None and wanted.classes.num_classes != num_classes:
            raise FullconvError(
                f"`net` must have the {wanted.classes.num_classes} classes of the table, got "
                f"{num_classes}"
            )
        units_per_px = prod(axis.units / axis.period for axis in geometry.axes)
        besides = 2 * channels * image.dtype.itemsize
        besides += bytes_per_unit(wanted, num_classes) * units_per_px
        return _Budget(
            windows=windows, image=image, num_classes=num_classes, besides=besides, held=held
        )

    def grid(self, blocks: Ints) -> tuple[Window, ...]:
        """Return the windows that own blocks of so many units."""
        sides = self.image.shape[1:]
        return grid_of(self.windows.geometry(self.image.shape[0], sides), sides, blocks)

    def needed(self, blocks: Ints) -> float:
        """Return the bytes that windows of these blocks take."""
        per_px = self.windows.bytes_per_px(self.image.shape[0], self.image.shape[1:])
        most = max(window.reads.size for window in self.grid(blocks))
        return (per_px + self.besides) * most + self.held

    def chosen(self, wanted: Wanted) -> tuple[Ints, Ints]:
        """Return blocks of whole chunks that fit, and the chunks: the largest that cost little."""
        channels, *sides = self.image.shape
        pages = any(file_kind(path) != "zarr" for path in wanted.paths)
        found: list[tuple[tuple[Window, ...], Ints]] = []
        refusal: FullconvError | None = None
        for chunks in chunk_choices(len(sides), pages=pages):
            try:
                cover = self.windows.cover(
                    channels, tuple(sides), besides=self.besides, multiples=chunks
                )
            except NotLocalError:
                raise
            except FullconvError as error:
                refusal = error
                continue
            found.append((cover, chunks))
            if len(cover) == 1:
                break
        if not found:
            assert refusal is not None
            raise refusal
        least = min(cover_px(cover) for cover, _ in found)
        cover, chunks = next(pair for pair in found if cover_px(pair[0]) <= MOST_MORE * least)
        return cover[0].units.shape, chunks


def _earlier(
    part: Part, budget: _Budget, memory: int, *, key: str, overwrite: bool
) -> dict[str, Any] | None:
    """Return the values of the plan that is unfinished; None to begin anew."""
    values = part.plan
    if values is None:
        return None
    if values.get("key") != key or values.get("version") != VERSION:
        if overwrite:
            return None
        raise BadOutputError(
            f"`out` must not be begun by something else, got {part.folder}, left unfinished by "
            "another network, image or kind of output; remove it, or overwrite it"
        )
    needed = budget.needed(tuple(values["blocks"]))
    if needed <= memory:
        return values
    if overwrite:
        return None
    raise FullconvError(
        f"`memory` must be as much as what is unfinished was begun with, about {in_words(needed)}, "
        f"got {in_words(memory)}; give as much, or overwrite it"
    )
