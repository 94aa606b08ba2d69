"""Where the classes of a large mask are: how many units of each class are in each of its blocks.

A draw of units of one class then reads the blocks that it falls into, and no others. The index is built
once, block by block, and kept in the user's cache folder until the mask changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.errors import BadDataError, BadOutputError
from fullconv.geometry import Box, block_at
from fullconv.images._atomic import atomic
from fullconv.images._classes import ClassTable
from fullconv.images._facts import signature
from fullconv.images._faults import BrokenRuleError
from fullconv.images._lazy import open_mask
from fullconv.regions import LazyArray

LEAST_SIDE, MOST_SIDE = 256, 4096


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ClassIndex:
    """How many units of each class are in each block of a mask.

    Attributes:
        shape: Of the mask.
        block: Sides of a block, in units; those at the ends are smaller.
        counts: `(*blocks, classes)`; ignored units count for none.
    """

    shape: tuple[int, ...]
    block: tuple[int, ...]
    counts: npt.NDArray[np.int64]

    def box(self, place: tuple[int, ...]) -> Box:
        """Return the units of a block."""
        return block_at(place, self.block, self.shape)


def class_index(
    path: Path, classes: ClassTable, progress: Callable[[int, int], None] | None = None
) -> ClassIndex:
    """Return the index of a mask: from the cache, or after going through it once.

    Args:
        path: As `open_mask` takes it.
        classes: The classes.
        progress: Called with the blocks that were counted, and all of them.

    Raises:
        BadDataError: If the mask cannot be read.
    """
    mask = open_mask(path, classes)
    block = _block(mask)
    grid = tuple(-(-n // b) for n, b in zip(mask.shape, block, strict=True))
    home = _home(path, classes)
    counts = _load(home, (*grid, classes.num_classes)) if home else None
    if counts is None:
        counts = np.zeros((*grid, classes.num_classes), np.int64)
        for number, place in enumerate(product(*map(range, grid)), start=1):
            part = mask[block_at(place, block, mask.shape).slices]
            times = np.bincount(part.ravel(), minlength=classes.ignore + 1)
            counts[place] = times[: classes.num_classes]
            if progress:
                progress(number, int(np.prod(grid)))
        if home:
            _save(home, counts)
    return ClassIndex(shape=mask.shape, block=block, counts=counts)


def _block(mask: LazyArray) -> tuple[int, ...]:
    """Return sides of blocks: whole chunks, as far as those are neither tiny nor huge."""
    sides = [
        chunk * -(-LEAST_SIDE // chunk) if chunk < LEAST_SIDE else min(chunk, MOST_SIDE)
        for chunk in mask.chunks
    ]
    return tuple(min(side, size) for side, size in zip(sides, mask.shape, strict=True))


def _home(path: Path, classes: ClassTable) -> Path | None:
    """Return where the index of a mask as it is now is kept; None for users who have no home."""
    try:
        state = signature(path)
    except BrokenRuleError as error:
        raise BadDataError(f"{path}: {error}") from error
    told = repr((str(Path(path).resolve()), state, classes.to_dict()))
    name = blake2b(told.encode(), digest_size=8).hexdigest()
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return folder / "fullconv" / f"classes-{name}.npz"


def _load(home: Path, shape: tuple[int, ...]) -> npt.NDArray[np.int64] | None:
    try:
        with home.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            counts: npt.NDArray[Any] = file["counts"]
    except Exception:  # noqa: BLE001 - a cache that cannot be read is none
        return None
    return counts.astype(np.int64) if counts.shape == shape else None


def _save(home: Path, counts: npt.NDArray[np.int64]) -> None:
    with suppress(OSError, BadOutputError), atomic(home) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, counts=counts)
