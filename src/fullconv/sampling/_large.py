"""Units of maps that no memory holds: boxes, draws by block, and random shares made where they are asked.

Labels are large if they are no array, but have a `shape`, and give arrays when they are sliced. Those
that `Balanced` draws from have blocks as well, see `Counted`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from math import ceil
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fullconv.errors import FullconvError
from fullconv.geometry import Box

# Random shares are drawn in squares of so many cells along each axis, each from a seed of its own.
TILE = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """Chosen units of a large map.

    Attributes:
        shape: Of the map.
        boxes: The units; a unit counts once for each box that holds it.
        weights: How much the units of each box count; None for 1 each.
    """

    shape: tuple[int, ...]
    boxes: Sequence[Box]
    weights: Sequence[float] | None = field(default=None)


@runtime_checkable
class Counted(Protocol):
    """Labels of a large map, of which it is known how often each stands in each block."""

    shape: tuple[int, ...]

    def __getitem__(self, place: Any) -> NDArray[Any]:
        """Return the labels of a part."""
        ...

    def blocks(self) -> tuple[Sequence[Box], NDArray[np.int64]]:
        """Return boxes that make up the map, and how often each class is in each, `(boxes, classes)`."""
        ...


def is_large(target: Any) -> bool:
    """Return whether labels are read in parts."""
    return not isinstance(target, Tensor | np.ndarray) and hasattr(target, "shape")


def maps_of(targets: Any) -> tuple[list[Any], bool] | None:
    """Return large maps as a list, and whether there was one only; None if none is large."""
    if is_large(targets):
        return [targets], True
    if isinstance(targets, Tensor | np.ndarray):
        return None
    return (list(targets), False) if any(map(is_large, targets)) else None


class Scattered:
    """A random share of the cells of a large map, drawn where it is asked for, and the same each time.

    Args:
        shape: Of the map.
        keep: Probability that a cell is kept.
        cell: Side of a cell, in units.
        seed: Of the draw.
    """

    def __init__(self, shape: tuple[int, ...], *, keep: float, cell: int, seed: int) -> None:
        self.shape, self._keep, self._cell, self._seed = shape, keep, cell, seed

    def __getitem__(self, place: Any) -> NDArray[np.bool_]:
        """Return which units of a box are kept."""
        spans = [part.indices(size)[:2] for part, size in zip(place, self.shape, strict=True)]
        cells = [(a // self._cell, ceil(b / self._cell)) for a, b in spans]
        found = np.empty([b - a for a, b in cells], np.bool_)
        for tile in product(*(range(a // TILE, ceil(b / TILE)) for a, b in cells)):
            start = [max(a, t * TILE) for t, (a, _) in zip(tile, cells, strict=True)]
            stop = [min(b, (t + 1) * TILE) for t, (_, b) in zip(tile, cells, strict=True)]
            draw = np.random.default_rng((self._seed, *tile)).random((TILE,) * len(tile))
            into = tuple(
                slice(i - a, j - a) for i, j, (a, _) in zip(start, stop, cells, strict=True)
            )
            of = tuple(
                slice(i - t * TILE, j - t * TILE) for i, j, t in zip(start, stop, tile, strict=True)
            )
            found[into] = draw[of] < self._keep
        for axis, ((a, b), (first, _)) in enumerate(zip(spans, cells, strict=True)):
            wide = found.repeat(self._cell, axis) if self._cell > 1 else found
            begin = a - first * self._cell
            found = wide.take(range(begin, begin + b - a), axis)
        return found


def draw_by_class(
    maps: Sequence[Any], quotas: Any, generator: torch.Generator, *, unbiased: bool
) -> list[Drawn]:
    """Return units of each class, drawn without replacement from large maps with an index.

    Args:
        maps: The labels.
        quotas: Takes how many units each class has, returns how many are drawn of each.
        generator: The random numbers.
        unbiased: Whether units are weighed so that their weighted mean is that of all units.

    Raises:
        FullconvError: If a map has no index.
    """
    found: list[list[Box]] = [[] for _ in maps]
    weights: list[list[float]] = [[] for _ in maps]
    indexed = [_blocks(target) for target in maps]
    owner = np.repeat(np.arange(len(maps)), [len(boxes) for boxes, _ in indexed])
    boxes = [box for some, _ in indexed for box in some]
    counts = np.concatenate([counts for _, counts in indexed])
    sizes = counts.sum(0)
    there = [int(label) for label in np.flatnonzero(sizes)]
    drawn = quotas([int(sizes[label]) for label in there])
    wanted: dict[int, dict[int, list[int]]] = {}
    for label, quota in zip(there, drawn, strict=True):
        ends = counts[:, label].cumsum()
        for rank in _distinct(int(sizes[label]), quota, generator):
            block = int(np.searchsorted(ends, rank, side="right"))
            inside = rank - int(ends[block] - counts[block, label])
            wanted.setdefault(block, {}).setdefault(label, []).append(inside)
    share = {
        label: int(sizes[label]) * sum(drawn) / (quota * int(sizes.sum()))
        for label, quota in zip(there, drawn, strict=True)
    }
    for block, ranks in sorted(wanted.items()):
        labels = np.asarray(maps[owner[block]][boxes[block].slices])
        for label, inside in ranks.items():
            places = np.flatnonzero(labels == label)[inside]
            for place in np.stack(np.unravel_index(places, labels.shape), 1).tolist():
                start = tuple(a + p for a, p in zip(boxes[block].start, place, strict=True))
                found[owner[block]].append(Box(start=start, stop=tuple(v + 1 for v in start)))
                weights[owner[block]].append(share[label])
    return [
        Drawn(shape=tuple(target.shape), boxes=some, weights=w if unbiased else None)
        for target, some, w in zip(maps, found, weights, strict=True)
    ]


def _blocks(target: Any) -> tuple[Sequence[Box], NDArray[np.int64]]:
    if not isinstance(target, Counted):
        raise FullconvError(
            "`targets` must have an index of their classes to draw from them by class, got a "
            f"{type(target).__name__} that is read in parts; take other samplers for it"
        )
    return target.blocks()


def _distinct(size: int, count: int, generator: torch.Generator) -> list[int]:
    """Return so many different numbers below `size`."""
    if count >= size:
        return list(range(size))
    chosen: dict[int, None] = {}
    while len(chosen) < count:
        more = torch.randint(size, (count - len(chosen),), generator=generator)
        chosen |= dict.fromkeys(more.tolist())
    return list(chosen)
