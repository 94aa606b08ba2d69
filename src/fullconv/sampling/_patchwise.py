"""Units from anywhere: single ones, or sub-images of a given size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from fullconv.errors import FullconvError
from fullconv.geometry import Box
from fullconv.sampling._large import maps_of
from fullconv.sampling._numbers import whole
from fullconv.sampling._sampler import one_or_many


@dataclass(frozen=True, slots=True)
class Patchwise:
    """A fixed number of units, or of sub-images, from anywhere in the maps: patchwise training.

    Each place of each map is as likely as any other, so large images give more of them. Single units
    are drawn without replacement. Sub-images may overlap: a unit counts in each that holds it.

    Args:
        count: Units or sub-images per step.
        size: Side of the sub-images, in units: one number, or one per axis. None for single units.

    Raises:
        BadConfigError: If an argument is out of range.

    Examples:
        >>> import torch, fullconv as fc
        >>> a, b = fc.Patchwise(5, size=16)([torch.zeros(50, 60), torch.zeros(40, 40)],
        ...                                 torch.Generator().manual_seed(0))
        >>> len(a) + len(b), a[0].shape
        (5, (16, 16))
    """

    count: int
    size: int | tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", whole("count", self.count))
        if self.size is not None:
            object.__setattr__(self, "size", _side_or_sides(self.size))

    def __call__(self, targets: Any, generator: torch.Generator) -> Any:
        """Return a boolean tensor of the shape of each map, or a list of boxes of its units.

        For large maps, single units are boxes as well.

        Raises:
            FullconvError: If no map is as large as the sub-images.
        """
        if large := maps_of(targets):
            drawn = self.draw([tuple(target.shape) for target in large[0]], generator)
            return drawn[0] if large[1] else drawn
        maps, single = one_or_many(targets)
        shapes = [tuple(target.shape) for target in maps]
        boxes = self.draw(shapes, generator)
        if self.size is not None:
            return boxes[0] if single else boxes
        units: list[torch.Tensor] = []
        for target, chosen in zip(maps, boxes, strict=True):
            kept = torch.zeros(target.shape, dtype=torch.bool)
            for box in chosen:
                kept[box.start] = True
            units.append(kept.to(target.device))
        return units[0] if single else units

    def draw(
        self, shapes: Sequence[tuple[int, ...]], generator: torch.Generator
    ) -> list[list[Box]]:
        """Return the boxes of units that are drawn from maps of these shapes, for each map.

        Raises:
            FullconvError: If no map is as large as the sub-images.
        """
        sides = [self._sides(len(shape)) for shape in shapes]
        grids = [self._grid(shape) for shape in shapes]
        counts = torch.tensor([prod(grid) for grid in grids])
        if not counts.sum():
            largest = max(shapes, key=prod, default=())
            raise FullconvError(
                f"`size` must fit into a map, got sub-images of {self.size} units where the "
                f"largest map is {' x '.join(map(str, largest))}"
            )
        ends = counts.cumsum(0)
        found: list[list[Box]] = [[] for _ in shapes]
        for place in self._places(int(ends[-1]), generator):
            index = int(torch.searchsorted(ends, place, right=True))
            corner = _unravel(place - int(ends[index] - counts[index]), grids[index])
            stop = tuple(c + s for c, s in zip(corner, sides[index], strict=True))
            found[index].append(Box(start=corner, stop=stop))
        return found

    def places(self, shape: tuple[int, ...]) -> int:
        """Return at how many places a unit, or a sub-image, may lie in a map of this shape."""
        return prod(self._grid(shape))

    def _grid(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        sides = self._sides(len(shape))
        return tuple(max(0, m - s + 1) for m, s in zip(shape, sides, strict=True))

    def _sides(self, axes: int) -> tuple[int, ...]:
        if self.size is None:
            return (1,) * axes
        sides = (self.size,) * axes if isinstance(self.size, int) else self.size
        if len(sides) != axes:
            raise FullconvError(f"`size` must have one side per axis of the map, got {self.size}")
        return sides

    def _places(self, places: int, generator: torch.Generator) -> list[int]:
        """Return random places; single units all different, as long as there are enough."""
        if self.size is not None:
            return torch.randint(places, (self.count,), generator=generator).tolist()
        if self.count >= places:
            return list(range(places))
        chosen: dict[int, None] = {}
        while len(chosen) < self.count:
            more = torch.randint(places, (self.count - len(chosen),), generator=generator)
            chosen |= dict.fromkeys(more.tolist())
        return list(chosen)


def _side_or_sides(size: Any) -> int | tuple[int, ...]:
    if isinstance(size, tuple | list) or getattr(size, "ndim", 0) == 1:
        return tuple(whole("size", side) for side in size)
    return whole("size", size)


def _unravel(place: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    corner: list[int] = []
    for size in reversed(shape):
        place, rest = divmod(place, size)
        corner.append(rest)
    return tuple(reversed(corner))
