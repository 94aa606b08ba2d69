"""Axes and lines of charts against their definitions."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullconv.reporting._chart import (
    GRAIN,
    Axis,
    Series,
    chart,
    linear_axis,
    log_axis,
    moving_mean,
    thinned,
    tight_axis,
)

values = st.floats(1e-6, 1e6)


def is_round(step: float) -> bool:
    """Whether a step is 1, 2 or 5 times a power of ten."""
    lead = step / 10 ** math.floor(math.log10(step * (1 + 1e-9)))
    return any(math.isclose(lead, one, rel_tol=1e-6) for one in (1, 2, 5))


@given(spans=st.floats(-1e3, 1e3), span=values)
def test_a_linear_axis_holds_its_values_between_round_ticks(spans: float, span: float) -> None:
    low = spans * span
    axis = linear_axis(low, low + span, str)
    places = [value for value, _ in axis.ticks]
    assert axis.low <= low + 1e-9 * abs(low)
    assert axis.high >= (low + span) - 1e-9 * abs(low + span)
    assert (axis.low, axis.high) == pytest.approx((places[0], places[-1]))
    assert 2 <= len(places) <= 8
    assert is_round((places[-1] - places[0]) / (len(places) - 1))


@given(high=values, unit=st.sampled_from([1.0, 60.0, 3600.0]))
def test_a_tight_axis_ends_where_the_values_do_and_ticks_whole_units(
    high: float, unit: float
) -> None:
    axis = tight_axis(high, str, unit)
    places = [value for value, _ in axis.ticks]
    assert (axis.low, axis.high) == (0, high)
    assert places[0] == 0
    assert all(place <= high * (1 + 1e-6) for place in places)
    assert 3 <= len(places) <= 6
    assert is_round(places[1] / unit)


@given(low=values, ratio=st.floats(20, 1e6))
def test_a_logarithmic_axis_holds_its_values(low: float, ratio: float) -> None:
    axis = log_axis(low, low * ratio)
    assert axis.low <= low
    assert axis.high >= low * ratio
    assert len(axis.ticks) >= 2
    assert axis.place(np.array([axis.low, axis.high])) == pytest.approx([0, 1])
    middle = math.sqrt(axis.low * axis.high)
    assert axis.place(np.array([middle])) == pytest.approx([0.5])


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=50), st.integers(1, 9))
def test_the_moving_mean_is_the_mean_over_neighbours(numbers: list[float], width: int) -> None:
    reach = width // 2
    expected = [np.mean(numbers[max(0, i - reach) : i + reach + 1]) for i in range(len(numbers))]
    assert moving_mean(np.array(numbers), width) == pytest.approx(expected, abs=1e-9)


@given(st.integers(1, 400), st.integers(1, 50))
def test_a_thinned_line_keeps_the_mean_and_is_short(num: int, points: int) -> None:
    y = np.random.default_rng(0).random(num)
    thin_x, thin_y = thinned(np.arange(num, dtype=float), y, points)
    assert len(thin_x) == len(thin_y) == min(num, points)
    assert (np.diff(thin_x) > 0).all()
    assert y.min() <= thin_y.min() <= thin_y.max() <= y.max()
    if num % points == 0:  # all groups are of one size
        assert thin_y.mean() == pytest.approx(y.mean())


def test_a_line_goes_through_its_points_counted_from_the_top() -> None:
    axis = Axis(low=0, high=4, ticks=((0, "0"), (4, "4")))
    line = Series(np.array([0.0, 1.0, 4.0]), np.array([4.0, 0.0, 2.0]), look="mean")
    html = chart(title="t", told="s", x=axis, y=axis, series=[line], column="step")
    found = re.search(r'class="mean" d="M(.*?)"', html)
    assert found is not None
    points = [tuple(map(float, point.split())) for point in found[1].split("L")]
    assert points == [(0, 0), (GRAIN / 4, GRAIN), (GRAIN, GRAIN / 2)]


def test_titles_and_ticks_are_escaped() -> None:
    axis = Axis(low=0, high=1, ticks=((0, "<b>"), (1, "1")))
    line = Series(np.array([0.0]), np.array([1.0]), look="raw")
    html = chart(title="<i>", told='"&', x=axis, y=axis, series=[line], column="step")
    assert "<i>" not in html
    assert "<b>" not in html
    assert 'aria-label="&#34;&amp;"' in html
