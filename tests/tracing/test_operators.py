"""Operator by operator: the field of every unit is the footprint that is measured on the network.

Each network stands between a strided and a plain convolution, so that offsets and phases count. Nothing
here knows how the tracer works: pixels are changed or poisoned, and the map is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fullconv as fc
from fullconv.geometry import Axis

from .footprints import change_footprint, hull, nan_footprint

PX = 47  # along the axis that is measured; the other axes are short


class Do(nn.Module):
    """A function of what comes in, and the modules that it uses."""

    def __init__(self, function: Callable[..., Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.parts)


def sure(net: nn.Module) -> nn.Module:
    """The network in float64, with positive weights, so that nothing cancels."""
    generator = torch.Generator().manual_seed(0)
    for p in net.parameters():
        p.data = (0.5 + torch.rand(p.shape, generator=generator)) / max(1, p[0].numel())
    return net.double().eval()


def check(net: nn.Module, ndim: int, *, exact: bool = True, resizes: bool = False) -> None:
    """Compare the fields of all units, along each axis, with what changes them."""
    net = sure(net)
    geometry = fc.trace(net, 2, ndim)
    for k, axis in enumerate(geometry.axes):
        shape = tuple(_size(a, PX if n == k else 20) for n, a in enumerate(geometry.axes))
        image = 0.1 + torch.rand(
            2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
        )
        changed = change_footprint(net, image, k)
        # NaN also comes through taps without weight, which interpolation has.
        reached = changed if resizes else changed | nan_footprint(net, image, k)
        assert changed.shape == (shape[k], geometry.map_shape(shape)[k])
        inside = sum(_check_unit(axis, u, changed, reached, exact) for u in range(changed.shape[1]))
        assert inside >= axis.units


def _size(axis: Axis, least: int) -> int:
    """The smallest size that was traced, and at least so many px."""
    size = max(least, axis.smallest + 2 * axis.period)
    return size + (axis.residue - size) % axis.period


def _check_unit(axis: Axis, unit: int, changed: Tensor, reached: Tensor, exact: bool) -> bool:
    """Compare one unit; return whether its field lies inside the image."""
    start, stop = axis.field_of(unit)
    low, high = hull(changed[:, unit])
    if start < 0 or stop > len(changed):
        # What padding copies lies inside the image, at most as far in as the padding reaches out.
        assert high == 0 or (low >= min(start, 0) and high <= max(stop, 2 - 2 * start))
        return False
    assert (low >= start and high <= stop) or low == high, (unit, (low, high), (start, stop))
    if exact:
        assert hull(reached[:, unit]) == (start, stop), unit
    return True


def between(module: nn.Module, channels: int = 2, ndim: int = 2) -> nn.Module:
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[ndim]
    return nn.Sequential(
        conv(2, 2, 3, stride=(2, 1, 1)[:ndim], padding=1), module, conv(channels, 2, 2)
    )


def conv(**options: Any) -> nn.Module:
    return nn.Conv2d(2, 2, **({"kernel_size": (3, 5)} | options))


def up(**options: Any) -> nn.Module:
    return nn.ConvTranspose2d(2, 2, **({"kernel_size": (4, 3), "stride": (2, 3)} | options))


def unfolded(x: Tensor, mix: nn.Module) -> Tensor:
    columns = F.unfold(x, (2, 3)).transpose(1, 2)
    return mix(columns).transpose(1, 2).reshape(len(x), 2, x.shape[2] - 1, x.shape[3] - 2)


WINDOWS = {
    "convolution": conv(),
    "stride": conv(stride=(3, 2)),
    "dilation": conv(dilation=(4, 1), padding=(4, 0)),
    "stride and dilation": conv(stride=2, dilation=3, padding=1),
    "groups": conv(groups=2, padding=2),
    "same": conv(kernel_size=(4, 5), padding="same", dilation=(1, 2)),
    "padding one-sided": nn.Sequential(nn.ZeroPad2d((3, 0, 0, 1)), conv()),
    "reflect": conv(padding=(1, 2), padding_mode="reflect"),
    "replicate": conv(padding=(2, 1), padding_mode="replicate"),
    "stride leaves gaps": conv(kernel_size=1, stride=3),
    "transposed": up(),
    "transposed, output_padding": up(output_padding=(1, 2), padding=1),
    "transposed, dilation": up(dilation=(1, 2)),
    "transposed, groups": up(groups=2),
    "transposed, gaps": up(kernel_size=1, stride=2),
    "max": nn.MaxPool2d((3, 2), stride=(2, 3), padding=(1, 0)),
    "max, ceil_mode": nn.MaxPool2d(3, 2, ceil_mode=True),
    "max, dilation": nn.MaxPool2d((3, 2), 2, dilation=(2, 3)),
    "avg": nn.AvgPool2d((4, 3), stride=(1, 2)),
    "avg, ceil_mode": nn.AvgPool2d(3, 2, padding=1, ceil_mode=True),
    "avg, count_include_pad": nn.AvgPool2d(3, 2, padding=1, count_include_pad=False),
    "lp": nn.LPPool2d(2, (3, 2), stride=2),
    "functional pooling": Do(lambda x: F.max_pool2d(x, 2, 1)),
    "adaptive": Do(lambda x: F.adaptive_avg_pool2d(_even(x), (_even(x).shape[2] // 2, x.shape[3]))),
    "unfold": Do(unfolded, nn.Linear(12, 2)),
    "fold": Do(lambda x: F.fold(F.unfold(x, 3, 1, 1).sin(), x.shape[2:], 3, 1, 1)),
}  # fmt: skip


def _even(x: Tensor, by: int = 2) -> Tensor:
    return x[..., : x.shape[2] // by * by, : x.shape[3] // by * by]


RESIZING = {
    f"{mode} {factor}": nn.Upsample(scale_factor=factor, mode=mode)
    for mode in ("nearest", "nearest-exact", "bilinear", "bicubic", "area")
    for factor in ((2, 3), (4, 1), (0.5, 1))
    if mode != "area" or factor[0] >= 1
} | {
    "area, smaller": Do(lambda x: F.interpolate(_even(x), size=[s // 2 for s in x.shape[2:]], mode="area")),
    "shuffle": nn.Sequential(nn.Conv2d(2, 8, 1), nn.PixelShuffle(2)),
    "unshuffle": nn.Sequential(Do(_even), nn.PixelUnshuffle(2), nn.Conv2d(8, 2, 1)),
}  # fmt: skip

SHAPES = {
    "crop": Do(lambda x: x[..., 2:-1, 1:]),
    "every third": Do(lambda x: x[..., 1::3, :]),
    "negative padding": Do(lambda x: F.pad(x, (-1, 2, 3, -2))),
    "pad reflect": nn.ReflectionPad2d((1, 2, 3, 0)),
    "cat": Do(lambda x, a: torch.cat([x[:, :1, 2:-2], a(x)], 1), nn.Conv2d(2, 1, (5, 1))),
    "size rounded down": Do(lambda x: x[..., : x.shape[2] // 2 * 2, : x.shape[3] // 3 * 3]),
    "stack": Do(lambda x: torch.stack([x[..., 1:, :], x[..., :-1, :]]).sum(0)),
    "split": Do(lambda x, a: torch.cat([x[:, :1, 1:-1], a(x[:, 1:])], 1), nn.Conv2d(1, 1, (3, 1))),
    "chunk": Do(lambda x: torch.cat(x.chunk(2, 1)[::-1], 1)),
    "channels last": Do(lambda x, n: n(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), nn.LayerNorm(2)),
    "batch norm": nn.BatchNorm2d(2),
    "softmax over channels": nn.Softmax2d(),
    "local response norm": nn.LocalResponseNorm(2),
    "dropout": nn.Dropout2d(),
    "in place": Do(lambda x: x.mul_(2).add_(1)),
    "table": Do(lambda x, a: torch.eye(2)[a(x)[:, 0].long().clamp(0, 1)].movedim(3, 1).to(x), nn.Conv2d(2, 2, (3, 1))),
    "skip": Do(lambda x, a: x + a(x), nn.Conv2d(2, 2, 5, padding=2)),
    "loop over one module": Do(lambda x, a: a(a(a(x))), nn.Conv2d(2, 2, (2, 3), padding=(0, 1))),
    "strided shortcut": Do(
        lambda x, a, b: a(x)[..., : b(x).shape[2], : b(x).shape[3]] + b(x),
        nn.Conv2d(2, 2, 3, stride=2, padding=1), nn.Conv2d(2, 2, 1, stride=2),
    ),
}  # fmt: skip

NETS = WINDOWS | RESIZING | SHAPES


@pytest.mark.parametrize("name", NETS)
def test_fields_are_footprints(name: str) -> None:
    check(between(NETS[name]), 2, resizes=name in RESIZING)


@pytest.mark.parametrize("ndim", [1, 3])
def test_fields_are_footprints_on_one_and_three_axes(ndim: int) -> None:
    kind = {1: "linear", 3: "trilinear"}[ndim]
    pool = {1: nn.MaxPool1d, 3: nn.MaxPool3d}[ndim](2)
    deep = {1: nn.Conv1d, 3: nn.Conv3d}[ndim](2, 2, 3, padding=1)
    check(
        between(nn.Sequential(pool, deep, nn.Upsample(scale_factor=2, mode=kind)), ndim=ndim), ndim
    )


def test_maxima_go_back_into_their_own_windows() -> None:
    """Which of the pixels in a window is the maximum depends on the image, so not all are reached."""

    def run(x: Tensor) -> Tensor:
        small, places = F.max_pool2d(_even(x), 2, return_indices=True)
        return F.max_unpool2d(small, places, 2)

    check(between(Do(run)), 2, exact=False)


def test_the_check_can_fail() -> None:
    """A weight of zero is not in the footprint of numbers, and NaN is stopped by `where`."""

    def partly(x: Tensor, a: nn.Module) -> Tensor:
        return torch.where(a(x) > -1, x[..., 2:-2, 2:-2], x[..., 2:-2, 2:-2])

    with pytest.raises(AssertionError):
        check(between(Do(partly, nn.Conv2d(2, 2, 5))), 2)
