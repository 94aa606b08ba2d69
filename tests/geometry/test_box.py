"""Boxes are sets of positions."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullconv.geometry import Box

SPANS = st.lists(st.tuples(st.integers(-4, 6), st.integers(0, 4)), min_size=1, max_size=3)


@st.composite
def boxes(draw: st.DrawFn, ndim: int | None = None) -> Box:
    spans = draw(SPANS.filter(lambda s: ndim is None or len(s) == ndim))
    return Box(start=tuple(a for a, _ in spans), stop=tuple(a + n for a, n in spans))


def positions(box: Box) -> set[tuple[int, ...]]:
    return set(product(*(range(a, b) for a, b in zip(box.start, box.stop, strict=True))))


@given(boxes())
def test_size_and_shape_count_positions(box: Box) -> None:
    assert box.size == len(positions(box))
    for axis, size in enumerate(box.shape):
        if box.size:
            assert size == len({p[axis] for p in positions(box)})


@given(boxes(2), boxes(2))
def test_a_box_contains_another_if_it_holds_all_its_positions(one: Box, other: Box) -> None:
    if other.size:
        assert one.contains(other) == (positions(other) <= positions(one))


@given(boxes(2), st.tuples(st.integers(-5, 5), st.integers(-5, 5)))
def test_shifting_moves_every_position(box: Box, by: tuple[int, int]) -> None:
    moved = {tuple(p + d for p, d in zip(place, by, strict=True)) for place in positions(box)}
    assert positions(box.shifted(by)) == moved
    assert box.shifted(by).shifted(tuple(-d for d in by)) == box


@given(st.tuples(st.integers(0, 5), st.integers(0, 5)))
def test_the_whole_box_indexes_a_whole_array(shape: tuple[int, int]) -> None:
    array = np.arange(np.prod(shape)).reshape(shape)
    box = Box.whole(shape)
    assert np.array_equal(array[box.slices], array)
    assert box.shape == shape


@pytest.mark.parametrize(
    ("start", "stop", "message"),
    [
        ((0, 3), (2, 2), r"`start` must not be after `stop`, got \(0, 3\) and \(2, 2\)"),
        ((0,), (2, 2), "`start` and `stop` must have one entry per axis"),
    ],
)
def test_boxes_that_are_none_are_refused(
    start: tuple[int, ...], stop: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Box(start=start, stop=stop)
