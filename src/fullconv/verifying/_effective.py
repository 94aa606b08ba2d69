"""What a unit attends to within its receptive field: the effective receptive field."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fullconv.tracing import trace

DRAWS = 8  # images of noise that gradients are averaged over


def effective_field(net: nn.Module, channels: int = 3, *, seed: int = 0) -> NDArray[np.float64]:
    """Return how much each pixel of its field moves a unit, 1 for the one that moves it most.

    The magnitude of the gradient of a unit in the middle of an image, summed over channels, averaged
    over images of noise (Luo et al. 2016). Weights decide it, so a trained network has another one
    than a fresh one.

    Args:
        net: Takes `(batch, channels, *spatial)`, returns a map.
        channels: Channels of the image.
        seed: Seed of the noise.

    Returns:
        Of the shape of the unit's field, in px; the field of the largest phase is at least as large.

    Raises:
        NotLocalError: If the network's units have no finite field.
    """
    geometry = trace(net, channels)
    shape = geometry.suited_shape(tuple(2 * axis.field + 2 * axis.period for axis in geometry.axes))
    unit = tuple(size // 2 for size in geometry.map_shape(shape))
    field = geometry.field_of(unit)
    like = next((p for p in net.parameters() if p.is_floating_point()), torch.empty(0))
    draw = torch.Generator().manual_seed(seed)
    total = torch.zeros(field.shape, dtype=torch.float64)
    for _ in range(DRAWS):
        image = torch.randn(1, channels, *shape, generator=draw).to(like).requires_grad_()
        answer = net(image)[(0, slice(None), *unit)].sum()
        (grad,) = torch.autograd.grad(answer, image)
        total += grad[(0, slice(None), *field.slices)].abs().sum(0).double().cpu()
    found = total.numpy()
    return found / max(float(found.max()), np.finfo(np.float64).tiny)


def half_width(effective: NDArray[np.float64]) -> tuple[int, ...]:
    """Return the sides of the smallest centred box, grown alike, that holds half of the gradient."""
    whole = effective.sum()
    for percent in range(1, 101):
        sides = [max(1, round(size * percent / 100)) for size in effective.shape]
        starts = [(size - side) // 2 for size, side in zip(effective.shape, sides, strict=True)]
        inner = tuple(slice(a, a + side) for a, side in zip(starts, sides, strict=True))
        if effective[inner].sum() >= whole / 2:
            return tuple(sides)
    return effective.shape
