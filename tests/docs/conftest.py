"""A folder as a reader of the docs might have it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with ten images of ``field/``; we are in it."""
    draw = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / "field" / name).mkdir(parents=True)
    for i in range(10):
        mask = np.zeros((48, 64), np.uint8)
        y, x = draw.integers(0, 30, 2)
        mask[y : y + 16, x : x + 20] = 1
        image = draw.integers(0, 90, (48, 64, 3)) + mask[..., None] * 120
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / "field" / "images" / f"{i}.png")
        Image.fromarray(mask).save(tmp_path / "field" / "masks" / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    return tmp_path
