"""Boxes of images as the tensors that a network runs on."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fullconv.geometry import Box


def like_weights(net: nn.Module) -> Tensor:
    """Return a tensor on the device and of the type of the network's weights."""
    found = (p for p in chain(net.parameters(), net.buffers()) if p.is_floating_point())
    return next(found, torch.empty(0))


def cast_now(net: nn.Module) -> torch.dtype | None:
    """Return what autocast casts to, where it is on for the device of the network's weights."""
    device = like_weights(net).device.type
    if device == "meta" or not torch.is_autocast_enabled(device):
        return None
    return torch.get_autocast_dtype(device)


def read(image: Any, box: Box, like: Tensor) -> Tensor:
    """Return a box of an image, `(channels, *box.shape)`, on the device and of the type of `like`.

    Args:
        image: `(channels, *spatial)`: a tensor, a NumPy array, or anything sliced into arrays.
        box: Which px.
        like: A tensor.
    """
    return _like(image[(slice(None), *box.slices)], like)


def gathered(image: Any, begins: NDArray[np.int64], sides: tuple[int, ...], like: Tensor) -> Tensor:
    """Return boxes of one shape of an image, `(n, channels, *sides)`, as `read` returns one.

    Args:
        image: `(channels, *spatial)`: a tensor or a NumPy array.
        begins: The first px of each box, `(axes, n)`.
        sides: Of the boxes, in px.
        like: A tensor.
    """
    axes = len(sides)
    places: list[Any] = []
    for k, (starts, side) in enumerate(zip(begins, sides, strict=True)):
        shape = [-1 if n == k else 1 for n in range(axes)]
        places.append(starts.reshape(-1, *(1,) * axes) + np.arange(side).reshape(shape))
    if isinstance(image, Tensor):
        places = [torch.from_numpy(place).to(image.device) for place in places]
    return _like(image[(slice(None), *places)], like).movedim(1, 0)


def _like(part: Any, like: Tensor) -> Tensor:
    """Return an array as a tensor on the device and of the type of `like`."""
    if not isinstance(part, Tensor):
        # PyTorch takes neither read-only arrays nor those of another byte order.
        part = np.asarray(part)
        part = torch.from_numpy(np.require(part, part.dtype.newbyteorder("="), ["C", "W"]))
    return part.to(device=like.device, dtype=like.dtype)


def laid_out(batch: Tensor, net: nn.Module) -> Tensor:
    """Return the batch in the memory format that the network's weights have.

    Which one is faster depends on the network: plain convolutions gain by channels_last, grouped ones
    and local response norm lose.
    """
    kernels = (p for p in net.parameters() if p.ndim == batch.ndim and p.shape[1] > 1)
    kernel = next((p for p in kernels if p[0, 0].numel() > 1), None)
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    known = formats.get(batch.ndim)
    if kernel is None or known is None or not kernel.is_contiguous(memory_format=known):
        return batch.contiguous()
    return batch.contiguous(memory_format=known)


def channels_last(batch: Tensor) -> Tensor:
    """Return the batch in the memory format in which convolutions are fastest."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    known = formats.get(batch.ndim)
    return batch.contiguous(memory_format=known) if known else batch.contiguous()
