"""Small data sets on disk, written with other code than the one under test."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the survey's cache out of the user's folder."""
    home = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(7)


Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write an array as a picture below the test's folder; make the folders above it."""

    def write(name: str, pixels: np.ndarray, **options: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, **options)
        return path

    return write


@pytest.fixture
def pairs(save: Save, generator: np.random.Generator, tmp_path: Path) -> Callable[..., Path]:
    """Write images and masks of two classes, ``NAME.png`` below ``images/`` and ``masks/``."""

    def write(names: str = "a b c d", *, below: str = "data") -> Path:
        for name in names.split():
            image = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            mask = np.arange(48, dtype=np.uint8).reshape(6, 8) % 2
            save(f"{below}/images/{name}.png", image)
            save(f"{below}/masks/{name}.png", mask)
        return tmp_path / below

    return write
