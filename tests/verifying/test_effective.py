"""The effective receptive field against a closed formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import fullconv as fc
from fullconv.reporting import picture_of
from fullconv.verifying import effective_field, half_width


def ones(axes: int, depth: int) -> nn.Module:
    """Convolutions of 3 px with all weights 1: paths through them are counted by trinomials."""
    conv = [nn.Conv1d, nn.Conv2d][axes - 1]
    layers = [conv(1, 1, 3, bias=False) for _ in range(depth)]
    for layer in layers:
        nn.init.ones_(layer.weight)
    return nn.Sequential(*layers)


def trinomial(depth: int) -> np.ndarray:
    row = np.ones(1)
    for _ in range(depth):
        row = np.convolve(row, np.ones(3))
    return row / row.max()


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_a_stack_of_ones_counts_paths(depth: int) -> None:
    expected = trinomial(depth)
    assert np.allclose(effective_field(ones(1, depth), 1), expected, atol=1e-6)
    found = effective_field(ones(2, depth), 1)
    assert np.allclose(found, np.outer(expected, expected), atol=1e-6)


def test_it_is_measured_on_an_image_that_the_geometry_holds_for() -> None:
    """On other sizes the map is enlarged by another factor, and the unit lies elsewhere."""

    class Resized(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.interpolate(super().forward(x), size=x.shape[2:])

    net = Resized(nn.Conv1d(1, 1, 3, 2, 1, bias=False), nn.Conv1d(1, 1, 3, 2, 1, bias=False))
    for weight in net.parameters():
        nn.init.ones_(weight)
    assert np.allclose(2 * effective_field(net, 1), [1, 1, 2, 1, 2, 1, 1])


def test_half_of_the_gradient_comes_from_less_than_half_of_the_field() -> None:
    assert half_width(np.ones((10, 20))) == (7, 15)
    sides = half_width(effective_field(ones(2, 10), 1))
    assert all(side < 21 / 2 + 1 for side in sides)


def test_it_is_drawn_into_the_field() -> None:
    net = ones(2, 4)
    picture = picture_of(fc.trace(net, 1), (60, 80), effective_field(net, 1))
    assert picture.count("data:image/png;base64,") == 1
    assert "data:image" not in picture_of(fc.trace(net, 1), (60, 80))


def test_networks_that_are_not_local_are_refused() -> None:
    with pytest.raises(fc.NotLocalError):
        effective_field(nn.Sequential(nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2)), 1)


def test_it_depends_on_the_weights_and_not_on_chance() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    first = effective_field(net)
    assert np.array_equal(first, effective_field(net))
    with torch.no_grad():
        net[0].weight[..., 0, :] = 0
    assert effective_field(net)[0].max() == 0
