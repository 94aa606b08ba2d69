"""Boxes: half-open intervals of integers along each axis."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod


@dataclass(frozen=True, kw_only=True)
class Box:
    """A half-open box of positions, ``start[k] <= position[k] < stop[k]`` along each axis.

    Positions are pixels of an image or units of a map; they may be negative where padding lies.

    Examples:
        >>> Box(start=(0, 2), stop=(4, 5)).shape
        (4, 3)
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.start) != len(self.stop):
            raise ValueError(f"`start` and `stop` must have one entry per axis, got {self}")
        if any(a > b for a, b in zip(self.start, self.stop, strict=True)):
            raise ValueError(f"`start` must not be after `stop`, got {self.start} and {self.stop}")

    @staticmethod
    def whole(shape: tuple[int, ...]) -> Box:
        """Return the box of all positions of an array of that shape."""
        return Box(start=(0,) * len(shape), stop=tuple(shape))

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Positions along each axis."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Positions in all."""
        return prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as an index into the last axes of an array: ``array[..., *box.slices]``."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def shifted(self, offset: tuple[int, ...]) -> Box:
        """Return the box moved by `offset`."""
        return Box(
            start=tuple(a + d for a, d in zip(self.start, offset, strict=True)),
            stop=tuple(b + d for b, d in zip(self.stop, offset, strict=True)),
        )

    def intersection(self, other: Box) -> Box | None:
        """Return the positions of both boxes; None if there are none."""
        start = tuple(map(max, self.start, other.start))
        stop = tuple(map(min, self.stop, other.stop))
        if any(a >= b for a, b in zip(start, stop, strict=True)):
            return None
        return Box(start=start, stop=stop)

    def contains(self, other: Box) -> bool:
        """Return whether every position of `other` lies in this box."""
        return all(a <= c for a, c in zip(self.start, other.start, strict=True)) and all(
            d <= b for b, d in zip(self.stop, other.stop, strict=True)
        )
