"""The survey: counts and statistics against NumPy on all pixels at once, and its cache."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from fullconv.images import ClassTable, Survey, open_dataset, survey
from fullconv.images import _survey as module

from .conftest import Save

Pairs = Callable[..., Path]


def mixed_data(save: Save, tmp_path: Path, dtype: str = "uint8") -> tuple[Path, dict[str, list]]:
    """Write training images of different size; return them by name, flattened to (pixels, 3)."""
    generator = np.random.default_rng(11)
    flat: dict[str, list] = {"images": [], "masks": []}
    for number, shape in enumerate([(5, 7), (31, 2), (1, 9), (300, 500)]):
        image = generator.integers(0, 200, (*shape, 3)).astype(dtype)
        mask = generator.choice([0, 1, 2, 255], shape, p=[0.5, 0.3, 0.1, 0.1]).astype(np.uint8)
        for split in ("train", "val"):
            path = tmp_path / split / "images" / f"{split}{number}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, image if split == "train" else image // 2, photometric="rgb")
            save(f"{split}/masks/{split}{number}.png", mask)
        flat["images"].append(image.reshape(-1, 3))
        flat["masks"].append(mask.reshape(-1))
    return tmp_path, flat


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_counts_and_statistics_are_those_of_all_training_pixels(
    save: Save, tmp_path: Path, dtype: str
) -> None:
    data, flat = mixed_data(save, tmp_path, dtype)
    found = survey(open_dataset(data), workers=2)
    pixels = np.concatenate(flat["images"]).astype(np.float64)
    labels = np.concatenate(flat["masks"])
    np.testing.assert_allclose(found.mean, pixels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.std, pixels.std(axis=0), rtol=1e-12)
    assert found.counts["train"] == tuple(int((labels == c).sum()) for c in range(3))
    assert found.counts["val"] == found.counts["train"]
    assert found.ignored["train"] == int((labels == 255).sum())
    assert (found.channels, found.dtype) == (3, dtype)
    assert found.shapes["train1"] == (31, 2)
    assert found.classes == ClassTable.default(3)


def test_a_large_mean_does_not_spoil_the_deviation(save: Save, tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    images = [generator.normal(1e6, 1.0, (40, 50)).astype(np.float64) for _ in range(3)]
    for number, image in enumerate(images):
        (tmp_path / "train/images").mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(tmp_path / f"train/images/{number}.tif", image)
        save(f"train/masks/{number}.png", (image > 1e6).astype(np.uint8))
    (tmp_path / "val/images").mkdir(parents=True)
    tifffile.imwrite(tmp_path / "val/images/v.tif", images[0])
    save("val/masks/v.png", np.eye(40, 50, dtype=np.uint8))
    found = survey(open_dataset(tmp_path))
    np.testing.assert_allclose(found.std, [np.std(images)], rtol=1e-9)


def test_a_constant_channel_has_deviation_1(save: Save, tmp_path: Path) -> None:
    for name in "ab":
        save(f"images/{name}.png", np.full((4, 5), 9, dtype=np.uint8))
        save(f"masks/{name}.png", np.eye(4, 5, dtype=np.uint8))
    assert survey(open_dataset(tmp_path)).std == (1.0,)


def test_a_class_table_decides_what_is_counted(save: Save, pairs: Pairs) -> None:
    data = pairs("a b")
    save("data/masks/a.png", np.array([[0, 5, 5, 9, 9, 9, 255, 0]] * 6, dtype=np.uint8))
    save("data/masks/b.png", np.array([[5] * 8] * 6, dtype=np.uint8))
    (data / "classes.csv").write_text("index,name\n0,soil\n5,weed\n9,void\n30,never\n")
    found = survey(open_dataset(data, training=False))
    assert found.classes.names == ("soil", "weed", "never")
    assert found.counts == {"test": (12, 12 + 48, 0)}
    assert found.ignored == {"test": 24}


def test_without_a_table_every_index_found_is_a_class(save: Save, pairs: Pairs) -> None:
    data = pairs("a b c")
    for name in "abc":
        save(f"data/masks/{name}.png", np.array([[3, 7, 4, 255, 3, 3, 3, 3]] * 6, dtype=np.uint8))
    found = survey(open_dataset(data))
    assert found.classes.indices == (3, 4, 7)
    assert found.classes.names == ("3", "4", "7")


def test_rgb_masks_are_counted_by_colour(save: Save, pairs: Pairs) -> None:
    data = pairs("a b")
    rgb = np.zeros((6, 8, 3), dtype=np.uint8)
    rgb[:2] = (255, 0, 10)
    rgb[2] = (1, 1, 1)
    for name in "ab":
        save(f"data/masks/{name}.png", rgb)
    (data / "classes.csv").write_text("name,colour\nsky,#000000\nroad,#ff000a\nvoid,#010101\n")
    found = survey(open_dataset(data))
    assert found.counts["train"] == (24, 16)
    assert found.ignored["train"] == 8


def test_progress_counts_every_pair(pairs: Pairs) -> None:
    calls: list[tuple[int, int]] = []
    dataset = open_dataset(pairs("a b c d"))
    survey(dataset, progress=lambda done, num: calls.append((done, num)))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_an_interruption_ends_the_survey(pairs: Pairs) -> None:
    def interrupt(_done: int, _num: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        survey(open_dataset(pairs("a b c d e f g h")), progress=interrupt)


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are really read."""
    read: list[str] = []
    for name in ("image_facts", "mask_facts"):
        original = getattr(module, name)

        def spy(path: Path, original: Callable[[Path], object] = original) -> object:
            read.append(f"{path.parent.name}/{path.name}")
            return original(path)

        monkeypatch.setattr(module, name, spy)
    return read


def test_the_second_survey_reads_only_what_changed(
    save: Save, pairs: Pairs, read_files: list[str]
) -> None:
    data = pairs("a b c")
    first = survey(open_dataset(data))
    assert len(read_files) == 6
    read_files.clear()
    assert survey(open_dataset(data)) == first
    assert read_files == []
    path = save("data/masks/b.png", np.zeros((6, 8), dtype=np.uint8))
    os.utime(path, ns=(1, 1))
    changed = survey(open_dataset(data))
    assert read_files == ["masks/b.png"]
    assert changed.counts != first.counts


def test_a_new_class_table_needs_no_new_reading(pairs: Pairs, read_files: list[str]) -> None:
    data = pairs("a b c")
    survey(open_dataset(data))
    read_files.clear()
    (data / "classes.csv").write_text("index,name\n1,one\n0,zero\n4,four\n")
    assert survey(open_dataset(data)).classes.names == ("zero", "one", "four")
    assert read_files == []


def damage(content: str) -> list[str]:
    """Return a cache file cut, emptied, of another kind, and with fields missing."""
    entries = json.loads(content)
    image = next(iter(entries["images"].values()))
    del image["mean"]
    return [
        content[: len(content) // 2],
        "",
        "[]",
        "{}",
        "null",
        '{"version": 99}',
        '{"version": 1, "images": [], "masks": 3}',
        json.dumps(entries),
    ]


@pytest.mark.parametrize("case", range(8))
def test_a_damaged_cache_is_passed_over(pairs: Pairs, cache_home: Path, case: int) -> None:
    data = pairs("a b c")
    first = survey(open_dataset(data))
    (cache,) = cache_home.rglob("*.json")
    cache.write_text(damage(cache.read_text())[case])
    assert survey(open_dataset(data)) == first


def test_no_cache_folder_is_needed(
    pairs: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file where the cache folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    data = pairs("a b c")
    assert isinstance(survey(open_dataset(data)), Survey)


def test_nothing_is_written_beside_the_data(pairs: Pairs) -> None:
    data = pairs("a b c")
    before = sorted(data.rglob("*"))
    survey(open_dataset(data))
    assert sorted(data.rglob("*")) == before


def test_large_files_are_read_one_at_a_time(pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most = [0], [0]
    original = module.image_facts

    def slow(path: Path) -> object:
        result: object = None
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        for _ in range(20):
            result = original(path)
        inside[0] -= 1
        return result

    monkeypatch.setattr(module, "image_facts", slow)
    monkeypatch.setattr(module, "LARGE_BYTES", 1)
    survey(open_dataset(pairs("a b c d e f g h")), workers=4)
    assert most[0] == 1


def test_facts_do_not_depend_on_how_the_rows_are_chunked(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_home: Path
) -> None:
    data, _ = mixed_data(save, tmp_path)
    whole = survey(open_dataset(data))
    for cache in cache_home.rglob("*.json"):
        cache.unlink()
    monkeypatch.setattr("fullconv.images._stored.CHUNK_PX", 13)
    chunked = survey(open_dataset(data))
    np.testing.assert_allclose(chunked.std, whole.std, rtol=1e-12)
    assert replace(chunked, std=whole.std) == whole
