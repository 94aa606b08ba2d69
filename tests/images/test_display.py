"""Images for people to look at."""

import tracemalloc

import numpy as np
import pytest

from fullconv.images import ClassTable, overlay, to_rgb8


@pytest.mark.parametrize(
    ("channels", "shown"), [(1, [0] * 3), (2, [0] * 3), (3, [0, 1, 2]), (5, [0, 1, 2])]
)
def test_8_bit_values_stay_as_they_are(channels: int, shown: list[int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (channels, 4, 6), dtype=np.uint8)
    np.testing.assert_array_equal(to_rgb8(image), image[shown].transpose(1, 2, 0))


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float16", "float32", "float64"])
def test_other_types_are_stretched_between_percentiles(dtype: str) -> None:
    ramp = np.linspace(0, 1000, 101 * 10).astype(dtype).reshape(1, 101, 10)
    shown = to_rgb8(ramp)[..., 0]
    low, high = np.percentile(ramp.astype(np.float64), [1, 99])
    expected = np.clip((ramp[0].astype(np.float64) - low) / (high - low) * 255, 0, 255)
    np.testing.assert_allclose(shown, expected, atol=0.51)
    assert shown.min() == 0
    assert shown.max() == 255


def test_a_few_hot_pixels_do_not_make_all_else_black() -> None:
    image = np.tile(np.arange(100, dtype=np.uint16), (100, 1))[np.newaxis]
    image[0, 0, :3] = 65535
    assert to_rgb8(image)[50, 50].min() > 100


def test_a_constant_channel_is_black_not_an_error() -> None:
    assert to_rgb8(np.full((3, 4, 5), 7.5, dtype=np.float32)).max() == 0


def test_large_images_are_sampled_for_their_percentiles() -> None:
    image = np.tile(np.arange(3000, dtype=np.uint16), (2000, 1))[np.newaxis]
    shown = to_rgb8(image)[..., 0]
    assert abs(int(shown[0, 1500]) - 128) <= 2


def test_an_overlay_takes_little_more_memory_than_the_picture() -> None:
    table = ClassTable.default(3)
    image = np.full((3, 3000, 2000), 100, dtype=np.uint16)
    labels = np.ones((3000, 2000), dtype=np.uint8)
    tracemalloc.start()
    try:
        picture = overlay(image, labels, table)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < picture.nbytes + 64 * 2**20


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_strips_do_not_show(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(2)
    image = draw.integers(0, 256, (3, 17, 11)).astype(dtype)
    labels = draw.integers(0, 3, (17, 11)).astype(np.uint8)
    labels[3] = 255
    whole = overlay(image, labels, ClassTable.default(3))
    monkeypatch.setattr("fullconv.images._stored.CHUNK_PX", 20)
    np.testing.assert_array_equal(overlay(image, labels, ClassTable.default(3)), whole)


def test_ignored_pixels_show_the_image_alone() -> None:
    table = ClassTable(names=("a", "b"), colours=((0, 0, 0), (200, 0, 0)))
    image = np.full((3, 1, 3), 100, dtype=np.uint8)
    labels = np.array([[0, 1, 255]], dtype=np.uint8)
    assert overlay(image, labels, table)[0].tolist() == [[50] * 3, [150, 50, 50], [100] * 3]
