"""The demo's data on disk: an ordinary data set, and never in anybody's way."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fullconv.demo import make_scenes
from fullconv.demo._dataset import CLASSES, write_scenes
from fullconv.demo._originals import Split
from fullconv.errors import BadOutputError
from fullconv.images import open_dataset, survey

COUNTS: dict[Split, int] = {"train": 2, "val": 1, "test": 1}


def test_the_folder_is_a_data_set_like_any_other(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    write_scenes(
        tmp_path / "data",
        COUNTS,
        seed=1,
        size=160,
        num_digits=3,
        progress=lambda done, of: calls.append((done, of)),
    )
    dataset = open_dataset(tmp_path / "data")
    facts = survey(dataset)
    assert {split: len(samples) for split, samples in dataset.splits.items()} == COUNTS
    assert facts.classes.names == CLASSES.names
    assert facts.classes.colours == CLASSES.colours
    assert set(facts.shapes.values()) == {(160, 160)}
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_files_hold_the_scenes_that_are_returned(tmp_path: Path) -> None:
    scenes = write_scenes(tmp_path / "data", COUNTS, seed=1, size=160, num_digits=3)
    for index, expected in enumerate(make_scenes(1, count=2, size=160, num_digits=3)):
        folder, name = tmp_path / "data" / "train", f"train_{index:03d}"
        mask = np.asarray(Image.open(folder / "masks" / f"{name}.png"))
        image = np.asarray(Image.open(folder / "images" / f"{name}.jpg")).astype(int)
        assert np.array_equal(mask, expected.mask)
        assert np.array_equal(scenes["train"][index].image, expected.image)
        assert np.abs(image - expected.image).mean() < 6  # JPEG loses some of the noise


def test_data_of_an_earlier_demo_are_replaced(tmp_path: Path) -> None:
    write_scenes(tmp_path / "data", {"train": 3}, seed=1, size=120, num_digits=2)
    write_scenes(tmp_path / "data", {"train": 1}, seed=2, size=120, num_digits=2)
    names = [path.name for path in (tmp_path / "data" / "train" / "images").iterdir()]
    assert names == ["train_000.jpg"]


def test_a_folder_of_anything_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("years of work")
    with pytest.raises(BadOutputError, match=r"`out` must leave room .* holds something else"):
        write_scenes(tmp_path / "data", COUNTS, seed=1, size=120, num_digits=2)
    assert (tmp_path / "data" / "thesis.txt").read_text() == "years of work"
