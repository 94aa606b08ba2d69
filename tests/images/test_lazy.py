"""Boxes of images and masks, against the same file read whole, by other code."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from fullconv.errors import BadDataError
from fullconv.images import ClassTable, open_image, open_mask, read_image, read_mask, reads_boxes

SIDES = (61, 83)
DRAW = np.random.default_rng(0)
RGB = DRAW.integers(0, 256, (*SIDES, 3), np.uint8)
GREY = DRAW.integers(0, 256, SIDES, np.uint8)
TILES: dict[str, Any] = {"tile": (16, 32), "compression": "zlib"}
COLOURS = DRAW.integers(0, 2**16, (3, 256)).astype(np.uint16)
CMYK = DRAW.integers(0, 256, (*SIDES, 4), np.uint8)

IMAGES: dict[str, Callable[[Path], None]] = {
    "rgb": lambda p: tifffile.imwrite(p, RGB, photometric="rgb", **TILES),
    "grey": lambda p: tifffile.imwrite(p, GREY, photometric="minisblack", **TILES),
    "white-is-zero": lambda p: tifffile.imwrite(p, GREY, photometric="miniswhite", **TILES),
    "palette": lambda p: tifffile.imwrite(
        p, GREY, photometric="palette", colormap=COLOURS, **TILES
    ),
    "cmyk": lambda p: tifffile.imwrite(p, CMYK, photometric="separated", **TILES),
    "bits": lambda p: tifffile.imwrite(p, GREY > 99, photometric="minisblack", rowsperstrip=7),
    "float": lambda p: tifffile.imwrite(p, GREY / np.float32(3), **TILES),
    "pages": lambda p: tifffile.imwrite(p, np.moveaxis(RGB, -1, 0), photometric="minisblack"),
} | {
    f"turned-{k}": lambda p, k=k: tifffile.imwrite(
        p, RGB, photometric="rgb", extratags=[(274, 3, 1, k, True)], **TILES
    )
    for k in range(2, 9)
}  # fmt: skip


def boxes(shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
    draw = np.random.default_rng(1)
    spans = [[sorted(draw.integers(0, n, 2)) for n in shape] for _ in range(6)]
    return [tuple(slice(int(a), int(b) + 1) for a, b in span) for span in spans]


@pytest.mark.parametrize("name", IMAGES)
def test_a_box_of_a_tiff_is_that_of_the_whole_image(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    IMAGES[name](path)
    whole, image = read_image(path), open_image(path)
    assert (image.shape, image.dtype) == (whole.shape, whole.dtype)
    for place in boxes(whole.shape):
        assert np.array_equal(image[place], whole[place])
    again = pickle.loads(pickle.dumps(image))
    assert np.array_equal(again[...], whole)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg"])
def test_pictures_are_read_whole(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(RGB).save(path)
    assert not reads_boxes(path)
    image = open_image(path)
    assert np.array_equal(image[:, 3:9, 4:20], read_image(path)[:, 3:9, 4:20])
    assert np.array_equal(pickle.loads(pickle.dumps(image))[...], read_image(path))


def test_content_tells_tiff_from_other_pictures(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.tif")
    assert np.array_equal(open_image(tmp_path / "a.tif")[...], np.moveaxis(RGB, -1, 0))
    assert not reads_boxes(tmp_path / "none.tif")
    with pytest.raises(BadDataError, match=r"none.tif: cannot be opened"):
        open_image(tmp_path / "none.tif")


TABLE = ClassTable(names=("a", "b", "c"), colours=((0, 0, 0), (255, 0, 0), (0, 255, 0)), indices=(0, 3, 7))  # fmt: skip
CODES = np.array([0, 3, 7, 255], np.uint8)[DRAW.integers(0, 4, SIDES)]
PAINTED = np.array([*TABLE.colours], np.uint8)[DRAW.integers(0, 3, SIDES)]

MASKS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "indices": (".tif", lambda p: tifffile.imwrite(p, CODES, **TILES)),
    "palette": (".tif", lambda p: tifffile.imwrite(p, CODES, photometric="palette", colormap=COLOURS, **TILES)),
    "colours": (".tif", lambda p: tifffile.imwrite(p, PAINTED, photometric="rgb", **TILES)),
    "turned": (".tif", lambda p: tifffile.imwrite(p, CODES, extratags=[(274, 3, 1, 6, True)], **TILES)),
    "png": (".png", lambda p: Image.fromarray(CODES).save(p)),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
def test_a_box_of_a_mask_is_that_of_the_whole_mask(name: str, tmp_path: Path) -> None:
    suffix, writer = MASKS[name]
    path = tmp_path / f"m{suffix}"
    writer(path)
    whole, mask = read_mask(path, TABLE), open_mask(path, TABLE)
    assert (mask.shape, mask.dtype, mask.spatial) == (whole.shape, whole.dtype, "yx")
    assert len(mask.chunks) == 2
    for place in boxes(whole.shape):
        assert np.array_equal(mask[place], whole[place])
    assert np.array_equal(pickle.loads(pickle.dumps(mask))[...], whole)


def test_a_mask_of_bits_has_two_classes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["labels"] = CODES > 3
    mask = open_mask(f"{tmp_path}/m.h5::labels", ClassTable.default(2))
    assert np.array_equal(mask[...], CODES > 3)


def test_a_mask_of_a_volume_has_three_axes(tmp_path: Path) -> None:
    codes = np.array([0, 3, 7], np.uint8)[DRAW.integers(0, 3, (20, 30, 40))]
    np.save(tmp_path / "m.npy", codes)
    mask = open_mask(tmp_path / "m.npy", TABLE, axes="zyx")
    places = np.searchsorted([0, 3, 7], codes)
    assert np.array_equal(mask[2:7, 5:, :9], places[2:7, 5:, :9])


@pytest.mark.parametrize(("array", "message"), [
    (CODES.astype(np.float32), "a mask must hold integers, got float32"),
    (np.zeros((*SIDES, 2), np.uint8), "must have 1 channel of indices or 3 of 8-bit colour, got 2"),
    (np.full(SIDES, 9, np.uint8), "class index outside the class table: 9"),
])  # fmt: skip
def test_what_is_no_mask_is_refused(array: np.ndarray, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", array)
    with pytest.raises(BadDataError, match=message):
        open_mask(tmp_path / "m.npy", TABLE)[...]


def test_images_of_other_types_or_without_finite_values_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(SIDES, np.complex64))
    with pytest.raises(BadDataError, match=r"images must be of .*; got complex64"):
        open_image(tmp_path / "a.npy")
    values = np.zeros(SIDES, np.float32)
    values[50, 60] = np.nan
    np.save(tmp_path / "a.npy", values)
    image = open_image(tmp_path / "a.npy")
    assert not image[:, :50].any()
    with pytest.raises(
        BadDataError, match="must be finite, got NaN or infinity at 1 place of a part"
    ):
        image[:, 48:52]


def test_a_cmyk_image_of_16_bits_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", CMYK.astype(np.uint16), photometric="separated", **TILES)
    with pytest.raises(BadDataError, match=r"a\.tif: a CMYK image must have 8 bits"):
        open_image(tmp_path / "a.tif")[...]
