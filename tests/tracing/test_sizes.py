"""The geometry for images of one shape is that for all shapes, where they meet."""

from dataclasses import replace

import pytest
from torch import Tensor, nn

import fullconv as fc
from fullconv.tracing import trace_for


def networks() -> dict[str, nn.Module]:
    return {
        "unet": fc.networks.build("unet", classes=2, width=4),
        "fcn8s": fc.networks.build("fcn8s", classes=2),
        "odd": nn.Sequential(
            nn.Conv2d(3, 4, (7, 1), stride=(3, 1)), nn.MaxPool2d((2, 3), ceil_mode=True)
        ),
    }


@pytest.mark.parametrize("name", networks())
@pytest.mark.parametrize("shape", [(300, 217), (305, 219), (64, 999)])
def test_only_sizes_of_other_remainders_are_left_out(name: str, shape: tuple[int, int]) -> None:
    net = networks()[name].eval()
    whole, one = fc.trace(net, shape=shape), trace_for(net, 3, shape)
    for axis, found, size in zip(whole.axes, one.axes, shape, strict=True):
        kept = size % axis.period
        assert found.legal[kept] == axis.legal[kept] is not None
        assert all(entry is None for r, entry in enumerate(found.legal) if r != kept)
        assert replace(found, legal=axis.legal) == axis
    assert one.suits(shape)
    assert one.map_shape(shape) == whole.map_shape(shape)


class Even(nn.Module):
    """Takes images of even sizes alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.pixel_unshuffle(self.conv(image), 2)


def test_a_shape_that_is_not_taken_is_refused_with_the_nearest() -> None:
    with pytest.raises(fc.FullconvError, match="nearest are 100 x 50 and 102 x 50"):
        trace_for(Even(), 3, (101, 50))


def test_axes_that_take_other_sizes_are_told_apart() -> None:
    class Uneven(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            n, c, height, width = image.shape
            return image.reshape(n, c, height // 2, 2, width // 3, 3).amax((3, 5))

    geometry = fc.trace(Uneven(), 3)
    assert [geometry.takes(s) for s in ((8, 9), (9, 8), (7, 9), (8, 8))] == [
        True,
        False,
        False,
        False,
    ]
    assert geometry.period == (2, 3)
