"""Patches: sub-images of their scenes, with the right thing in the middle."""

from dataclasses import replace

import numpy as np
import pytest

from fullconv.demo import Scene, make_scenes
from fullconv.demo._patches import BACKGROUND_SHARE, LEAST_SHOWN, SIDE, Patches, PatchSource, _Place


@pytest.fixture(scope="module")
def scenes() -> tuple[Scene, ...]:
    return tuple(make_scenes(0, count=2, size=400, num_digits=12))


@pytest.fixture(scope="module")
def patches(scenes: tuple[Scene, ...]) -> Patches:
    return PatchSource(scenes, np.random.default_rng(0)).draw(200)


def test_each_patch_is_a_sub_image_of_a_scene(scenes: tuple[Scene, ...], patches: Patches) -> None:
    windows = np.lib.stride_tricks.sliding_window_view
    corners = [windows(scene.image[..., 0], (4, 4)) for scene in scenes]
    for image, mask in zip(patches.images[:20], patches.masks[:20], strict=True):
        found = [
            (scene, y, x)
            for scene, views in zip(scenes, corners, strict=True)
            for y, x in zip(*np.where((views == image[:4, :4, 0]).all((2, 3))), strict=True)
            if np.array_equal(scene.image[y : y + SIDE, x : x + SIDE], image)
        ]
        assert len(found) == 1
        scene, y, x = found[0]
        assert np.array_equal(scene.mask[y : y + SIDE, x : x + SIDE], mask)


def test_the_label_is_that_of_a_digit_which_can_be_seen(patches: Patches) -> None:
    for mask, label in zip(patches.masks, patches.labels, strict=True):
        if label:
            # Some lie a little beside the middle, so a little less of them shows.
            assert (mask == label).mean() > LEAST_SHOWN / 2


def test_background_has_no_digit_in_its_middle(patches: Patches) -> None:
    middle = np.s_[:, SIDE // 2 - 10 : SIDE // 2 + 10, SIDE // 2 - 10 : SIDE // 2 + 10]
    empty = patches.labels == 0
    assert not patches.masks[middle][empty].any()
    assert abs(empty.mean() - BACKGROUND_SHARE) < 0.1


def test_scenes_without_digits_give_background_alone() -> None:
    bare = tuple(make_scenes(0, size=200, num_digits=0))
    assert not PatchSource(bare, np.random.default_rng(0)).draw(5).labels.any()


def test_a_scene_full_of_digits_gives_digits_alone() -> None:
    (scene,) = make_scenes(0, size=200, num_digits=8)
    full = replace(scene, mask=np.maximum(scene.mask, 1))
    source = PatchSource((full,), np.random.default_rng(0))
    if not source._places:
        source._places.append(_Place(0, 100.0, 100.0, 1, 90.0))
    assert source.draw(20).labels.all()


def test_a_seed_draws_the_same_patches_again(scenes: tuple[Scene, ...], patches: Patches) -> None:
    again = PatchSource(scenes, np.random.default_rng(0)).draw(200)
    assert np.array_equal(again.images, patches.images)
    assert np.array_equal(again.labels, patches.labels)
