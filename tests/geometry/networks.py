"""Chains of sliding windows on one axis, run as sets: position by position, without arithmetic.

A chain is a list of (kernel, stride, padding) and of enlargements by a whole factor. What a unit depends
on is the union of what its taps depend on; padding depends on nothing. This is the definition that the
formulas of `fullconv.geometry` are held against.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import gcd

from hypothesis import strategies as st

from fullconv.geometry import Axis, Phase


@dataclass(frozen=True, kw_only=True)
class Slide:
    """A convolution: `kernel` positions, every `stride`, from `before` ahead of the first."""

    kernel: int
    stride: int
    before: int
    after: int

    def size(self, size: int) -> int:
        return max(0, (size + self.before + self.after - self.kernel) // self.stride + 1)

    def taps(self, unit: int) -> range:
        start = unit * self.stride - self.before
        return range(start, start + self.kernel)


@dataclass(frozen=True, kw_only=True)
class Enlarge:
    """Every position written `factor` times."""

    factor: int

    def size(self, size: int) -> int:
        return size * self.factor

    def taps(self, unit: int) -> range:
        return range(unit // self.factor, unit // self.factor + 1)


Chain = tuple[Slide | Enlarge, ...]


def map_size(chain: Chain, size: int) -> int:
    for layer in chain:
        size = layer.size(size)
    return size


def reads(chain: Chain, size: int, unit: int) -> tuple[frozenset[int], bool]:
    """The pixels that a unit depends on, and whether it or anything on the way reads padding."""
    sizes = [size]
    for layer in chain:
        sizes.append(layer.size(sizes[-1]))
    places, padded = {unit}, False
    for layer, below in zip(reversed(chain), reversed(sizes[:-1]), strict=True):
        taps = {tap for place in places for tap in layer.taps(place)}
        padded = padded or any(not 0 <= tap < below for tap in taps)
        places = {tap for tap in taps if 0 <= tap < below}
    return frozenset(places), padded


def period_of(chain: Chain) -> tuple[int, int]:
    """After how many px all layers repeat, and units in that."""
    period, num, den = 1, 1, 1  # num / den: px per position
    for layer in chain:
        num, den = (
            (num * layer.stride, den) if isinstance(layer, Slide) else (num, den * layer.factor)
        )
        num, den = num // gcd(num, den), den // gcd(num, den)
        period = period * num // gcd(period, num)
    return period, period * den // num


@cache
def axis_of(chain: Chain) -> Axis:
    """The geometry of a chain, from its sets on a long axis: phases in the middle, sizes by trying."""
    period, units = period_of(chain)
    reach = sum(layer.kernel * period if isinstance(layer, Slide) else period for layer in chain)
    size = (2 * reach // period + 6) * period
    middle = size // period // 2
    phases = [_phase(chain, size, middle, units, r, period) for r in range(units)]
    legal = tuple(_legal(chain, residue, period, units) for residue in range(period))
    return Axis(
        period=period, phases=tuple(phases), residue=0, legal=legal,
        shortest=1, borders=(0, 0),
    )  # fmt: skip


def _phase(chain: Chain, size: int, middle: int, units: int, r: int, period: int) -> Phase:
    unit, moved = middle * units + r, middle * period
    places, padded = reads(chain, size, unit)
    assert not padded
    first, last = _needs(chain, size, unit)
    start, stop = (min(places), max(places) + 1)
    return Phase(
        start=start - moved, stop=stop - moved, first=min(first, start) - moved,
        last=max(last, stop) - moved,
    )  # fmt: skip


def _needs(chain: Chain, size: int, unit: int) -> tuple[int, int]:
    """The shortest window, from a multiple of the period, in which no tap is padding or missing."""
    period, units = period_of(chain)
    first = max(
        q * period for q in range(size // period)
        if q * units <= unit and _same(chain, size, unit, q * period, size, units, period)
    )  # fmt: skip
    last = min(
        size - q * period for q in range(size // period)
        if _same(chain, size, unit, 0, size - q * period, units, period)
    )  # fmt: skip
    return first, last


def _same(
    chain: Chain, size: int, unit: int, start: int, stop: int, units: int, period: int
) -> bool:
    inside = unit - start // period * units
    if not 0 <= inside < map_size(chain, stop - start):
        return False
    places, padded = reads(chain, stop - start, inside)
    return not padded and {p + start for p in places} == reads(chain, size, unit)[0]


def _legal(chain: Chain, residue: int, period: int, units: int) -> tuple[int, int] | None:
    sizes = range(residue or period, 400, period)
    found = [(s, map_size(chain, s)) for s in sizes]
    # From the smallest size on that gives units, and as many more in each period.
    for n, (size, units_here) in enumerate(found[:-1]):
        if units_here and all(
            b - a == units for (_, a), (_, b) in zip(found[n:], found[n + 1 :], strict=False)
        ):
            return size, units_here
    return None


@st.composite
def chains(draw: st.DrawFn) -> Chain:
    """Draw a chain of one to four layers whose total stride stays small."""
    layers: list[Slide | Enlarge] = []
    stride = 1
    for _ in range(draw(st.integers(1, 4))):
        if stride > 1 and draw(st.booleans()):
            factor = draw(st.sampled_from([f for f in (2, 3, 4) if stride % f == 0] or [1]))
            layers.append(Enlarge(factor=factor))
            stride //= factor
            continue
        step = draw(st.integers(1, 3 if stride < 4 else 1))
        kernel = draw(st.integers(step, 5))
        before, after = (draw(st.integers(0, kernel - 1)) for _ in range(2))
        layers.append(Slide(kernel=kernel, stride=step, before=before, after=after))
        stride *= step
    return tuple(layers)


@st.composite
def any_axes(draw: st.DrawFn) -> Axis:
    """Draw an axis whose phases read here and there, as those of networks with branches do."""
    period, units = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    phases: list[Phase] = []
    for r in range(units):
        start = r * period // units + draw(st.integers(-7, 7))
        stop = start + draw(st.integers(1, 9))
        before, after = draw(st.integers(0, 5)), draw(st.integers(0, 5))
        phases.append(Phase(start=start, stop=stop, first=start - before, last=stop + after))
    smallest = draw(st.integers(1, 3)) * period
    legal = [
        (smallest + r, units) if r == 0 or draw(st.booleans()) else None for r in range(period)
    ]
    return Axis(
        period=period, phases=tuple(phases), residue=0, legal=tuple(legal),
        shortest=draw(st.integers(1, 12)), borders=(draw(st.integers(0, 25)), draw(st.integers(0, 25))),
    )  # fmt: skip
