"""What each split owns: all of it real, none of it shared."""

import sys
from itertools import combinations

import numpy as np
import pytest

from fullconv.demo import _originals
from fullconv.demo._originals import DIGITS, SPLITS, originals
from fullconv.errors import FullconvError


def test_every_drawn_digit_belongs_to_exactly_one_split() -> None:
    from sklearn.datasets import load_digits

    shown = load_digits(return_X_y=True)[1].tolist()
    every = np.concatenate([originals(split).indices for split in SPLITS])
    assert sorted(every.tolist()) == [n for n, digit in enumerate(shown) if digit in DIGITS]


def test_the_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    flat, labels = load_digits(return_X_y=True)
    for split in SPLITS:
        owned = originals(split)
        assert np.array_equal(owned.glyphs.reshape(-1, 64) * 16, flat[owned.indices])
        assert [DIGITS[i] for i in owned.labels] == labels[owned.indices].tolist()


def test_every_split_has_every_digit_often_enough() -> None:
    for split in SPLITS:
        assert np.bincount(originals(split).labels, minlength=len(DIGITS)).min() >= 10


def test_no_two_splits_share_a_column_of_a_photograph() -> None:
    from sklearn.datasets import load_sample_images

    whole = load_sample_images()["images"]
    for index, photograph in enumerate(whole):
        strips = [originals(split).photographs[index] for split in SPLITS]
        assert np.array_equal(np.concatenate(strips, axis=1), photograph)
    for one, other in combinations(SPLITS, 2):
        assert _originals.STRIPS[one] != _originals.STRIPS[other]


def test_without_scikit_learn_the_line_to_install_it_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _originals._embedded.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(FullconvError, match=r"pip install 'fullconv\[demo\]'"):
        originals("train")
