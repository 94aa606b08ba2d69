"""Held-out images that are training images too."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fullconv.errors import BadDataError
from fullconv.images import open_dataset, repeated, survey

Pairs = Callable[..., Path]


@pytest.fixture
def data(pairs: Pairs) -> Path:
    for split, names in (("train", "a b c"), ("val", "d e"), ("test", "f")):
        pairs(names, below=f"data/{split}")
    return pairs("g", below="data/train").parent


def found(data: Path) -> list[tuple[str, str]]:
    return [(held.name, seen.name) for held, seen in repeated(open_dataset(data))]


def test_copies_are_found_whatever_they_are_called(data: Path) -> None:
    assert found(data) == []
    shutil.copy(data / "train/images/b.png", data / "val/images/e.png")
    shutil.copy(data / "train/images/a.png", data / "test/images/f.png")
    assert found(data) == [("e", "b"), ("f", "a")]


def test_pixels_count_not_bytes(data: Path) -> None:
    with Image.open(data / "train/images/b.png") as image:
        image.save(data / "val/images/e.bmp")
        (data / "val/images/e.png").unlink()
        changed = np.array(image)
    assert found(data) == [("e", "b")]
    changed[0, 0, 0] ^= 1
    Image.fromarray(changed).save(data / "val/images/e.bmp")
    assert found(data) == []


def photograph(seed: int) -> Image.Image:
    """Smooth enough to be stored with little loss."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", [(160, 120), (80, 60)])
def test_the_same_name_counts_where_the_image_was_saved_again(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    for split, names in (("train", "ab"), ("val", "ac")):
        for name in names:
            for kind in ("images", "masks"):
                (tmp_path / split / kind).mkdir(parents=True, exist_ok=True)
            mask = Image.fromarray(np.arange(120 * 160, dtype=np.uint8).reshape(120, 160) % 2)
            mask.save(tmp_path / split / "masks" / f"{name}.png")
            photograph(ord(name)).save(tmp_path / split / "images" / f"{name}.png")
    again = tmp_path / "val" / "images" / "a.jpg"
    (again.parent / "a.png").unlink()
    photograph(ord("a")).resize(size, Image.Resampling.BOX).save(again, quality=80)
    assert found(tmp_path) == [("val_a", "train_a")]
    photograph(7).save(again, quality=80)  # another image of the same number
    assert found(tmp_path) == []


def test_other_images_of_the_same_name_and_look_are_others(tmp_path: Path) -> None:
    """Noise has the same mean and deviation everywhere; the pictures are others all the same."""
    draw = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / split / kind).mkdir(parents=True)
        for name in "ab":
            pixels = draw.integers(0, 256, (200, 300, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / "images" / f"{name}.png")
            Image.fromarray(pixels[..., 0] % 2).save(tmp_path / split / "masks" / f"{name}.png")
    assert found(tmp_path) == []


def test_nothing_is_read_that_the_survey_knows(data: Path) -> None:
    survey(open_dataset(data))
    path = data / "val/images/e.png"
    before = path.stat()
    path.write_bytes(b"x" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found(data) == []
    path.touch()
    with pytest.raises(BadDataError, match=r"e\.png: is not an image that can be read"):
        found(data)
