"""Bilinear interpolation as the kernel of a transposed convolution (Long, Shelhamer & Darrell 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from fullconv.errors import FullconvError

_Deconvolution = TypeVar(
    "_Deconvolution", nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d
)


def bilinear_kernel(shape: Sequence[int]) -> Tensor:
    """Return the kernel of (bi-, tri-)linear interpolation, float64, of a shape even or odd.

    Along an axis of size k the factor is f = (k + 1) // 2 and tap i weighs 1 - |i - c| / f, where c is
    the middle, f - 1 for odd k and f - 1/2 for even k. At stride f the taps that fall on one position
    sum to 1.

    Args:
        shape: Taps along each axis, at least 1.

    Examples:
        >>> bilinear_kernel((4,)).tolist(), bilinear_kernel((3,)).tolist()
        ([0.25, 0.75, 0.75, 0.25], [0.5, 1.0, 0.5])
    """
    if not shape or min(shape) < 1:
        raise FullconvError(f"`shape` must have at least 1 tap along each axis, got {tuple(shape)}")
    kernel = torch.ones((), dtype=torch.float64)
    for size in shape:
        kernel = kernel[..., None] * _taps(size)
    return kernel


def _taps(size: int) -> Tensor:
    factor = (size + 1) // 2
    middle = factor - 1 if size % 2 else factor - 0.5
    return 1 - (torch.arange(size, dtype=torch.float64) - middle).abs() / factor


def fill_bilinear(layer: _Deconvolution) -> _Deconvolution:
    """Fill a transposed convolution with bilinear kernels, in place, and return it.

    Each channel is interpolated by itself: the kernels lie on the diagonal, from channel i to channel
    i, and all other weights and the bias are 0.

    Args:
        layer: Has as many channels out as in; any kernel, stride and groups.

    Raises:
        FullconvError: If channels out and in differ.

    Examples:
        >>> layer = fill_bilinear(nn.ConvTranspose1d(1, 1, 4, stride=2, bias=False))
        >>> layer(torch.tensor([[[0.0, 4.0, 8.0]]])).tolist()
        [[[0.0, 0.0, 1.0, 3.0, 5.0, 7.0, 6.0, 2.0]]]
    """
    if layer.in_channels != layer.out_channels:
        raise FullconvError(
            "`layer` must have as many channels out as in, to interpolate each by itself, got "
            f"{layer.in_channels} in and {layer.out_channels} out"
        )
    channel = torch.arange(layer.in_channels)
    with torch.no_grad():
        layer.weight.zero_()
        # The second axis counts the channels of a group.
        layer.weight[channel, channel % layer.weight.shape[1]] = bilinear_kernel(
            layer.weight.shape[2:]
        ).to(layer.weight)
        if layer.bias is not None:
            layer.bias.zero_()
    return layer
