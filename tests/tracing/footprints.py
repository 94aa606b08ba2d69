"""What units depend on, measured: pixels are changed and the map is looked at.

Two witnesses. A *change* of a row of pixels (small, large, huge) can only move units that depend on
it, so it never sees too much. *NaN* reaches everything that is computed from it, also what is
multiplied by zero, so it never sees too little (but for operators that compare, such as unpooling).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MAGNITUDES = (1e-3, 0.5, 8.0, 1e5)
MOST_NUMBERS = 2**19  # in a batch of images


def change_footprint(net: nn.Module, image: Tensor, axis: int) -> Tensor:
    """Return, for (pixel, unit) along one axis, whether changing the pixel changed the unit."""
    generator = torch.Generator().manual_seed(5)
    rows = torch.rand(len(MAGNITUDES), *image.shape, generator=generator, dtype=image.dtype)
    others = [image + m * (1 + row) for m, row in zip(MAGNITUDES, rows, strict=True)]
    return _moved(net, image, others, axis)


def nan_footprint(net: nn.Module, image: Tensor, axis: int) -> Tensor:
    """Return, for (pixel, unit) along one axis, whether NaN in the pixel reached the unit."""
    return _moved(net, image, [torch.full_like(image, torch.nan)], axis)


def _moved(net: nn.Module, image: Tensor, others: Sequence[Tensor], axis: int) -> Tensor:
    found = []
    most = min(64, max(1, MOST_NUMBERS // image.numel()))
    for start in range(0, image.shape[axis + 1], most):
        pixels = range(start, min(start + most, image.shape[axis + 1]))
        # The same place in the same batch: vectorised functions round by where a value lies.
        same = image.repeat(len(pixels), *[1] * image.ndim)
        still, moved = net(same), torch.tensor(False)
        for other in others:
            batch = same.clone()
            for n, pixel in enumerate(pixels):
                batch[n].select(axis + 1, pixel)[...] = other.select(axis + 1, pixel)
            moved = moved | (net(batch) != still)
        found.append(moved.amax([d for d in range(still.ndim) if d not in (0, axis + 2)]))
    return torch.cat(found)


def hull(row: Tensor) -> tuple[int, int]:
    """Return the half-open range of the true entries; (0, 0) if there is none."""
    places = row.nonzero()
    return (int(places.min()), int(places.max()) + 1) if len(places) else (0, 0)
