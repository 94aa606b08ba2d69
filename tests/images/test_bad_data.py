"""Every rule that data can break: all of it told at once, by file and rule."""

import re
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from PIL import Image

from fullconv.errors import BadDataError
from fullconv.images import ClassTable, _stored, open_dataset, read_image, read_mask, survey

from .conftest import Save
from .png import chunk

Pairs = Callable[..., Path]


def complaint(data: Path, **options: bool) -> str:
    with pytest.raises(BadDataError, match="`data`") as error:
        survey(open_dataset(data, **options))
    return str(error.value)


def test_all_bad_files_are_listed_together(save: Save, pairs: Pairs) -> None:
    data = pairs("a b c d e f g")
    (data / "images/a.png").write_bytes(b"")
    (data / "images/b.png").write_text("not an image")
    half = (data / "images/c.png").read_bytes()
    (data / "images/c.png").write_bytes(half[: len(half) // 2])
    save("data/masks/d.png", np.eye(6, 9, dtype=np.uint8))
    save("data/masks/lonely.png", np.eye(6, 9, dtype=np.uint8))
    (data / "masks/e.png").unlink()
    save("data/images/f.png", np.zeros((6, 8), dtype=np.uint8))
    lines = complaint(data).splitlines()
    expected = [
        r"`data` must hold readable pairs of image and mask, got 7 files to mend in .*data:",
        r"  images/a\.png: is empty \(0 bytes\)",
        r"  images/b\.png: is not an image that can be read: PNG, JPEG, BMP or TIFF",
        r"  images/c\.png: cannot be decoded, perhaps truncated \(.+\)",
        r"  images/e\.png: image without a mask: no e\.\* in masks/",
        r"  images/f\.png: has 1 channel; all images must be alike, and 2 of 3 have 3 channels",
        r"  masks/d\.png: must be as large as its image, 6 x 8 px, got 6 x 9",
        r"  masks/lonely\.png: mask without an image: no lonely\.\* in images/",
    ]
    assert len(lines) == len(expected)
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(pattern, line), line


def test_after_twenty_bad_files_the_rest_is_counted(save: Save, pairs: Pairs) -> None:
    data = pairs("a b")
    for number in range(25):
        save(f"data/images/{number:02d}.png", np.zeros((4, 5), dtype=np.uint8))
    lines = complaint(data).splitlines()
    assert "got 25 files to mend" in lines[0]
    assert lines[1].startswith("  images/00.png: image without a mask")
    assert lines[20].startswith("  images/19.png: image without a mask")
    assert lines[21:] == ["  … and 5 more"]


def test_one_bad_file_is_one_file(pairs: Pairs) -> None:
    data = pairs("a b c")
    (data / "masks/b.png").unlink()
    assert "got 1 file to mend" in complaint(data)


def test_if_no_pair_is_left_the_faults_are_still_told(pairs: Pairs) -> None:
    data = pairs("a b")
    for mask in (data / "masks").iterdir():
        mask.unlink()
    assert "images/b.png: image without a mask" in complaint(data)


def test_a_csv_that_names_missing_files(save: Save, tmp_path: Path) -> None:
    save("a.png", np.eye(4, 5, dtype=np.uint8))
    (tmp_path / "pairs.csv").write_text("image,mask\na.png,a.png\nb.png,b_mask.png\n")
    text = complaint(tmp_path / "pairs.csv")
    assert "  b.png: cannot be opened (No such file or directory)" in text
    assert "  b_mask.png: cannot be opened (No such file or directory)" in text


def test_mixed_types_are_refused(pairs: Pairs) -> None:
    data = pairs("a b c d")
    (data / "images/b.png").unlink()
    wide = np.zeros((6, 8, 3), dtype=np.uint16)
    tifffile.imwrite(data / "images/b.tif", wide, photometric="rgb")
    text = complaint(data)
    assert "images/b.tif: has type uint16; all images must be alike, and 3 of 4 have" in text


def test_values_that_are_not_finite_are_refused(pairs: Pairs) -> None:
    data = pairs("a b")
    for name in "ab":
        (data / f"images/{name}.png").unlink()
        image = np.ones((6, 8), dtype=np.float32)
        image[0, 0] = np.nan if name == "a" else 1
        tifffile.imwrite(data / f"images/{name}.tif", image)
    assert "images/a.tif: values must be finite, got NaN or infinity at 1 place" in complaint(data)


def test_an_index_outside_the_table(pairs: Pairs, save: Save) -> None:
    data = pairs("a b c")
    (data / "classes.csv").write_text("index,name\n0,soil\n1,weed\n")
    save("data/masks/b.png", np.full((6, 8), 2, dtype=np.uint8))
    assert "masks/b.png: class index outside the class table: 2; the table has 0, 1" in complaint(
        data
    )


def rgb_masks(save: Save, data: Path, colour: tuple[int, int, int]) -> None:
    rgb = np.zeros((6, 8, 3), dtype=np.uint8)
    rgb[:3] = colour
    for mask in (data / "masks").iterdir():
        save(f"data/masks/{mask.name}", rgb)


def test_rgb_masks_need_a_table(pairs: Pairs, save: Save) -> None:
    data = pairs("a b c")
    rgb_masks(save, data, (255, 0, 0))
    rule = "masks/a.png: RGB mask without a class table; add classes.csv with the columns name,"
    assert rule in complaint(data)


def test_grey_masks_with_three_equal_channels_are_recognised(pairs: Pairs, save: Save) -> None:
    data = pairs("a b c")
    rgb_masks(save, data, (1, 1, 1))
    assert "its three channels are equal, so save it with one channel" in complaint(data)


def test_colours_outside_the_table(pairs: Pairs, save: Save) -> None:
    data = pairs("a b c")
    rgb_masks(save, data, (255, 0, 1))
    (data / "classes.csv").write_text("name,colour\nsky,#000000\nroad,#ff0000\n")
    rule = "masks/c.png: colour outside the class table: #ff0001; the table has #000000, #ff0000"
    assert rule in complaint(data)


def test_a_photograph_is_no_mask(pairs: Pairs, save: Save, generator: np.random.Generator) -> None:
    data = pairs("a b")
    save("data/images/a.png", np.zeros((400, 400, 3), dtype=np.uint8))
    save("data/masks/a.png", generator.integers(0, 256, (400, 400, 3), dtype=np.uint8))
    assert "masks/a.png: holds more than 65536 different values: not a mask" in complaint(data)


def test_an_orientation_tag_on_one_side_only_is_recognised(pairs: Pairs, save: Save) -> None:
    data = pairs("a b")
    exif = Image.Exif()
    exif[0x0112] = 6
    save("data/images/a.png", np.zeros((6, 8, 3), dtype=np.uint8), exif=exif)
    rule = "must be as large as its image, 8 x 6 px, got 6 x 8; the orientation tag turns only one"
    assert rule in complaint(data)


def all_masks(save: Save, data: Path, values: list[int]) -> None:
    mask = np.resize(np.array(values, dtype=np.uint8), (6, 8))
    for path in (data / "masks").iterdir():
        save(f"data/masks/{path.name}", mask)


def test_one_class_only_is_nothing_to_learn(pairs: Pairs, save: Save) -> None:
    data = pairs("a b c")
    all_masks(save, data, [0])
    text = complaint(data)
    assert text.endswith("must hold at least 2 classes, got one class only (0)")
    all_masks(save, data, [255])
    assert "got no class at all" in complaint(data)
    assert survey(open_dataset(data, training=False)).ignored == {"test": 144}


@pytest.mark.parametrize("with_table", [False, True])
def test_masks_of_0_and_255_get_the_line_to_write(
    pairs: Pairs, save: Save, with_table: bool
) -> None:
    data = pairs("a b c")
    all_masks(save, data, [0, 255])
    if with_table:
        (data / "classes.csv").write_text("index,name\n0,soil\n1,weed\n")
    text = complaint(data)
    assert "got one class only" in text
    assert "255 is read as ignored: if it is a class, add classes.csv with `index,name`" in text
    (data / "classes.csv").write_text("index,name\n0,soil\n255,weed\n")
    assert survey(open_dataset(data)).counts["val"] == (24, 24)


def test_masks_of_grey_levels_get_the_lines_to_write(pairs: Pairs, save: Save) -> None:
    data = pairs("a b c")
    all_masks(save, data, [0, 128, 255])
    text = complaint(data)
    assert "masks hold 0, 128 and 255, which look like grey levels" in text
    assert "`index,name`, `0,NAME`, `128,NAME`, `255,NAME`" in text


@pytest.mark.parametrize("values", [[0, 1, 255], [1, 2, 255], [0, 3, 15, 255], [0, 128]])
def test_plausible_indices_are_taken(pairs: Pairs, save: Save, values: list[int]) -> None:
    data = pairs("a b c")
    all_masks(save, data, values)
    assert survey(open_dataset(data)).classes.indices == tuple(v for v in values if v != 255)


@pytest.mark.parametrize("values", [list(range(0, 140, 2)), list(range(201))])
def test_masks_that_were_interpolated_are_refused(
    pairs: Pairs, save: Save, values: list[int]
) -> None:
    data = pairs("a b c")
    for name in "abc":
        save(f"data/images/{name}.png", np.zeros((20, 20), dtype=np.uint8))
        save(f"data/masks/{name}.png", np.resize(np.array(values, dtype=np.uint8), (20, 20)))
    text = complaint(data)
    assert f"masks hold {len(values)} different indices, too many for classes without" in text


def test_a_long_list_of_classes_without_gaps_needs_no_table(pairs: Pairs, save: Save) -> None:
    data = pairs("a b c")
    for name in "abc":
        save(f"data/images/{name}.png", np.zeros((20, 20), dtype=np.uint8))
        save(f"data/masks/{name}.png", np.resize(np.arange(151, dtype=np.uint8), (20, 20)))
    assert survey(open_dataset(data)).classes.num_classes == 151


# Decompression bombs


def png_header(width: int, height: int, *, colour_type: int = 2) -> bytes:
    """A PNG that promises much and holds nothing."""
    head = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (2**29 + 1, 1)])
def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(*size))
    with pytest.raises(BadDataError, match=r"decompression bomb: \d+ x \d+ px, more than 536,870"):
        read_image(path)


def test_a_tiff_bomb_is_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tif"
    tiles = iter([b"x"])
    tifffile.imwrite(
        path, tiles, shape=(2**15, 2**15), dtype="uint8", tile=(2**15, 2**15), compression="zlib"
    )
    assert path.stat().st_size < 10_000
    with pytest.raises(BadDataError, match=r"decompression bomb: 32768 x 32768 px, more than"):
        read_image(path)


def test_an_image_that_grows_a_thousandfold_is_a_bomb(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(20_000, 20_000))
    with pytest.raises(BadDataError, match=r"20000 x 20000 px in a file of \d+ bytes, which real"):
        read_image(path)


def test_a_mask_may_grow_as_it_likes(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    path.write_bytes(png_header(12_000, 12_000, colour_type=0))
    with pytest.raises(BadDataError, match="cannot be decoded"):  # its size was no reason
        read_mask(path, ClassTable.default(2))


def test_what_does_not_fit_into_the_memory_is_refused(
    save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save("a.png", np.zeros((600, 700, 3), dtype=np.uint8))
    memory = SimpleNamespace(available=3 * 600 * 700 * 4 - 1)
    monkeypatch.setattr(_stored.psutil, "virtual_memory", lambda: memory)
    with pytest.raises(BadDataError, match=r"700 x 600 px need 0\.0 GiB to decode, and 0\.0 GiB"):
        read_image(path)
    memory.available += 1
    assert read_image(path).shape == (3, 600, 700)


@pytest.mark.parametrize("file_bytes", [3 * 10**9, 10**7])
def test_images_that_people_have_are_possible(
    monkeypatch: pytest.MonkeyPatch, file_bytes: int
) -> None:
    memory = SimpleNamespace(available=32 * 2**30)
    monkeypatch.setattr(_stored.psutil, "virtual_memory", lambda: memory)
    header = _stored.Header(width=20_000, height=20_000, decoded_bytes=3 * 20_000**2)
    _stored.check_size(header, file_bytes, mask=False)


def test_masks_of_numbers_below_0_are_refused(pairs: Pairs) -> None:
    data = pairs("a b c")
    for name in "ab":
        (data / f"masks/{name}.png").unlink()
        codes = np.arange(48, dtype=np.int32).reshape(6, 8) % 3 - 1
        tifffile.imwrite(data / f"masks/{name}.tif", codes)
    said = complaint(data)
    for name in "ab":
        rule = "class indices must be from 0 to 65535, got -1; save pixels that do not count as 255"
        assert f"masks/{name}.tif: {rule}" in said


def test_links_that_lead_nowhere_are_told(pairs: Pairs) -> None:
    data = pairs("a b c")
    for kind in ("images", "masks"):
        (data / kind / "d.png").symlink_to("/nowhere/at/all.png")
    said = complaint(data)
    assert "images/d.png: " in said
    assert "masks/d.png: " in said
