"""The table of layers; that of FCN-VGG16 is in `test_paper`."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch.nn.functional as F
from torch import Tensor, nn

import fullconv as fc
from fullconv.tracing import layers


class Resized(nn.Module):
    """Takes images of all sizes, and maps them onto themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 2, (3, 1), 2, (1, 0))

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.deep(self.down(x)), size=x.shape[2:])


def test_a_network_that_enlarges_to_the_size_of_the_image_has_layers() -> None:
    """Its smallest image is one of a size that windows are not exact on."""
    net = Resized().eval()
    geometry = fc.trace(net)
    assert geometry.smallest_shape == (1, 1)
    assert not geometry.suits((1, 1))
    found = [(r.module, r.operator, r.field, r.stride) for r in layers(net)]
    assert found == [
        ("down", "convolution", (3, 3), (2, 2)),
        ("deep", "convolution", (7, 3), (4, 4)),
        ("", "upsample_nearest2d", (7, 3), (1, 1)),
    ]
    assert found[-1][2] == geometry.field


@pytest.mark.parametrize("ndim", [1, 3])
def test_layers_of_one_and_three_axes(ndim: int) -> None:
    conv, up = {1: (nn.Conv1d, nn.ConvTranspose1d), 3: (nn.Conv3d, nn.ConvTranspose3d)}[ndim]
    rows = layers(nn.Sequential(conv(3, 2, 3), up(2, 2, 2, 2)), ndim=ndim)
    assert [(r.field, r.stride) for r in rows] == [
        ((3,) * ndim, (1,) * ndim),
        ((3,) * ndim, (Fraction(1, 2),) * ndim),
    ]
