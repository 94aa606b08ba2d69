"""Whether a network that runs down images has the gradient of the network itself.

What runs down images are its operators. A network may say otherwise how it is differentiated: parts
without gradients, functions with a backward of their own, hooks. So both are run once on a small image,
forward and backward, and compared.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fullconv.execution._handed import gradients
from fullconv.execution._pixels import cast_now, laid_out, like_weights
from fullconv.execution._rolling import Rolling
from fullconv.geometry import Geometry
from fullconv.tracing import buffers_kept, stages

# How far apart they may be, of each gradient's length; and where numbers are cast to few digits.
ROUNDING, CAST = 1e-3, 0.1


def same_gradient(net: nn.Module, channels: int, geometry: Geometry) -> bool:
    """Return whether a network has the same gradient run down an image as at once.

    Args:
        net: The network, which draws no random numbers.
        channels: Of its images.
        geometry: Of the network.
    """
    if any(m._backward_hooks or m._backward_pre_hooks for m in net.modules()):
        return False  # they would not be called
    like = like_weights(net)
    if like.is_meta:
        return True  # nothing will be run
    shape = geometry.suited_shape((1,) * len(geometry.axes))
    found = stages(net, channels, shape, geometry.axes[0].period)
    if found is None:
        return False
    image = torch.rand(
        1, channels, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ).to(like)

    def down(image: Tensor) -> Tensor:
        pieces = Rolling(net, found)(lambda a, b: laid_out(image[:, :, a:b], net), shape[0])
        return torch.cat([piece for _, piece in pieces], 2)

    with buffers_kept(net), _nowhere_zero(net):
        one = _gradients(net, lambda image: net(laid_out(image, net)), image)
        other = _gradients(net, down, image)
    limit = ROUNDING if cast_now(net) is None else CAST
    return all(_close(a, b, limit) for a, b in zip(one, other, strict=True))


def _gradients(
    net: nn.Module, run: Callable[[Tensor], Tensor], image: Tensor
) -> list[Tensor | None]:
    """Return the gradients of the image and the weights, of a map's sum with weights drawn once."""
    image = image.clone().requires_grad_()
    with torch.enable_grad():
        found = run(image)
        draw = torch.Generator().manual_seed(1)
        outer = torch.rand(found.shape, generator=draw, dtype=torch.float64).to(found)
        leaves = [image, *(p for p in net.parameters() if p.requires_grad)]
        if not found.requires_grad:
            return [None] * len(leaves)
        return list(gradients(found, leaves, outer))


def _close(one: Tensor | None, other: Tensor | None, limit: float) -> bool:
    """Return whether two gradients are the same, but for rounding."""
    if one is None or other is None:
        return one is other
    return float((one - other).norm()) <= limit * float(one.norm()) + torch.finfo(one.dtype).tiny


@contextmanager
def _nowhere_zero(net: nn.Module) -> Generator[None]:
    """Put small numbers in the place of weights that are all zero: behind those, gradients tell nothing."""
    draw = torch.Generator().manual_seed(2)
    zero = [(p, p.data) for p in net.parameters() if p.is_floating_point() and not p.any()]
    for p, data in zero:
        p.data = (0.1 * torch.randn(data.shape, generator=draw)).to(data)
    try:
        yield
    finally:
        for p, data in zero:
            p.data = data
