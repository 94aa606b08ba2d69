"""Masks of every kind against the indices that were put in."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from fullconv.errors import BadDataError
from fullconv.images import ClassTable, read_mask

from .conftest import Save
from .png import grey_png

THREE = ClassTable(names=("a", "b", "c"), colours=((0, 0, 0), (255, 0, 0), (0, 255, 0)))
MASK = np.array([[0, 1, 2, 0], [2, 2, 255, 1], [0, 0, 1, 255]], dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_indices_are_read_and_255_is_ignored(save: Save, suffix: str) -> None:
    mask = read_mask(save(f"m.{suffix}", MASK), THREE)
    np.testing.assert_array_equal(mask, MASK)
    assert mask.dtype == np.uint8


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_palette_masks_give_indices_never_colours(tmp_path: Path, suffix: str) -> None:
    picture = Image.fromarray(MASK)
    picture.putpalette(np.random.default_rng(1).integers(0, 256, 768, dtype=np.uint8).tobytes())
    picture.save(tmp_path / f"m.{suffix}")
    np.testing.assert_array_equal(read_mask(tmp_path / f"m.{suffix}", THREE), MASK)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_grey_masks_of_few_bits_are_not_scaled(tmp_path: Path, depth: int) -> None:
    indices = np.arange(16, dtype=np.uint8).reshape(2, 8) % min(3, 2**depth)
    (tmp_path / "m.png").write_bytes(grey_png(indices, depth))
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", THREE), indices)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_1_bit_masks_are_0_and_1(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(MASK == 1).save(tmp_path / f"m.{suffix}")
    np.testing.assert_array_equal(read_mask(tmp_path / f"m.{suffix}", THREE), MASK == 1)


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_tiff_masks_hold_the_numbers_that_were_saved(tmp_path: Path, photometric: str) -> None:
    tifffile.imwrite(tmp_path / "m.tif", MASK, photometric=photometric)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.tif", THREE), MASK)
    tifffile.imwrite(tmp_path / "b.tif", MASK == 1, photometric=photometric)
    np.testing.assert_array_equal(read_mask(tmp_path / "b.tif", THREE), MASK == 1)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "uint32"])
def test_wide_integers_are_read(tmp_path: Path, dtype: str) -> None:
    tifffile.imwrite(tmp_path / "m.tif", MASK.astype(dtype))
    mask = read_mask(tmp_path / "m.tif", THREE)
    np.testing.assert_array_equal(mask, MASK)
    assert mask.dtype == np.uint8


def test_in_16_bit_masks_65535_is_ignored_as_well(save: Save) -> None:
    wide = np.where(MASK == 255, 65535, MASK).astype(np.uint16)
    np.testing.assert_array_equal(read_mask(save("m.png", wide), THREE), MASK)


def test_more_than_255_classes_stay_16_bit(save: Save) -> None:
    wide = np.array([[0, 255, 299], [65535, 256, 1]], dtype=np.uint16)
    mask = read_mask(save("m.png", wide), ClassTable.default(300))
    np.testing.assert_array_equal(mask, wide)
    assert mask.dtype == np.uint16


def test_8_bit_masks_under_a_table_of_more_than_255_classes(save: Save) -> None:
    names = tuple(str(i) for i in range(1, 301))
    colours = ClassTable.default(300).colours
    table = ClassTable(
        names=names, colours=colours, ignore=65535, indices=tuple(range(1, 301)), ignored=(0,)
    )
    stored = np.array([[0, 1, 255]], dtype=np.uint8)
    np.testing.assert_array_equal(read_mask(save("m.png", stored), table), [[65535, 0, 254]])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_indices_with_gaps_become_positions(save: Save, dtype: str) -> None:
    table = ClassTable(names=("x", "y"), colours=THREE.colours[:2], indices=(3, 255), ignored=(9,))
    stored = np.array([[3, 255, 9], [255, 9, 3]], dtype=dtype)
    np.testing.assert_array_equal(
        read_mask(save("m.png", stored), table), [[0, 1, 255], [1, 255, 0]]
    )


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
@pytest.mark.parametrize("opaque", [False, True])
def test_colours_are_looked_up_in_the_table(save: Save, suffix: str, opaque: bool) -> None:
    table = ClassTable(
        names=("a", "b"), colours=((9, 8, 7), (255, 0, 255)), ignored_colours=((1, 1, 1),)
    )
    places = np.array([[0, 1, 255], [255, 0, 1]])
    colours = np.array([(9, 8, 7), (255, 0, 255), (1, 1, 1)], dtype=np.uint8)
    rgb = colours[np.where(places == 255, 2, places)]
    alpha = np.full((2, 3, 1), 255, dtype=np.uint8)
    if opaque and suffix != "bmp":
        rgb = np.concatenate([rgb, alpha], axis=-1)
    np.testing.assert_array_equal(read_mask(save(f"m.{suffix}", rgb), table), places)


def test_the_orientation_tag_turns_masks_like_images(save: Save) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    mask = read_mask(save("m.png", MASK, exif=exif), THREE)
    np.testing.assert_array_equal(mask, np.rot90(MASK, -1))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_an_index_outside_the_table_is_named(save: Save, dtype: str) -> None:
    stored = np.array([[0, 7], [5, 2]], dtype=dtype)
    rule = r"m\.png: class index outside the table: 5, 7; the table has 0, 1, 2$"
    with pytest.raises(BadDataError, match=rule.replace("the table:", "the class table:")):
        read_mask(save("m.png", stored), THREE)


def test_a_negative_index_is_outside_the_table(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", np.array([[0, -1]], dtype=np.int16))
    with pytest.raises(BadDataError, match="class index outside the class table: -1"):
        read_mask(tmp_path / "m.tif", THREE)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_masks_are_read_alike_however_their_rows_are_chunked(
    save: Save, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fullconv.images._stored.CHUNK_PX", 5)
    path = save("m.png", MASK.astype(dtype))
    np.testing.assert_array_equal(read_mask(path, THREE), MASK)
    two = ClassTable(names=("a", "c"), colours=THREE.colours[:2], indices=(0, 7))
    with pytest.raises(BadDataError, match="outside the class table: 1, 2; the table has 0, 7"):
        read_mask(path, two)


def test_colours_outside_the_table_are_named_in_part(save: Save) -> None:
    rgb = np.zeros((4, 4, 3), dtype=np.uint8)
    rgb[..., 0] = np.arange(16).reshape(4, 4)
    rule = r"colour outside the class table: #010000, .* #050000 …; the table has #000000, #ff0000"
    with pytest.raises(BadDataError, match=rule):
        read_mask(save("m.png", rgb), THREE)


def test_colours_in_the_mask_need_colours_in_the_table(save: Save, tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("name\nroad\nsky\n")
    path = save("m.png", np.full((2, 3, 3), 70, dtype=np.uint8))
    rule = "#464646; the table has #000000, #800000, which is what it gets where it states no col"
    with pytest.raises(BadDataError, match=rule):
        read_mask(path, ClassTable.read(tmp_path / "classes.csv"))


def test_jpeg_masks_are_refused(save: Save) -> None:
    with pytest.raises(BadDataError, match=r"must not be JPEG, which changes indices; save it as"):
        read_mask(save("m.jpg", MASK), THREE)


def test_floating_point_masks_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", MASK.astype(np.float32))
    with pytest.raises(BadDataError, match="a mask must hold integers, got float32"):
        read_mask(tmp_path / "m.tif", THREE)


def test_transparent_masks_are_refused(save: Save) -> None:
    rgba = np.zeros((3, 4, 4), dtype=np.uint8)
    with pytest.raises(BadDataError, match="a mask must be opaque, got an alpha channel that is"):
        read_mask(save("m.png", rgba), THREE)


def test_masks_of_many_channels_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "m.tif", np.zeros((5, 8, 9), dtype=np.uint8), photometric="minisblack"
    )
    with pytest.raises(BadDataError, match=r"1 channel of indices or 3 of 8-bit colour, got 5 of"):
        read_mask(tmp_path / "m.tif", THREE)
