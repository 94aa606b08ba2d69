"""Held-out images that are training images too."""

import shutil
from collections.abc import Callable
from pathlib import Path

from fullconv.images import open_dataset, repeated

Pairs = Callable[..., Path]


def test_copies_are_found_whatever_they_are_called(pairs: Pairs, tmp_path: Path) -> None:
    for split, names in (("train", "a b c"), ("val", "d e"), ("test", "f")):
        pairs(names, below=f"data/{split}")
    data = tmp_path / "data"
    assert repeated(open_dataset(data)) == ()
    shutil.copy(data / "train/images/b.png", data / "val/images/e.png")
    shutil.copy(data / "train/images/a.png", data / "test/images/f.png")
    found = [(held.name, seen.name) for held, seen in repeated(open_dataset(data))]
    assert found == [("e", "b"), ("f", "a")]
