"""Scenes: the same for the same seed, and masks that say what the image shows.

The independent witness of the masks is a painter of its own: it knows only the list of digits that
a scene gives, and asks for every px of the scene where in the 8 × 8 original it lies.
"""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, map_coordinates

from fullconv.demo import Digit, Scene, make_scenes
from fullconv.demo._originals import DIGITS, SPLITS, Split, originals
from fullconv.demo._scenes import INK, LEAST_CONTRAST, NOISE, PALEST, SIZES_PX

BRIGHTNESS = np.array([0.299, 0.587, 0.114])


def scene(seed: int, *, split: Split = "train", size: int = 320, num_digits: int = 8) -> Scene:
    (only,) = make_scenes(seed, split=split, size=size, num_digits=num_digits)
    return only


def glyphs() -> dict[int, NDArray[np.float32]]:
    """Every original by its position in scikit-learn's data set."""
    owned = [originals(split) for split in SPLITS]
    return {int(i): g for some in owned for i, g in zip(some.indices, some.glyphs, strict=True)}


def where(digit: Digit, glyph: NDArray[np.float32], size: int) -> NDArray[np.bool_]:
    """Return the px of a scene that a digit covers: turned back, shrunk back, and looked up."""
    y, x = np.mgrid[:size, :size] + 0.5
    y, x = y - digit.centre[0], x - digit.centre[1]
    turn = np.deg2rad(digit.angle)
    back_x = np.cos(turn) * x - np.sin(turn) * y
    back_y = np.sin(turn) * x + np.cos(turn) * y
    cell = digit.size / 8
    paper = np.pad(glyph, 2)  # there is no ink outside the original
    return map_coordinates(paper, [back_y / cell + 5.5, back_x / cell + 5.5], order=3) > INK


def repainted(some: Scene) -> NDArray[np.uint8]:
    """Return the mask that the list of digits asks for, without clutter."""
    mask, by_index = np.zeros_like(some.mask), glyphs()
    for digit in some.digits:
        mask[where(digit, by_index[digit.original], len(mask))] = 1 + digit.label
    return mask


def rim_distance(mask: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the distance of each px to the nearest place where the mask changes."""
    change = np.zeros(mask.shape, bool)
    change[1:] |= mask[1:] != mask[:-1]
    change[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    return np.asarray(distance_transform_edt(~change))


def test_a_seed_gives_the_same_scenes_again() -> None:
    first, again = (list(make_scenes(3, count=2, size=200, num_digits=4)) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.mask, other.mask)
        assert one.digits == other.digits


def test_another_seed_split_or_number_gives_another_scene() -> None:
    first, second = make_scenes(3, count=2, size=200, num_digits=4)
    images = [first.image, second.image, scene(4, size=200, num_digits=4).image]
    images.append(scene(3, split="val", size=200, num_digits=4).image)
    for i, one in enumerate(images):
        for other in images[i + 1 :]:
            assert (one != other).mean() > 0.5


@pytest.mark.parametrize("seed", range(4))
def test_masks_agree_with_a_painter_of_their_own(seed: int) -> None:
    some = scene(seed)
    expected = repainted(some)
    # px at a rim depend on how the glyph is interpolated; 4 px are a third of the thinnest stroke.
    sure = rim_distance(expected) > 4
    shown = sure & (some.mask > 0)
    assert shown.sum() > 1000
    assert (some.mask == expected)[shown].mean() > 0.995
    # The rest of the digits lies under strokes of clutter.
    assert (some.mask > 0)[sure & (expected > 0)].mean() > 0.8
    # The mask has no digit of its own.
    assert (some.mask == 0)[sure & (expected == 0)].mean() > 0.995


def test_the_digit_painted_last_lies_on_top() -> None:
    by_index, shared = glyphs(), 0
    for some in make_scenes(0, count=8, size=220, num_digits=12):
        *below, last = some.digits
        here = where(last, by_index[last.original], 220)
        deep = np.asarray(distance_transform_edt(here)) > 4
        assert set(np.unique(some.mask[deep])) <= {0, 1 + last.label}  # 0: a stroke across it
        others = [where(digit, by_index[digit.original], 220) for digit in below]
        shared += np.count_nonzero(deep & np.any(others, axis=0))
    assert shared > 1000


@pytest.mark.parametrize("seed", range(4))
def test_digits_are_brighter_than_what_was_there_and_the_rest_is_as_before(seed: int) -> None:
    # The digits are drawn after the background, so without any it is the same background.
    bare = scene(seed, num_digits=0).image.astype(float)
    some = scene(seed, num_digits=1)
    change = some.image - bare
    inside = (some.mask > 0) & (rim_distance(some.mask) > 2)
    assert (change[inside] @ BRIGHTNESS).mean() > LEAST_CONTRAST * PALEST - 2 * NOISE
    outside = (some.mask == 0) & (rim_distance(some.mask) > 3)
    assert (np.abs(change[outside]) <= 2 * NOISE + 1).all()


def test_scenes_are_made_of_the_originals_of_their_split_alone() -> None:
    for split in SPLITS:
        used = {digit.original for digit in scene(1, split=split, num_digits=30).digits}
        assert used <= set(originals(split).indices.tolist())


def test_sizes_angles_and_classes_vary() -> None:
    digits = [d for s in make_scenes(0, count=3, size=320, num_digits=30) for d in s.digits]
    sizes = np.array([d.size for d in digits])
    assert sizes.min() < SIZES_PX[0] * 1.2
    assert sizes.max() > SIZES_PX[1] / 1.2
    assert np.ptp([d.angle for d in digits]) > 30
    assert {d.label for d in digits} == set(range(len(DIGITS)))
