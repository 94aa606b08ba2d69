"""What samplers have in common: their form, their seeds, and one map or many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fullconv.geometry import Box

# The units of one map: boolean or weights of the map's shape, boxes of units, or None for all.
Units = Tensor | Sequence[Box] | None
Sampler = Callable[[Any, torch.Generator], Any]


def generator(seed: int, epoch: int = 0, step: int = 0, image: int = 0) -> torch.Generator:
    """Return the random numbers of one image of one step, whichever process asks for them.

    Args:
        seed: Seed of the run.
        epoch: Number of the epoch.
        step: Number of the step within it.
        image: Number of the image within the step, or within the data set.
    """
    word = np.random.SeedSequence((seed, epoch, step, image)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(word >> np.uint64(1)))


def one_or_many(targets: Any) -> tuple[list[Tensor], bool]:
    """Return the maps of labels as a list, and whether there was one map only."""
    if isinstance(targets, Tensor | np.ndarray):
        return [_tensor(targets)], True
    return [_tensor(target) for target in targets], False


def _tensor(array: Any) -> Tensor:
    """Return an array as a tensor, in whatever order its bytes and axes lie."""
    if isinstance(array, Tensor):
        return array
    found = np.asarray(array)
    return torch.from_numpy(np.require(found, found.dtype.newbyteorder("="), ["C", "W"]))


def labels_of(target: Tensor) -> Tensor:
    """Return labels of which whole numbers are int64: types without a sign neither mix nor hold -1."""
    whole = not target.is_floating_point() and target.dtype != torch.bool
    return target.long() if whole else target


def valid_units(target: Tensor, ignore: int | None) -> Tensor:
    """Return which units have a label that counts, `(*map_shape)` boolean."""
    if ignore is None:
        return torch.ones_like(target, dtype=torch.bool)
    return labels_of(target) != ignore


def spread_out(flat: Tensor, likes: Sequence[Tensor]) -> list[Tensor]:
    """Return one long row of units as maps of the given shapes, on the devices of those."""
    parts = torch.split(flat, [like.numel() for like in likes])
    return [p.reshape(like.shape).to(like.device) for p, like in zip(parts, likes, strict=True)]
