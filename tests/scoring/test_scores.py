"""The metrics against tables worked out by hand."""

from fractions import Fraction as F
from math import isnan

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fullconv.errors import BadConfigError
from fullconv.scoring import Confusion, majority_baseline, score

# Rows are the truth. Class 1: 6 units, 4 of them right, 1 more wrongly said to be 1.
TABLE = np.array([[5, 1, 0], [2, 4, 0], [0, 0, 8]])


def test_the_four_metrics_of_a_table_worked_out_by_hand() -> None:
    scores = score(TABLE)
    assert scores.iu == pytest.approx((5 / 8, 4 / 7, 1))
    assert scores.accuracy == pytest.approx((5 / 6, 4 / 6, 1))
    assert scores.pixel_accuracy == pytest.approx(17 / 20)
    assert scores.mean_accuracy == pytest.approx(float((F(5, 6) + F(2, 3) + 1) / 3))
    assert scores.mean_iu == pytest.approx(float((F(5, 8) + F(4, 7) + 1) / 3))
    expected = (6 * F(5, 8) + 6 * F(4, 7) + 8 * 1) / 20
    assert scores.fw_iu == pytest.approx(float(expected))


def test_a_class_that_is_nowhere_is_left_out() -> None:
    table = np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    for rule in ("reference", "paper"):
        scores = score(table, absent=rule)
        assert isnan(scores.iu[2])
        assert scores.mean_iu == pytest.approx((3 / 4 + 4 / 5) / 2)
        assert scores.mean_accuracy == pytest.approx((3 / 4 + 1) / 2)


def test_a_class_that_is_only_predicted_counts_as_zero_unless_the_paper_rule_is_named() -> None:
    table = np.array([[3, 0, 1], [0, 4, 0], [0, 0, 0]])
    reference, paper = score(table), score(table, absent="paper")
    assert reference.iu[2] == 0
    assert isnan(paper.iu[2])
    assert reference.mean_iu == pytest.approx((3 / 4 + 1 + 0) / 3)
    assert paper.mean_iu == pytest.approx((3 / 4 + 1) / 2)
    for scores in (reference, paper):
        assert isnan(scores.accuracy[2])
        assert scores.mean_accuracy == pytest.approx((3 / 4 + 1) / 2)
        assert scores.fw_iu == pytest.approx((4 * 3 / 4 + 4 * 1) / 8)


def test_nothing_at_all_has_no_score() -> None:
    scores = score(np.zeros((2, 2), np.int64))
    for value in (scores.pixel_accuracy, scores.mean_accuracy, scores.mean_iu, scores.fw_iu):
        assert isnan(value)


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(BadConfigError, match="`absent` must be reference or paper, got 'zero'"):
        score(TABLE, absent="zero")  # pyright: ignore[reportArgumentType]


def test_the_majority_baseline_answers_the_most_frequent_class() -> None:
    baseline = majority_baseline(TABLE)
    assert baseline.iu == pytest.approx((0, 0, 8 / 20))
    assert baseline.pixel_accuracy == pytest.approx(8 / 20)
    assert baseline.mean_iu == pytest.approx(8 / 60)


labels = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 2, 3, 255])), max_size=40)


@given(images=st.lists(labels, min_size=1, max_size=4))
def test_the_matrix_counts_pairs_over_all_images_and_drops_ignored_units(
    images: list[list[tuple[int, int]]],
) -> None:
    confusion = Confusion(4)
    for image in images:
        said = torch.tensor([a for a, _ in image], dtype=torch.long)
        true = torch.tensor([b for _, b in image], dtype=torch.long)
        confusion.update(said, true)
    pairs = [pair for image in images for pair in image]
    expected = [[pairs.count((j, i)) for j in range(4)] for i in range(4)]
    assert confusion.matrix().tolist() == expected


def test_the_metrics_are_those_of_the_whole_set_and_not_the_mean_of_the_images() -> None:
    confusion = Confusion(2)
    confusion.update(torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 0, 1]))
    confusion.update(torch.tensor([1]), torch.tensor([1]))
    assert score(confusion.matrix()).pixel_accuracy == pytest.approx(4 / 5)
    assert score(confusion.matrix()).iu == pytest.approx((3 / 4, 1 / 2))


def test_reset_forgets() -> None:
    confusion = Confusion(2)
    confusion.update(torch.tensor([0]), torch.tensor([0]))
    confusion.reset()
    confusion.update(torch.tensor([1]), torch.tensor([0]))
    assert confusion.matrix().tolist() == [[0, 1], [0, 0]]
