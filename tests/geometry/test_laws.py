"""Axes, geometries and covers against their definitions as sets, for random chains of layers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fullconv.errors import FullconvError
from fullconv.geometry import Axis, Box, Geometry, Phase, cover_px, grid_cover, grid_of
from fullconv.geometry._cover import _lengths

from .networks import Chain, any_axes, axis_of, chains, map_size, reads

LAWS = settings(max_examples=60)


def a_size(axis: Axis, draw: st.DataObject, most: int = 60) -> int:
    """A legal size of the residue of the axis."""
    assume(axis.legal[0] is not None)
    smallest = (axis.legal[0] or (0, 0))[0]
    return smallest + axis.period * draw.draw(st.integers(0, max(0, most // axis.period)))


@LAWS
@given(chains(), st.data())
def test_field_and_map_size_are_those_of_the_sets(chain: Chain, data: st.DataObject) -> None:
    axis = axis_of(chain)
    size = a_size(axis, data)
    assert axis.map_size(size) == map_size(chain, size)
    for unit in range(axis.map_size(size)):
        places, padded = reads(chain, size, unit)
        start, stop = axis.field_of(unit)
        assert places <= set(range(start, stop))
        if not padded:
            assert (min(places), max(places) + 1) == (start, stop)
    assert axis.field == max(p.stop - p.start for p in axis.phases)


@LAWS
@given(chains(), st.data())
def test_a_window_reads_and_pads_what_the_whole_does(chain: Chain, data: st.DataObject) -> None:
    """Every unit of a window depends on the same pixels as in the whole image, padding included."""
    axis = axis_of(chain)
    size = a_size(axis, data)
    units = axis.map_size(size)
    start = data.draw(st.integers(0, units - 1))
    stop = data.draw(st.integers(start + 1, units))
    begin, end = axis.reads(start, stop, size)
    assert begin % axis.period == (size - end) % axis.period == 0
    assert 0 <= begin < end <= size
    assert axis.takes(end - begin)
    for unit in range(start, stop):
        inside = axis.inside(unit, begin)
        found, _ = reads(chain, end - begin, inside)
        assert {p + begin for p in found} == reads(chain, size, unit)[0]


@LAWS
@given(chains(), st.data())
def test_windows_are_not_longer_than_they_must_be(chain: Chain, data: st.DataObject) -> None:
    """Off the border, no window that is shorter by a period computes the same units."""
    axis = axis_of(chain)
    size = a_size(axis, data, 200)
    unit = data.draw(st.integers(0, axis.map_size(size) - 1))
    begin, end = axis.reads(unit, unit + 1, size)
    assume(begin > 0 and end < size and end - begin > axis.smallest + axis.period)
    for a, b in ((begin + axis.period, end), (begin, end - axis.period)):
        inside = axis.inside(unit, a)
        gone = b <= a or not 0 <= inside < map_size(chain, b - a)
        wrong = gone or reads(chain, b - a, inside)[1] or {
            p + a for p in reads(chain, b - a, inside)[0]
        } != reads(chain, size, unit)[0]  # fmt: skip
        assert wrong, (a, b)


def holds(axis: Axis, window: tuple[int, int], units: range, size: int) -> bool:
    """Whether a window may compute units exactly: the definition, condition by condition."""
    begin, end = window
    needs = [(axis.phases[u % axis.units], u // axis.units * axis.period) for u in units]
    return (
        begin % axis.period == 0
        and (size - end) % axis.period == 0
        and all(begin <= max(0, p.first + q) and end >= min(size, p.last + q) for p, q in needs)
        and end - begin >= min(size, max(axis.shortest, (axis.legal[0] or (0, 0))[0]))
        and (begin > 0 or end >= min(size, axis.borders[0]))
        and (end < size or size - begin >= min(size, axis.borders[1]))
    )


@LAWS
@given(any_axes(), st.data())
def test_a_window_meets_every_condition_and_few_are_shorter(
    axis: Axis, data: st.DataObject
) -> None:
    size = a_size(axis, data, 40)
    count = axis.map_size(size)
    start = data.draw(st.integers(0, count - 1))
    units = range(start, data.draw(st.integers(start + 1, count)))
    begin, end = axis.reads(units.start, units.stop, size)
    assert holds(axis, (begin, end), units, size)
    inside = [
        (a, b)
        for a in range(begin, size, axis.period)
        for b in range(size, 0, -axis.period)
        if a < b <= end and (a, b) != (begin, end) and holds(axis, (a, b), units, size)
    ]
    assert not inside


@LAWS
@given(any_axes())
def test_the_halo_is_the_farthest_that_any_unit_needs(axis: Axis) -> None:
    before = after = 0
    for unit in range(axis.units):
        owned = range(unit * axis.period // axis.units, -(-(unit + 1) * axis.period // axis.units))
        before = max(before, owned.start - axis.phases[unit].first)
        after = max(after, axis.phases[unit].last - owned.stop)
    assert axis.halo == (before, after)


@LAWS
@given(chains(), st.data())
def test_the_halo_is_enough_for_what_a_window_owns(chain: Chain, data: st.DataObject) -> None:
    axis = axis_of(chain)
    unit = data.draw(st.integers(0, 5 * axis.units))
    before, after = axis.halo
    owned = unit * axis.stride, (unit + 1) * axis.stride
    turn, r = divmod(unit, axis.units)
    assert axis.phases[r].first + turn * axis.period >= owned[0] - before - 1
    assert axis.phases[r].last + turn * axis.period <= owned[1] + after + 1


@LAWS
@given(chains(), st.integers(1, 80))
def test_nearest_sizes_are_legal_and_none_lies_between(chain: Chain, size: int) -> None:
    axis = axis_of(chain)
    assume(any(axis.legal))
    found = axis.nearest(size)
    assert all(axis.takes(n) and map_size(chain, n) > 0 for n in found)
    if axis.takes(size):
        assert found == (size,)
    elif len(found) == 2:
        assert found[0] < size < found[1]
        assert not any(axis.takes(n) for n in range(found[0] + 1, found[1]))
    else:
        assert size < found[0]
        assert not any(axis.takes(n) for n in range(1, found[0]))


@LAWS
@given(chains(), st.integers(1, 80), st.integers(1, 40))
def test_the_next_suited_size_suits_and_none_before_it_does(
    chain: Chain, least: int, shortest: int
) -> None:
    axis = replace(axis_of(chain), shortest=shortest)
    assume(axis.legal[axis.residue])
    geometry = Geometry(axes=(axis,))
    (found,) = geometry.suited_shape((least,))
    assert geometry.suits((found,))
    assert found >= shortest
    assert not any(geometry.suits((n,)) for n in range(max(least, shortest), found))


@LAWS
@given(chains(), chains(), st.data())
def test_a_cover_owns_every_unit_once_within_its_bound(
    rows: Chain, columns: Chain, data: st.DataObject
) -> None:
    geometry = Geometry(axes=(axis_of(rows), axis_of(columns)))
    shape = tuple(a_size(axis, data, 40) for axis in geometry.axes)
    most = data.draw(st.integers(1, shape[0] * shape[1]))
    multiples = data.draw(st.one_of(st.none(), st.tuples(st.integers(1, 9), st.integers(1, 9))))
    try:
        cover = grid_cover(geometry, shape, max_window_px=most, multiples=multiples)
    except FullconvError as error:
        least = int(str(error).split("at least ")[1].split(",")[0])
        assert most < least
        assert grid_cover(geometry, shape, max_window_px=least, multiples=multiples)
        return
    assert cover == grid_of(geometry, shape, cover[0].units.shape)
    for window in cover if multiples else ():
        for start, multiple in zip(window.units.start, multiples or (), strict=True):
            assert start % multiple == 0
    owned = Counter(
        place
        for window in cover
        for place in product(
            *(range(a, b) for a, b in zip(window.units.start, window.units.stop, strict=True))
        )
    )
    assert owned == Counter(product(*(range(n) for n in geometry.map_shape(shape))))
    assert all(window.reads.size <= most for window in cover)
    assert all(window.units.shape == window.inside.shape for window in cover)
    assert cover_px(cover) == sum(window.reads.size for window in cover)


@LAWS
@given(chains(), st.data())
def test_a_geometry_is_its_axes(chain: Chain, data: st.DataObject) -> None:
    axis = axis_of(chain)
    geometry = Geometry(axes=(axis, axis))
    shape = (a_size(axis, data), a_size(axis, data))
    assert geometry.map_shape(shape) == tuple(axis.map_size(n) for n in shape)
    assert geometry.stride == (axis.stride, axis.stride)
    assert Fraction(axis.period, axis.units) == axis.stride
    unit = tuple(data.draw(st.integers(0, n - 1)) for n in geometry.map_shape(shape))
    spans = [axis.field_of(u) for u in unit]
    assert geometry.field_of(unit) == Box(
        start=tuple(a for a, _ in spans), stop=tuple(b for _, b in spans)
    )
    outside = any(a < 0 or b > n for (a, b), n in zip(spans, shape, strict=True))
    assert geometry.sees_padding(unit, shape) == outside
    assert geometry.window(Box.whole(geometry.map_shape(shape)), shape).reads == Box.whole(shape)


@LAWS
@given(any_axes(), st.data())
def test_the_field_of_many_units_is_the_hull_of_theirs(axis: Axis, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, 9))
    stop = start + data.draw(st.integers(1, 9))
    hull = Geometry(axes=(axis,)).field_of_units(Box(start=(start,), stop=(stop,)))
    spans = [axis.field_of(unit) for unit in range(start, stop)]
    assert hull == Box(start=(min(a for a, _ in spans),), stop=(max(b for _, b in spans),))


PLAIN = Axis(
    period=2, residue=0, legal=((4, 1), (5, 1)),
    phases=(Phase(start=0, stop=4, first=0, last=4),),
)  # fmt: skip


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda g: g.map_shape((3, 8)), r"an image of 3 x 8 px: nearest are 4 x 8"),
        (lambda g: g.map_shape((8,)), r"`shape` must have 2 spatial axes, got \(8,\)"),
        (
            lambda g: g.window(Box.whole((2, 2)), (7, 8)),
            r"must be 0 x 0 modulo the period 2 x 2, got 7 x 8: trace the network for this shape",
        ),
        (
            lambda g: g.window(Box(start=(0, 0), stop=(4, 3)), (8, 8)),
            r"`units` must be a box in the map of shape \(3, 3\)",
        ),
        (lambda g: grid_cover(g, (8, 8), max_window_px=15), r"must be at least 16, .* got 15"),
    ],
)
def test_what_cannot_be_asked_is_refused(ask: object, message: str) -> None:
    assert callable(ask)
    with pytest.raises(FullconvError, match=message):
        ask(Geometry(axes=(PLAIN, PLAIN)))


def test_an_illegal_size_and_a_phase_inside_out_are_refused() -> None:
    with pytest.raises(FullconvError, match="`size` must be legal for the network, got 3 px"):
        PLAIN.map_size(3)
    with pytest.raises(ValueError, match="`first` <= `start` <= `stop` <= `last` must hold"):
        Phase(start=0, stop=4, first=1, last=4)


@LAWS
@given(chains(), st.data())
def test_windows_of_a_cut_are_as_long_as_each_of_them_is(chain: Chain, data: st.DataObject) -> None:
    axis = axis_of(chain)
    size = a_size(axis, data, 400)
    block = data.draw(st.integers(1, 4)) * data.draw(st.sampled_from([1, axis.units]))
    lengths, alike, length = _lengths(axis, size, block)
    map_size = axis.map_size(size)
    spans = [axis.reads(i, min(i + block, map_size), size) for i in range(0, map_size, block)]
    assert sorted(lengths + [length] * alike) == sorted(stop - start for start, stop in spans)
