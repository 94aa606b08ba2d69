"""Numbers that do not depend on the image, yet differ at its border: windows are exact, or refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fullconv as fc
from fullconv.geometry import Box
from fullconv.tracing import stages

SHAPE = (36, 28)
ONES = torch.ones(1, 1, 3, 3)


class Do(nn.Module):
    """A function of the image and of a convolution."""

    def __init__(self, function: Callable[[Tensor, nn.Module], Tensor]) -> None:
        super().__init__()
        self.function, self.conv = function, nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.conv)


def written(x: Tensor, rows: slice, columns: slice = slice(None)) -> Tensor:
    """The image, with ones in some places."""
    y = x.clone()
    y[:, :, rows, columns] = 1
    return y


def wide(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, (1, 7), 1, (0, 3))


def behind(one: Tensor, other: Tensor, *bands: slice) -> Tensor:
    """One map in bands of rows, another one behind them."""
    y = one.clone()
    for rows in bands:
        y[:, :, rows] = other[:, :, rows]
    return y


def a_row(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :, 0] = torch.ones_like(x[:, :, 1:2]).squeeze(2)
    return y


EXACT: dict[str, Callable[[Tensor, nn.Module], Tensor]] = {
    "partial convolution": lambda x, conv: conv(x) / F.conv2d(torch.ones_like(x[:, :1]), ONES, padding=1),
    "an indicator of the border": lambda x, conv: conv(
        x * F.pad(torch.zeros_like(x[:, :, 2:-2, 2:-2]), (2,) * 4, value=1)
    ),
    "a band of a mask": lambda x, conv: conv(x * written(torch.zeros_like(x), slice(5))),
    "the first rows": lambda x, conv: conv(written(x, slice(2))),
    "the last rows": lambda x, conv: conv(written(x, slice(-3, None))),
    "every other of the first rows": lambda x, conv: conv(written(x, slice(0, 6, 2))),
    "a corner": lambda x, conv: conv(written(x, slice(4), slice(-2, None))),
    "twice": lambda x, conv: written(conv(written(x, slice(3))), slice(2)),
    "a mask of the inside": lambda x, conv: conv(x) * written(torch.zeros_like(x[:, :2]), slice(2, -2), slice(2, -2)),
    "wider rows behind the first": lambda x, conv: behind(wide(conv(x)), conv(x), slice(9)),
    "wider rows behind two bands": lambda x, conv: behind(wide(conv(x)), conv(x), slice(3), slice(3, 9)),
    "tiles": lambda x, conv: conv(x) * torch.eye(2).repeat(x.shape[2] // 2, x.shape[3] // 2),
    "channels counted": lambda x, conv: conv(x) * torch.ones_like(x[:, :2]).cumsum(1),
    "pooled": lambda x, conv: F.max_pool2d(conv(written(x, slice(3))), 2),
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_windows_are_exact_where_constants_differ_at_the_border(name: str) -> None:
    """Every unit by its own window; the whole map is the witness."""
    net = Do(EXACT[name]).eval()
    image = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = net(image[None])[0]
        geometry = fc.trace(net, shape=SHAPE)
        for row in range(whole.shape[1]):
            for column in {0, 1, whole.shape[2] // 2, whole.shape[2] - 1}:
                unit = Box(start=(row, column), stop=(row + 1, column + 1))
                window = geometry.window(unit, SHAPE)
                part = net(image[(slice(None), *window.reads.slices)][None])[0]
                got = part[(slice(None), *window.inside.slices)]
                torch.testing.assert_close(got, whole[(slice(None), *unit.slices)])
    assert geometry.window(unit, SHAPE).reads.size < image[0].numel()


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x, _: F.max_pool2d(x, 2, return_indices=True)[1].float(), "indices of a pooling"),
        (lambda x, _: F.adaptive_max_pool2d(x, 4, return_indices=True)[1].float(), "4 positions"),
        (lambda x, _: x - x[:1], "mixes the images of a batch"),
        (lambda x, _: x - x.roll(1, 0), "mixes the images of a batch"),
        (lambda x, _: x * x.mean(0, keepdim=True), "mixes the images of a batch"),
        (lambda x, _: torch.einsum("nchw,mchw->nchw", x, x), "mixes the images of a batch"),
        (lambda x, _: torch.cat([x[1:], x[:1]]), "mixes the images of a batch"),
        (lambda x, _: x + torch.randn_like(x), "draws a random number for each position"),
        (lambda x, _: x + torch.rand(x.shape[2:]), "draws a random number for each position"),
        (lambda x, _: x * torch.empty_like(x).normal_(), "draws a random number for each position"),
        (lambda x, _: x * torch.tensor([float(x.shape[2])] * 5000).mean(), "computed from the size"),
        (lambda x, _: x[:, :, torch.arange(0, x.shape[2], 2)], "picks positions .* slice instead"),
    ],
)  # fmt: skip
def test_what_windows_would_get_wrong_is_refused(
    function: Callable[[Tensor, nn.Module], Tensor], why: str
) -> None:
    with pytest.raises(fc.NotLocalError, match=why):
        fc.trace(Do(function).eval())


def test_a_norm_without_running_statistics_is_not_told_to_use_them() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2, track_running_stats=False)).eval()
    with pytest.raises(fc.NotLocalError, match="BatchNorm without running statistics") as caught:
        fc.trace(net)
    assert "eval" not in str(caught.value)


def test_a_network_of_two_images_is_told_to_take_one() -> None:
    class Two(nn.Module):
        def forward(self, image: Tensor, other: Tensor) -> Tensor:
            return image + other

    with pytest.raises(fc.FullconvError, match=r"one image as its only argument.*Wrap it"):
        fc.trace(Two())


def test_extremes_over_channels_are_followed() -> None:
    net = Do(lambda x, conv: conv(x).aminmax(dim=1, keepdim=True).max).eval()
    assert fc.trace(net).field == (3, 3)


def test_a_size_that_resizing_leaves_nothing_of_is_not_taken() -> None:
    shrunk = Do(lambda x, _: F.pad(F.interpolate(x, scale_factor=0.5, mode="bicubic"), (1,) * 4))
    geometry = fc.trace(shrunk.eval())
    assert not geometry.takes((6, 1))
    assert geometry.takes((6, 2))


def test_numbers_made_inside_are_not_run_down() -> None:
    """A stage would have to make them again; windows do."""
    net = Do(lambda x, conv: conv(x) * x.new_tensor(0.5)).eval()
    assert stages(net, 3, SHAPE, 1) is None


def test_one_row_that_is_written_is_not_run_down() -> None:
    net = Do(lambda x, conv: conv(a_row(x))).eval()
    assert stages(net, 3, SHAPE, 1) is None
