"""A tiny data set, a run on it, and the program called in this process."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from fullconv.cli import main

NETWORK = ("--options.width", "4", "--options.depth", "1")


class Answer(NamedTuple):
    status: int
    out: str
    err: str


Program = Callable[..., Answer]


def write_data(root: Path, count: int = 6) -> Path:
    """Bright squares on noise, in two sizes."""
    draw = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for i in range(count):
        mask = np.zeros((40 - 7 * (i % 2), 52), np.uint8)
        y, x = draw.integers(0, 20), draw.integers(0, 40)
        mask[y : y + 12, x : x + 12] = 1
        image = draw.integers(0, 60, (*mask.shape, 3)) + mask[..., None] * 150
        Image.fromarray(image.astype(np.uint8)).save(root / "images" / f"{i}.png")
        Image.fromarray(mask).save(root / "masks" / f"{i}.png")
    (root / "classes.csv").write_text("name,colour\nground,0;0;255\nsquare,255;128;0\n")
    return root


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("cli") / "squares")


@pytest.fixture(scope="session")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs. Tests read it; one that changes it copies it first."""
    run = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", str(data), "--out", str(run), "--epochs", "2", *NETWORK]) == 0
    return run


@pytest.fixture
def fullconv(capsys: pytest.CaptureFixture[str]) -> Program:
    """The program: what it answers, prints and complains about."""

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return Answer(status, *capsys.readouterr())

    return call
