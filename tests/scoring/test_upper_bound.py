"""Masks through coarser maps, against sums written out."""

import numpy as np
import pytest

from fullconv.errors import BadConfigError
from fullconv.scoring import coarsened


def by_hand(labels: np.ndarray, factor: int, classes: int) -> np.ndarray:
    """Shares of each class in each cell, enlarged by the formula of bilinear interpolation."""
    height, width = labels.shape
    rows, columns = -(-height // factor), -(-width // factor)
    shares = np.zeros((classes, rows, columns))
    for i in range(rows):
        for j in range(columns):
            cell = labels[i * factor : (i + 1) * factor, j * factor : (j + 1) * factor]
            for k in range(classes):
                shares[k, i, j] = (cell == k).mean()

    def at(x: int, count: int) -> tuple[int, int, float]:
        place = min(max((x + 0.5) / factor - 0.5, 0), count - 1)
        low = int(place)
        return low, min(low + 1, count - 1), place - low

    found = np.zeros_like(labels)
    for y in range(height):
        for x in range(width):
            i, i2, v = at(y, rows)
            j, j2, u = at(x, columns)
            up = (1 - v) * ((1 - u) * shares[:, i, j] + u * shares[:, i, j2])
            up += v * ((1 - u) * shares[:, i2, j] + u * shares[:, i2, j2])
            found[y, x] = np.argmax(np.round(up, 5))
    return found


@pytest.mark.parametrize("factor", [1, 2, 3, 5, 64])
def test_labels_go_down_by_shares_and_up_bilinearly(factor: int) -> None:
    draw = np.random.default_rng(factor)
    labels = draw.integers(0, 3, (13, 11)).astype(np.uint8)
    labels[0, :4] = 255
    found = coarsened(labels, factor, classes=3)
    assert (found == by_hand(labels, factor, 3)).mean() > 0.99  # but for shares that are equal
    assert found.dtype == labels.dtype


def test_at_factor_1_nothing_is_lost_and_thin_things_go_first() -> None:
    labels = np.zeros((32, 32), np.uint8)
    labels[:, 7] = 1
    labels[20:, 12:] = 2
    assert np.array_equal(coarsened(labels, 1, classes=3), labels)
    found = coarsened(labels, 4, classes=3)
    assert not (found == 1).any()
    assert (found == 2).sum() > 0.9 * (labels == 2).sum()


@pytest.mark.parametrize("factor", [0, -1, 1.5])
def test_a_factor_is_a_whole_number(factor: float) -> None:
    with pytest.raises(BadConfigError, match="`upper_bound` must be whole numbers of at least 1"):
        coarsened(np.zeros((2, 2), np.uint8), factor, classes=2)
