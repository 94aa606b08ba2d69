"""How often each class is in each block of a mask: against NumPy, and kept as long as the mask is the same."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import zarr

from fullconv.images import ClassTable, class_index

CLASSES = ClassTable.default(3)
SHAPE = (700, 530)


@pytest.fixture
def mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    codes = np.random.default_rng(0).integers(0, 3, SHAPE, np.uint8)
    codes[:300] = 255
    array = zarr.create_array(
        f"{tmp_path}/mask.zarr", shape=SHAPE, dtype="u1", chunks=(256, 256), compressors=None
    )
    array[...] = codes
    return tmp_path / "mask.zarr"


def counted(mask: Path) -> tuple[np.ndarray, int]:
    """The counts, and the blocks that had to be read for them."""
    seen: list[int] = []
    index = class_index(mask, CLASSES, lambda done, _: seen.append(done))
    codes = np.asarray(zarr.open_array(str(mask)))
    for place in product(*map(range, index.counts.shape[:-1])):
        part = codes[index.box(place).slices]
        assert index.counts[place].tolist() == [(part == c).sum() for c in range(3)]
    return index.counts, len(seen)


def test_a_mask_is_counted_once(mask: Path) -> None:
    first, blocks = counted(mask)
    assert first.shape == (3, 3, 3)
    assert blocks == 9
    again, blocks = counted(mask)
    assert blocks == 0
    assert np.array_equal(again, first)


def test_a_mask_that_changes_is_counted_again(mask: Path) -> None:
    """Uncompressed, so that its size stays the same."""
    counted(mask)
    zarr.open_array(str(mask), mode="r+")[600:, 500:] = 2
    assert counted(mask)[1] == 9


@pytest.mark.parametrize("content", [b"", b"PK\3\4 cut off", None])
def test_a_cache_that_cannot_be_used_is_passed_over(content: bytes | None, mask: Path) -> None:
    counted(mask)
    (kept,) = (mask.parent / "cache" / "fullconv").glob("classes-*.npz")
    if content is None:
        np.savez(kept, counts=np.zeros((2, 2, 3)))
    else:
        kept.write_bytes(content)
    assert counted(mask)[1] == 9
    assert counted(mask)[1] == 0


def no_home(_: Path, patch: pytest.MonkeyPatch) -> None:
    """As for users whom the system does not know."""

    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    patch.delenv("XDG_CACHE_HOME")
    patch.setattr("pathlib.Path.home", home)


def no_folder(folder: Path, patch: pytest.MonkeyPatch) -> None:
    (folder / "file").touch()
    patch.setenv("XDG_CACHE_HOME", str(folder / "file"))


@pytest.mark.parametrize("hinder", [no_home, no_folder])
def test_without_a_place_for_a_cache_masks_are_counted_each_time(
    hinder: Callable[[Path, pytest.MonkeyPatch], None], mask: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hinder(mask.parent, monkeypatch)
    assert [counted(mask)[1] for _ in range(2)] == [9, 9]
