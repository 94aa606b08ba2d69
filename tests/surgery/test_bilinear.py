"""Bilinear kernels: the closed formula, the interpolation that they are, and the channels they keep apart."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import fullconv as fc
from fullconv.surgery import bilinear_kernel, fill_bilinear


@pytest.mark.parametrize("size", range(1, 66))
def test_taps_are_those_of_the_formula(size: int) -> None:
    factor = (size + 1) // 2
    middle = factor - 1 if size % 2 else factor - 0.5
    taps = [1 - abs(i - middle) / factor for i in range(size)]
    expected = torch.tensor([[a * b for b in taps] for a in taps], dtype=torch.float64)
    torch.testing.assert_close(bilinear_kernel((size, size)), expected, atol=1e-15, rtol=0)


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3), groups=st.sampled_from([1, 2, 3, 6])
)
def test_each_channel_is_upsampled_by_itself(sizes: list[int], groups: int) -> None:
    kind = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[len(sizes)]
    strides = tuple((k + 1) // 2 for k in sizes)
    layer = fill_bilinear(kind(6, 6, tuple(sizes), strides, groups=groups).double())
    alone = fill_bilinear(kind(1, 1, tuple(sizes), strides, bias=False).double())
    x = torch.rand(1, 6, *[3] * len(sizes), dtype=torch.float64)
    with torch.no_grad():
        expected = torch.cat([alone(x[:, i : i + 1]) for i in range(6)], 1)
        torch.testing.assert_close(layer(x), expected, atol=1e-14, rtol=0)


@pytest.mark.parametrize(("size", "stride"), [(64, 32), (32, 16), (16, 8), (4, 2), (63, 32)])
def test_inside_a_constant_stays_a_constant(size: int, stride: int) -> None:
    """The sizes of the paper: interior taps sum to 1."""
    layer = fill_bilinear(nn.ConvTranspose2d(2, 2, size, stride, bias=False).double())
    with torch.no_grad():
        y = layer(torch.ones(1, 2, 4, 4, dtype=torch.float64))
    inside = y[..., size : 3 * stride, size : 3 * stride]
    torch.testing.assert_close(inside, torch.ones_like(inside), atol=1e-14, rtol=0)


def test_an_even_kernel_interpolates_as_pytorch_does() -> None:
    layer = fill_bilinear(nn.ConvTranspose2d(1, 1, 8, 4, padding=2, bias=False).double())
    x = torch.rand(1, 1, 5, 6, dtype=torch.float64)
    expected = nn.functional.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)
    with torch.no_grad():
        inside = (..., slice(4, -4), slice(4, -4))
        torch.testing.assert_close(layer(x)[inside], expected[inside], atol=1e-14, rtol=0)


def test_half_precision_and_other_channels_are_what_they_were() -> None:
    layer = fill_bilinear(nn.ConvTranspose1d(2, 2, 4, 2, dtype=torch.bfloat16))
    assert layer.weight.dtype == torch.bfloat16
    assert layer.weight.requires_grad
    assert layer.bias is not None
    assert not layer.bias.any()


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(fc.FullconvError, match=r"at least 1 tap along each axis, got \(3, 0\)"):
        bilinear_kernel((3, 0))
    with pytest.raises(fc.FullconvError, match=r"as many channels out as in.*got 3 in and 4 out"):
        fill_bilinear(nn.ConvTranspose2d(3, 4, 4, 2))
