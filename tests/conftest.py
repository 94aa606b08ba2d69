"""What holds for every test, and a small data set for those that train."""

from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

# The same cases each time, however slow the machine is at the moment: a red test says that code is wrong.
settings.register_profile("same", deadline=None, derandomize=True, database=None)
settings.load_profile("same")

SIZES = ((40, 52), (33, 47))


def write_scenes(root: Path, count: int = 8, sizes: tuple[tuple[int, int], ...] = SIZES) -> Path:
    draw = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for i in range(count):
        height, width = sizes[i % len(sizes)]
        mask = np.zeros((height, width), np.uint8)
        y, x = draw.integers(0, height - 12), draw.integers(0, width - 12)
        mask[y : y + 12, x : x + 12] = 1
        image = draw.integers(0, 60, (height, width, 3)) + mask[..., None] * 150
        mask[0, :3] = 255
        Image.fromarray(image.astype(np.uint8)).save(root / "images" / f"{i:02}.png")
        Image.fromarray(mask).save(root / "masks" / f"{i:02}.png")
    return root


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """Keep what tests learn of files out of the user's cache, session fixtures included."""
    home = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home))
        yield home


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright squares on noise in two sizes, three units to ignore in each mask."""
    return write_scenes(tmp_path_factory.mktemp("data") / "scenes")
