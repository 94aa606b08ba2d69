"""The split by name: fixed, independent of order, near 15 %."""

import random

from hypothesis import given
from hypothesis import strategies as st

from fullconv.images._split import VALIDATION_SHARE, position_in_unit, split_by_name

names = st.lists(st.text(min_size=1), min_size=2, max_size=40, unique=True)


def split(some: list[str]) -> tuple[list[str], list[str]]:
    return split_by_name(some, lambda name: name)


@given(names, st.randoms())
def test_the_order_of_the_files_does_not_matter(some: list[str], rng: random.Random) -> None:
    shuffled = some.copy()
    rng.shuffle(shuffled)
    assert [set(side) for side in split(some)] == [set(side) for side in split(shuffled)]


@given(names)
def test_each_name_is_on_one_side_and_no_side_is_empty(some: list[str]) -> None:
    kept, held = split(some)
    assert sorted(kept + held) == sorted(some)
    assert kept
    assert held


def test_about_fifteen_percent_are_held_out() -> None:
    _, held = split([f"image_{i:04d}" for i in range(4000)])
    assert 0.13 < len(held) / 4000 < 0.17


def test_a_name_keeps_its_side_when_others_come() -> None:
    few, many = split([f"{i}" for i in range(60)]), split([f"{i}" for i in range(600)])
    assert set(few[0]) <= set(many[0])
    assert set(few[1]) <= set(many[1])


def test_a_side_that_would_be_empty_gets_one() -> None:
    assert all(position_in_unit(name) < VALIDATION_SHARE for name in "epuy")
    assert all(position_in_unit(name) > VALIDATION_SHARE for name in "abc")
    assert [len(side) for side in split(list("epuy"))] == [1, 3]
    assert [len(side) for side in split(list("abc"))] == [2, 1]


def test_the_split_is_the_same_today_as_in_the_first_release() -> None:
    _, held = split([f"{i:03d}" for i in range(1, 61)])
    assert held == FIRST_RELEASE


FIRST_RELEASE = ["002", "009", "020", "021", "035", "039", "040", "045", "056", "058"]


def test_accents_count_the_same_however_a_system_writes_them() -> None:
    assert position_in_unit("gr\u00fcn") == position_in_unit("gru\u0308n")
