"""Shift-and-stitch: the network on every moved image, interleaved."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor, nn

import fullconv as fc


def network() -> nn.Module:
    torch.manual_seed(0)
    return (
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Conv2d(2, 2, 2, stride=3))
        .double()
        .eval()
    )


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("stride", [1, 2, 3, 6])
def test_every_unit_is_the_network_on_the_sub_image_there(stride: int) -> None:
    net = network()
    stitched = fc.shift_and_stitch(net, stride, channels=1)
    field = fc.trace(net, 1).field[0]
    for more in (0, 5, 8):
        x = noise(2, 1, field + more, field + 3)
        with torch.no_grad():
            y = stitched(x)
            assert y.shape[2:] == (more // stride + 1, 3 // stride + 1)
            for i, j in product(range(y.shape[2]), range(y.shape[3])):
                a, b = i * stride, j * stride
                crop = x[..., a : a + field, b : b + field]
                torch.testing.assert_close(y[..., i, j], net(crop)[..., 0, 0])


def test_where_nothing_pads_it_is_the_dense_network_with_its_gradients() -> None:
    net = network()
    x = noise(1, 1, 33, 29).requires_grad_()
    maps = [make(net, channels=1)(x) for make in (fc.densify, fc.shift_and_stitch)]
    torch.testing.assert_close(*maps, atol=1e-12, rtol=0)
    weights = noise(*maps[0].shape)
    grads = [torch.autograd.grad((y * weights).sum(), [x, *net.parameters()]) for y in maps]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


def test_with_padding_it_differs_from_the_dense_network_near_the_border_alone() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.Conv2d(2, 1, 3, padding=1)
    ).double()
    x = noise(1, 1, 40, 40)
    with torch.no_grad():
        dense, stitched = (m(net, channels=1)(x) for m in (fc.densify, fc.shift_and_stitch))
    assert dense.shape == stitched.shape
    differs = (dense - stitched).abs()[0, 0] > 1e-12
    assert differs.any()
    g = fc.trace(net, 1)
    inside = [not g.sees_padding((n // 2, 9), (40, 40)) and n >= g.field[0] for n in range(40)]
    assert not differs[torch.tensor(inside)][:, 10:30].any()


def test_a_network_that_does_not_take_a_cropped_image_says_so() -> None:
    class Even(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.pixel_unshuffle(x, 2)

    stitched = fc.shift_and_stitch(Even(), channels=1)
    with pytest.raises(fc.FullconvError, match="legal for the network, got 19 px"):
        stitched(torch.zeros(1, 1, 20, 20))


def test_images_that_the_network_does_not_take_are_refused_with_the_nearest() -> None:
    stitched = fc.shift_and_stitch(nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)))
    with pytest.raises(fc.FullconvError, match="an image of 3 x 9 px: nearest are 4 x 9"):
        stitched(torch.zeros(1, 3, 3, 9))


@pytest.mark.parametrize("shape", [None, (40, 40)])
def test_tracing_it_is_refused_by_its_name(shape: tuple[int, int] | None) -> None:
    stitched = fc.shift_and_stitch(nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)))
    message = "one network run once, got a ShiftAndStitch, .*what `fullconv.densify` makes of it"
    with pytest.raises(fc.FullconvError, match=message):
        fc.trace(stitched, shape=shape)
    with pytest.raises(fc.FullconvError, match=message):
        fc.verify(stitched, (3, 40, 40))
