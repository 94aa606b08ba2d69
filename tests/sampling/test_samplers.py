"""Samplers: how many units, from where, and the same for the same seed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import fullconv as fc
from fullconv.errors import BadConfigError
from fullconv.sampling import generator


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def labels(*shape: int, seed: int = 0) -> Tensor:
    """Labels of three classes: 90 %, 9 % and 1 % of the units."""
    drawn = torch.rand(shape, generator=rng(seed))
    return (drawn < 0.1).long() + (drawn < 0.01).long()


SAMPLERS = [
    fc.Whole(), fc.Sampled(keep=0.25), fc.Sampled(keep=0.5, cell=8), fc.Patchwise(count=30),
    fc.Balanced(count=60), fc.Balanced(count=60, unbiased=True), fc.Hard(keep=0.1),
]  # fmt: skip


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_units_have_the_shape_of_each_map_and_follow_the_generator_alone(sampler: Any) -> None:
    targets = [labels(40, 50), labels(30, 20)]
    first, again = (sampler(targets, rng(7)) for _ in range(2))
    single = sampler(targets[0], rng(7))
    assert [u.shape for u in first] == [t.shape for t in targets]
    assert single.shape == targets[0].shape
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    torch.rand(3)  # the global numbers have no say
    assert torch.equal(sampler(targets[0], rng(7)), single)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
@settings(max_examples=30)
def test_seeds_of_different_images_give_different_numbers(a: int, b: int, c: int, d: int) -> None:
    one = torch.rand(4, generator=generator(a, b, c, d))
    assert torch.equal(one, torch.rand(4, generator=generator(a, b, c, d)))
    assert not torch.equal(one, torch.rand(4, generator=generator(a, b, c, d + 1)))
    assert not torch.equal(one, torch.rand(4, generator=generator(a, b, c + 1, d)))


def test_sampled_keeps_each_cell_with_its_probability() -> None:
    units = fc.Sampled(keep=0.25)(torch.zeros(400, 400), rng())
    assert abs(units.float().mean().item() - 0.25) < 4 * (0.25 * 0.75 / 160_000) ** 0.5
    assert fc.Sampled(keep=0.25).images == 4


def test_sampled_cells_are_kept_or_dropped_as_one() -> None:
    units = fc.Sampled(keep=0.5, cell=8)(torch.zeros(43, 64), rng())
    whole = torch.nn.functional.pad(units.float(), (0, 0, 0, 5))
    means = torch.nn.functional.avg_pool2d(whole[None], 8)[0]
    assert set(means[:5].flatten().tolist()) == {0.0, 1.0}
    assert set(means[5].flatten().tolist()) == {0.0, 3 / 8}  # the last cells are cut off


def test_patchwise_draws_every_unit_of_the_images_equally_often() -> None:
    targets = [torch.zeros(3, 4), torch.zeros(2, 2)]
    seen: Counter[tuple[int, int]] = Counter()
    for seed in range(2000):
        for image, units in enumerate(fc.Patchwise(count=4)(targets, rng(seed))):
            assert units.dtype == torch.bool
            seen.update((image, place) for place in units.flatten().nonzero().flatten().tolist())
    assert sum(seen.values()) == 8000  # without replacement: always four
    assert len(seen) == 16
    assert max(abs(count - 500) for count in seen.values()) < 5 * 500**0.5


def test_patchwise_gives_all_units_where_it_is_asked_for_more() -> None:
    assert fc.Patchwise(count=100)(torch.zeros(5, 5), rng()).all()


def test_sub_images_lie_in_the_maps_and_every_corner_is_as_likely() -> None:
    targets = [torch.zeros(8, 9), torch.zeros(6, 5), torch.zeros(4, 40)]
    seen: Counter[tuple[int, tuple[int, ...]]] = Counter()
    for seed in range(400):
        boxes = fc.Patchwise(count=10, size=5)(targets, rng(seed))
        assert sum(map(len, boxes)) == 10
        assert not boxes[2]  # too low for them
        seen.update((i, box.start) for i, each in enumerate(boxes) for box in each)
        assert all(box.shape == (5, 5) for each in boxes for box in each)
    assert len(seen) == 4 * 5 + 2 * 1
    assert max(abs(count - 4000 / 22) for count in seen.values()) < 5 * (4000 / 22) ** 0.5


def test_sub_images_that_fit_nowhere_are_refused() -> None:
    with pytest.raises(fc.FullconvError, match=r"`size` must fit into a map.* 8 x 9"):
        fc.Patchwise(count=1, size=10)([torch.zeros(8, 9)], rng())


def test_sides_may_differ_per_axis_and_must_be_as_many() -> None:
    (boxes,) = fc.Patchwise(count=3, size=(2, 7))([torch.zeros(8, 9)], rng())
    assert {box.shape for box in boxes} == {(2, 7)}
    with pytest.raises(fc.FullconvError, match="one side per axis"):
        fc.Patchwise(count=3, size=(2, 7))([torch.zeros(8)], rng())


def test_balanced_units_are_the_same_for_every_class() -> None:
    targets = [labels(100, 100), labels(50, 80, seed=1)]
    targets[0][:50] = 255
    units = fc.Balanced(count=60)(targets, rng())
    drawn = torch.cat([t[u] for t, u in zip(targets, units, strict=True)])
    assert torch.bincount(drawn, minlength=3).tolist() == [20, 20, 20]


def test_a_rare_class_gives_all_it_has_and_the_others_share_the_rest() -> None:
    target = torch.zeros(50, 50).long()
    target[0, :4] = 1
    target[1:20] = 2
    drawn = target[fc.Balanced(count=61)(target, rng())]
    assert torch.bincount(drawn).tolist() in ([28, 4, 29], [29, 4, 28])


def test_nothing_valid_gives_no_units() -> None:
    target = torch.full((5, 5), 255)
    for sampler in (fc.Balanced(count=4), fc.Hard(keep=0.5)):
        assert not sampler(target, rng()).any()
    assert not fc.Hard(keep=0.5).hardest(target, torch.rand(5, 5)).any()


def test_unbiased_units_estimate_the_loss_of_all_units() -> None:
    target = labels(60, 60)
    losses = torch.rand(60, 60, generator=rng(1)) + target
    estimates: list[Tensor] = []
    for seed in range(400):
        weights = fc.Balanced(count=30, unbiased=True)(target, rng(seed))
        assert int((weights > 0).sum()) == 30
        assert float(weights.sum()) == pytest.approx(30, rel=1e-5)
        estimates.append((losses * weights).sum() / 30)
    found = torch.stack(estimates)
    error = found.std() / len(found) ** 0.5
    assert abs(found.mean() - losses.mean()) < 4 * error
    biased = losses[fc.Balanced(count=30)(target, rng())].mean()
    assert abs(biased - losses.mean()) > 20 * error


def test_hard_units_are_those_with_the_largest_loss_of_all_images() -> None:
    targets = [torch.zeros(10, 10), torch.zeros(5, 20)]
    losses = [torch.rand(10, 10, generator=rng()), 2 + torch.rand(5, 20, generator=rng(1))]
    targets[1][0] = 255
    units = fc.Hard(keep=0.1).hardest(targets, losses)
    assert [int(u.sum()) for u in units] == [0, 18]
    assert losses[1][units[1]].min() >= losses[1][1:][~units[1][1:]].max()


@pytest.mark.parametrize("kind", [">i2", ">u2", "<u2", ">u4", ">i8", "u1", "i1"])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_arrays_of_any_type_and_byte_order_are_the_labels_that_they_hold(
    sampler: Any, kind: str
) -> None:
    target = labels(30, 20)
    expected = sampler([target, target.flip(0)], rng(3))
    given = target.numpy().astype(kind)
    given.setflags(write=False)
    found = sampler([given, given[::-1]], rng(3))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    losses = torch.rand(30, 20, generator=rng())
    hard = fc.Hard(keep=0.2)
    assert torch.equal(
        hard.hardest(given, losses.numpy().astype(">f4")), hard.hardest(target, losses)
    )


def test_maps_may_have_labels_of_different_types() -> None:
    target = labels(30, 20)
    maps = [target.numpy().astype("<u2"), target.to(torch.uint8), target]
    for found, again in zip(
        fc.Balanced(count=30)(maps, rng()), fc.Balanced(count=30)([target] * 3, rng()), strict=True
    ):
        assert torch.equal(found, again)


def test_a_label_is_not_ignored_for_its_bits() -> None:
    """In one byte -1 and 255 look alike."""
    for kind, label, ignore in (("u1", 255, -1), ("i1", -1, 255)):
        given = np.full((4, 4), label, kind)
        assert fc.Hard(keep=1, ignore=ignore)(given, rng()).all()
        assert fc.Balanced(count=16, ignore=ignore)(given, rng()).all()


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (fc.Patchwise(np.int32(3), size=np.int64(4)), fc.Patchwise(3, 4)),  # pyright: ignore[reportArgumentType]
        (fc.Patchwise(3, size=[np.uint8(4), 5]), fc.Patchwise(3, (4, 5))),  # pyright: ignore[reportArgumentType]
        (fc.Patchwise(3, size=np.array([4, 5])), fc.Patchwise(3, (4, 5))),  # pyright: ignore[reportArgumentType]
        (fc.Sampled(np.float32(0.25), cell=np.int64(4)), fc.Sampled(0.25, 4)),  # pyright: ignore[reportArgumentType]
        (fc.Balanced(np.int64(9), ignore=np.int64(7)), fc.Balanced(9, ignore=7)),  # pyright: ignore[reportArgumentType]
        (fc.Hard(np.float64(0.5), ignore=np.uint8(7)), fc.Hard(0.5, ignore=7)),  # pyright: ignore[reportArgumentType]
    ],
)
def test_numbers_of_numpy_are_numbers(given: Any, plain: Any) -> None:
    assert given == plain
    target = labels(12, 13)
    one, other = (sampler(target, rng()) for sampler in (given, plain))
    assert one == other if isinstance(one, list) else torch.equal(one, other)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: fc.Sampled(keep=0), "`keep` must be above 0 and at most 1, got 0; 0.25 takes a q"),
        (lambda: fc.Sampled(keep=1.5), "at most 1, got 1.5; 1 takes all"),
        (lambda: fc.Sampled(keep=float("nan")), "at most 1, got nan; 0.25 takes a quarter"),
        (lambda: fc.Sampled(keep="half"), "`keep` must be above 0 and at most 1, got 'half'"),  # pyright: ignore[reportArgumentType]
        (
            lambda: fc.Sampled(keep=0.5, cell=0),
            "`cell` must be a whole number of at least 1, got 0",
        ),
        (lambda: fc.Sampled(keep=0.5, cell=2.5), "at least 1, got 2.5; nearest is 2"),  # pyright: ignore[reportArgumentType]
        (lambda: fc.Patchwise(count=0), "`count` must be a whole number of at least 1, got 0"),
        (lambda: fc.Patchwise(count=2.5), "`count` must be .* got 2.5; nearest is 2"),  # pyright: ignore[reportArgumentType]
        (lambda: fc.Patchwise(count=float("nan")), "`count` must be .* got nan; the least is 1"),  # pyright: ignore[reportArgumentType]
        (lambda: fc.Patchwise(count=True), "`count` must be a whole number .* got True"),
        (lambda: fc.Patchwise(count=1, size=0), "`size` must be .* got 0; nearest is 1"),
        (lambda: fc.Patchwise(count=1, size=4.0), "`size` must be .* got 4.0; nearest is 4"),  # pyright: ignore[reportArgumentType]
        (lambda: fc.Patchwise(count=1, size=(4, -1)), "`size` must be .* got -1; nearest is 1"),
        (lambda: fc.Patchwise(count=1, size="44"), "`size` must be .* got '44'; the least is 1"),  # pyright: ignore[reportArgumentType]
        (lambda: fc.Balanced(count=0), "`count` must be a whole number of at least 1, got 0"),
        (lambda: fc.Balanced(count=None), "`count` must be a whole number .* got None"),  # pyright: ignore[reportArgumentType]
        (lambda: fc.Balanced(count=4, ignore="void"), "`ignore` must be the number of a label"),  # pyright: ignore[reportArgumentType]
        (lambda: fc.Hard(keep=2), "`keep` must be above 0"),
        (lambda: fc.Hard(keep=0.5, ignore=float("nan")), "or None to ignore none, got nan; masks"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_arguments_out_of_range_are_refused(build: Any, message: str) -> None:
    with pytest.raises(BadConfigError, match=message):
        build()
