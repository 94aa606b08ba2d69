"""Covers by cost: every chosen unit in one box, and never dearer than either end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fullconv as fc
from fullconv.execution._choose import Price, cheapest_blocks
from fullconv.execution._planner import Planner
from fullconv.execution._reads import Blocks, Reads
from fullconv.execution._spread import Boxes, Mask
from fullconv.geometry import Box, Geometry

NETS = {
    "small field": nn.Conv2d(1, 1, 3, padding=1),
    "strided": nn.Sequential(nn.Conv2d(1, 1, 5, stride=2), nn.MaxPool2d(2), nn.Conv2d(1, 1, 3)),
    "upsampling": nn.Sequential(
        nn.Conv2d(1, 1, 4, stride=4), nn.Conv2d(1, 1, 3, padding=1), nn.Upsample(scale_factor=4)
    ),
    "reflecting": nn.Conv2d(1, 1, 9, padding=4, padding_mode="reflect"),
}
GEOMETRIES = {name: fc.trace(net.eval(), 1, shape=(64, 96)) for name, net in NETS.items()}
SHAPE = (64, 96)


def boxes_of(blocks: Blocks) -> list[Box]:
    pairs = zip(blocks.lows.T.tolist(), blocks.highs.T.tolist(), strict=True)
    return [Box(start=tuple(a), stop=tuple(b)) for a, b in pairs]


def cheapest_boxes(geometry: Geometry, chosen: np.ndarray, price: Price) -> list[Box]:
    return boxes_of(cheapest_blocks(geometry, Reads(geometry, SHAPE), Mask(chosen), price))


def by_px(start: float, most: float = np.inf):  # noqa: ANN201 - a price
    def price(sides: list[np.ndarray]) -> np.ndarray:
        px = np.prod([np.asarray(s, float) for s in sides], axis=0)
        return np.where(px <= most, px + start, np.inf)

    return price


def chosen_units(geometry: Geometry, seed: int, share: float, clustered: bool) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = geometry.map_shape(SHAPE)
    if not clustered:
        found = rng.random(shape) < share
    else:
        found = np.zeros(shape, bool)
        for _ in range(3):
            corner = [int(rng.integers(0, max(1, m - 4))) for m in shape]
            found[tuple(slice(c, c + 4) for c in corner)] = True
    found.flat[int(rng.integers(found.size))] = True
    return found


@given(
    st.sampled_from(sorted(NETS)), st.integers(0, 10**6), st.sampled_from([0.001, 0.02, 0.3, 1.0]),
    st.booleans(), st.sampled_from([0.0, 50.0, 3000.0]),
)  # fmt: skip
@settings(max_examples=60)
def test_every_chosen_unit_is_owned_once_at_no_more_than_either_end(
    name: str, seed: int, share: float, clustered: bool, start: float
) -> None:
    geometry = GEOMETRIES[name]
    chosen = chosen_units(geometry, seed, share, clustered)
    price = by_px(start)
    boxes = cheapest_boxes(geometry, chosen, price)
    owned = np.zeros(chosen.shape, int)
    for box in boxes:
        owned[box.slices] += 1
    assert owned.max() == 1
    assert owned[chosen].all()
    cost = price_of(geometry, boxes, price)
    whole = price_of(geometry, [Box.whole(chosen.shape)], price)
    assert cost <= whole * (1 + 1e-12)
    if chosen.sum() <= 400:
        alone = price_of(geometry, boxes_of(Mask(chosen).each()), price)
        assert cost <= alone * (1 + 1e-12)


def price_of(geometry: Geometry, boxes: list[Box], price: Price) -> float:
    sides = [geometry.window(box, SHAPE).reads.shape for box in boxes]
    return float(price(np.array(sides).T).sum())


def test_two_far_clusters_get_a_window_each() -> None:
    geometry = GEOMETRIES["small field"]
    chosen = np.zeros(SHAPE, bool)
    chosen[2:8, 3:9] = chosen[50:60, 70:90] = True
    boxes = cheapest_boxes(geometry, chosen, by_px(100))
    assert sorted((b.start, b.stop) for b in boxes) == [((2, 3), (8, 9)), ((50, 70), (60, 90))]


def test_what_does_not_fit_is_cut() -> None:
    geometry = GEOMETRIES["small field"]
    boxes = cheapest_boxes(geometry, np.ones(SHAPE, bool), by_px(10, most=800))
    assert len(boxes) > 7
    assert max(geometry.window(b, SHAPE).reads.size for b in boxes) <= 800
    assert sum(b.size for b in boxes) == 64 * 96


@pytest.mark.parametrize("name", sorted(NETS))
def test_windows_of_many_boxes_are_those_of_each(name: str) -> None:
    geometry = GEOMETRIES[name]
    rows, columns = geometry.map_shape(SHAPE)
    rng = np.random.default_rng(0)
    ends = [np.sort(rng.integers(0, n + 1, (400, 2)), 1) for n in (rows, columns)]
    boxes = [
        Box(start=(a, c), stop=(max(a + 1, b), max(c + 1, d)))
        for (a, b), (c, d) in zip(*(e.tolist() for e in ends), strict=True)
        if a < rows and c < columns
    ]
    boxes += [Box(start=(i, i), stop=(i + 1, i + 1)) for i in range(min(rows, columns))]
    blocks = Blocks(*(np.array([getattr(b, end) for b in boxes]).T for end in ("start", "stop")))
    found = Reads(geometry, SHAPE)(blocks).windows()
    assert found == [geometry.window(box, SHAPE) for box in boxes]


@given(st.lists(st.tuples(*[st.tuples(st.integers(0, 63), st.integers(0, 95))] * 2), max_size=5))
def test_boxes_are_spread_as_the_units_that_they_hold(corners: list[Any]) -> None:
    boxes = [
        Box(start=tuple(map(min, a, b)), stop=tuple(1 + v for v in map(max, a, b)))
        for a, b in corners
    ]
    mask = np.zeros(SHAPE, bool)
    for box in boxes:
        mask[box.slices] = True
    sparse, dense = Boxes.of(boxes, SHAPE), Mask(mask)
    assert sparse.any() == dense.any()
    assert boxes_of(sparse.each()) == boxes_of(dense.each())
    for one, other in zip(
        sparse.leaves((10, 7), (7, 14)), dense.leaves((10, 7), (7, 14)), strict=True
    ):
        assert np.array_equal(one, other)
    assert np.array_equal(sparse.cells((10, 7), (7, 14)), dense.cells((10, 7), (7, 14)))
    probe = Box(start=(20, 30), stop=(41, 33))
    assert (len(sparse.meeting(probe)) > 0) == bool(mask[probe.slices].any())


def test_one_unit_in_a_hundred_gets_a_window_each_unless_windows_themselves_cost_more() -> None:
    layers = [nn.Conv2d(3, 32, 3, padding=1), *(nn.Conv2d(32, 32, 3, padding=1) for _ in "ab")]
    planner = Planner(nn.Sequential(*layers), None)
    # As measured once: the whole image takes 0.34 s, so a window of 49 px takes 63 us, and 60 us beside.
    planner.speed.rate, planner.speed.start = 1e-11, 1e-3
    draw = np.random.default_rng(0)

    def windows(share: float) -> int:
        chosen = Mask(draw.random((512, 512)) < share)
        return len(planner.cover(3, (512, 512), (512, 512), chosen)) - chosen.count

    assert windows(0.005) == 0
    assert windows(0.009) == 0
    few = Mask(draw.random((512, 512)) < 0.016)
    assert len(planner.cover(3, (512, 512), (512, 512), few)) == 1
