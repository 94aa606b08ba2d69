"""One spatial axis of a network: which pixels each unit depends on, and which windows compute it.

Conventions, used everywhere in this package:

- Positions are Python ints: pixels of the *image*, or units of the *map*. Intervals are half open.
- Positions may be negative or past the end: padding puts pixels there.
- Units repeat: ``units`` of them every ``period`` pixels. Unit ``q * units + r`` behaves like unit
  ``r``, moved by ``q * period`` pixels; ``r`` is its *phase*. A network that only downsamples has
  one phase; one that ends at the image's resolution has as many as its deepest stride.
- A window is a run of the network on the image's pixels ``[start, stop)`` alone. It starts on the
  period, and its size differs from the image's by a multiple of the period, so that every layer
  inside meets the same grid as in the whole image.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from fullconv.errors import FullconvError


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What one unit depends on, and what a window must hold to compute it exactly, in px.

    Attributes:
        start: First pixel that the unit depends on.
        stop: One past the last pixel that it depends on.
        first: A window that computes the unit starts here or before. At most `start`.
        last: A window that computes the unit stops here or after. At least `stop`.
    """

    start: int
    stop: int
    first: int
    last: int

    def __post_init__(self) -> None:
        if not self.first <= self.start <= self.stop <= self.last:
            raise ValueError(f"`first` <= `start` <= `stop` <= `last` must hold, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """The geometry of a network along one spatial axis.

    Attributes:
        period: Window starts are multiples of this, in px.
        phases: What each unit of the first period depends on (see `Phase`).
        residue: Windows are exact on images of this size modulo `period`.
        legal: For each size modulo `period`: the smallest image that the network takes, in px, and
            the size of its map; None where it takes none.
        shortest: Windows of a longer image are at least this long, in px: on shorter images the
            network may run differently.
        borders: A window that starts at the image's start is at least this long, and one that ends
            at its end, in px: what padding by reflection and the like copies must be inside.
    """

    period: int
    phases: tuple[Phase, ...]
    residue: int
    legal: tuple[tuple[int, int] | None, ...]
    shortest: int = 1
    borders: tuple[int, int] = (0, 0)

    @property
    def units(self) -> int:
        """Units per period."""
        return len(self.phases)

    @property
    def stride(self) -> Fraction:
        """Pixels between neighbouring units."""
        return Fraction(self.period, self.units)

    @property
    def field(self) -> int:
        """Receptive field in px: the largest over the phases."""
        return max(phase.stop - phase.start for phase in self.phases)

    @property
    def middle(self) -> Fraction:
        """Middle of the first unit's field, in px: 1/2 is that of the first px.

        A map that was upsampled by f has f kinds of units, which see the same units below from f
        places. Each field is moved back by the unit's place, and the middles are averaged: that gives
        the place by which a transposed convolution of kernel k and stride s moves a map,
        (k - 1) / 2 - padding, for every k and s.
        """
        moved = [Fraction(p.start + p.stop, 2) - r * self.stride for r, p in enumerate(self.phases)]
        return sum(moved, Fraction(0)) / len(moved)

    @property
    def halo(self) -> tuple[int, int]:
        """Pixels that an exact window needs before and after the pixels that it owns.

        Unit ``i`` owns ``[i * stride, (i + 1) * stride)``, rounded outwards.
        """
        before = [-p.first + (r * self.period) // self.units for r, p in enumerate(self.phases)]
        after = [
            p.last - -((-(r + 1) * self.period) // self.units) for r, p in enumerate(self.phases)
        ]
        return max(0, *before), max(0, *after)

    @property
    def smallest(self) -> int:
        """The smallest legal image, in px."""
        return min(entry[0] for entry in self.legal if entry)

    def field_of(self, unit: int) -> tuple[int, int]:
        """Return the pixels ``[start, stop)`` that a unit depends on; may reach past the image.

        Past the image lies padding. Where it is copied from the image (reflection, replication), the
        unit depends on the pixels that were copied.
        """
        turn, r = divmod(unit, self.units)
        return self.phases[r].start + turn * self.period, self.phases[r].stop + turn * self.period

    def takes(self, size: int) -> bool:
        """Return whether the network takes an image of this size, in px."""
        entry = self.legal[size % self.period]
        return entry is not None and size >= entry[0]

    def map_size(self, size: int) -> int:
        """Return the units of an image of this size, in px. It must be legal."""
        entry = self.legal[size % self.period]
        if entry is None or size < entry[0]:
            raise FullconvError(f"`size` must be legal for the network, got {size} px")
        return entry[1] + (size - entry[0]) // self.period * self.units

    def nearest(self, size: int) -> tuple[int, ...]:
        """Return the nearest legal sizes, the one below (if any) before the one above."""
        smallest = self.smallest
        above = max(size, smallest)
        while not self.takes(above):
            above += 1
        below = size
        while below >= smallest and not self.takes(below):
            below -= 1
        return (above,) if below < smallest or below == above else (below, above)

    def suited(self, least: int) -> int:
        """Return the smallest size of at least so many px on which windows are exact."""
        entry = self.legal[self.residue]
        assert entry is not None, "the sizes that were traced are legal"
        size = max(least, entry[0], self.shortest)
        return size + (self.residue - size) % self.period

    def reads(self, start: int, stop: int, size: int) -> tuple[int, int]:
        """Return the window ``[start, stop)`` in px that computes units ``[start, stop)`` exactly.

        Args:
            start: First unit.
            stop: One past the last unit; after `start`.
            size: Size of the image, in px; legal, and of this axis' residue.
        """
        head = range(start, min(stop, start + self.units))
        tail = range(max(start, stop - self.units), stop)
        first = min(self._shifted(i, "first") for i in head)
        last = max(self._shifted(i, "last") for i in tail)
        begin = max(0, first // self.period * self.period)
        end = min(size, last + (size - last) % self.period)
        return self._grown(begin, end, size)

    def inside(self, unit: int, start: int) -> int:
        """Return the position of `unit` in the map of a window that starts at `start` px."""
        return unit - start // self.period * self.units

    def _shifted(self, unit: int, name: str) -> int:
        turn, r = divmod(unit, self.units)
        return getattr(self.phases[r], name) + turn * self.period

    def _grown(self, begin: int, end: int, size: int) -> tuple[int, int]:
        """Return the window grown, by whole periods, until it is legal and holds what borders need."""
        entry = self.legal[size % self.period]
        head = self.borders[0] if begin == 0 else 0
        tail = self.borders[1] if end == size else 0
        needed = max(entry[0] if entry else size, self.shortest, head, tail)
        needed += (size - needed) % self.period
        end = min(size, max(end, begin + needed))
        return min(begin, max(0, end - needed) // self.period * self.period), end
