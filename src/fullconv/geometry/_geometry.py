"""The geometry of a network on images: fields, windows, shapes. Integers and fractions only."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from fullconv.errors import FullconvError
from fullconv.geometry._axis import Axis
from fullconv.geometry._box import Box


@dataclass(frozen=True, kw_only=True)
class Window:
    """A box of units, and the input box that computes them exactly.

    Attributes:
        units: The units that the window owns, in the map of the whole image.
        reads: The input box, in px of the image; it lies inside the image.
        inside: Where the owned units lie in the map of the window.
    """

    units: Box
    reads: Box
    inside: Box


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Which pixels each unit of a network's map depends on, and which windows are exact.

    Attributes:
        axes: One `Axis` per spatial axis, in the order of the image's axes.
    """

    axes: tuple[Axis, ...]

    @property
    def field(self) -> tuple[int, ...]:
        """Receptive field per axis, in px; the largest over the phases of a net that upsamples."""
        return tuple(axis.field for axis in self.axes)

    @property
    def stride(self) -> tuple[int | Fraction, ...]:
        """Pixels between neighbouring units per axis; a fraction for maps finer than the image."""
        strides = [axis.stride for axis in self.axes]
        return tuple(s.numerator if s.denominator == 1 else s for s in strides)

    @property
    def period(self) -> tuple[int, ...]:
        """Window starts are multiples of this, per axis, in px."""
        return tuple(axis.period for axis in self.axes)

    @property
    def halo(self) -> tuple[tuple[int, int], ...]:
        """Pixels that an exact window needs before and after those it owns, per axis."""
        return tuple(axis.halo for axis in self.axes)

    @property
    def smallest_shape(self) -> tuple[int, ...]:
        """The smallest image that the network takes, in px per axis."""
        return tuple(axis.smallest for axis in self.axes)

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Return whether the network takes an image of this shape, in px per axis."""
        self._check_axes(shape)
        return all(axis.takes(size) for axis, size in zip(self.axes, shape, strict=True))

    def nearest_shapes(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """Return the nearest legal shapes: all sizes rounded down (if legal), and rounded up."""
        sizes = [axis.nearest(size) for axis, size in zip(self.axes, shape, strict=True)]
        above = tuple(s[-1] for s in sizes)
        below = tuple(s[0] for s in sizes)
        fits = all(b <= size for b, size in zip(below, shape, strict=True))
        return (below, above) if fits and below != above else (above,)

    def map_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the map of an image.

        Args:
            shape: Shape of the image without channels, in px per axis.

        Raises:
            FullconvError: If the network does not take an image of this shape.
        """
        if not self.takes(shape):
            nearest = " and ".join(_times(s) for s in self.nearest_shapes(shape))
            raise FullconvError(
                f"`shape` must be one that the network takes, got an image of {_times(shape)} px: "
                f"nearest are {nearest}"
            )
        return tuple(axis.map_size(size) for axis, size in zip(self.axes, shape, strict=True))

    def field_of(self, unit: tuple[int, ...]) -> Box:
        """Return the input box that a unit depends on; it may reach past the image."""
        return self.field_of_units(Box(start=unit, stop=tuple(u + 1 for u in unit)))

    def field_of_units(self, units: Box) -> Box:
        """Return the smallest input box that holds the fields of a box of units."""
        starts: list[int] = []
        stops: list[int] = []
        for axis, a, b in zip(self.axes, units.start, units.stop, strict=True):
            starts.append(min(axis.field_of(i)[0] for i in range(a, min(b, a + axis.units))))
            stops.append(max(axis.field_of(i)[1] for i in range(max(a, b - axis.units), b)))
        return Box(start=tuple(starts), stop=tuple(stops))

    def sees_padding(self, unit: tuple[int, ...], shape: tuple[int, ...]) -> bool:
        """Return whether the field of a unit reaches past an image of this shape."""
        return not Box.whole(shape).contains(self.field_of(unit))

    def suits(self, shape: tuple[int, ...]) -> bool:
        """Return whether windows on images of this shape are exact with this geometry."""
        return self.takes(shape) and all(
            size % axis.period == axis.residue for axis, size in zip(self.axes, shape, strict=True)
        )

    def suited_shape(self, least: tuple[int, ...]) -> tuple[int, ...]:
        """Return the smallest shape, of at least so many px per axis, on which windows are exact."""
        self._check_axes(least)
        return tuple(axis.suited(size) for axis, size in zip(self.axes, least, strict=True))

    def window(self, units: Box, shape: tuple[int, ...]) -> Window:
        """Return the smallest window that computes a box of units exactly.

        Args:
            units: A box of units of the map, not empty.
            shape: Shape of the image, in px per axis.

        Raises:
            FullconvError: If the box is empty or not in the map, or the geometry was traced for
                images of other sizes modulo the period.
        """
        if not self.suits(shape):
            self.map_shape(shape)
            raise FullconvError(
                f"`shape` must be {_times(tuple(a.residue for a in self.axes))} modulo the period "
                f"{_times(self.period)}, got {_times(shape)}: trace the network for this shape"
            )
        if not units.size or not Box.whole(self.map_shape(shape)).contains(units):
            raise FullconvError(
                f"`units` must be a box in the map of shape {self.map_shape(shape)}, got {units}"
            )
        spans = [
            axis.reads(a, b, size)
            for axis, a, b, size in zip(self.axes, units.start, units.stop, shape, strict=True)
        ]
        reads = Box(start=tuple(s[0] for s in spans), stop=tuple(s[1] for s in spans))
        offset = tuple(
            axis.inside(0, begin) for axis, begin in zip(self.axes, reads.start, strict=True)
        )
        return Window(units=units, reads=reads, inside=units.shifted(offset))

    def _check_axes(self, shape: tuple[int, ...]) -> None:
        if len(shape) != len(self.axes):
            raise FullconvError(
                f"`shape` must have {len(self.axes)} spatial axes, got {tuple(shape)}"
            )


def _times(shape: tuple[int, ...]) -> str:
    """Return a shape as people write it: ``500 x 333``."""
    return " x ".join(str(size) for size in shape)
