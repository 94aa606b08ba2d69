"""Networks that other tools get wrong in silence: exact by footprint and windows, or refused by name.

The numbers are the true ones; beside them, in comments, what was reported elsewhere.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fullconv as fc
from fullconv.geometry import Box, Geometry

from .footprints import change_footprint, hull, nan_footprint


def double(net: nn.Module, seed: int = 0) -> nn.Module:
    """The network in float64, with positive weights, ready to be measured."""
    generator = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        p.data = (0.5 + torch.rand(p.shape, generator=generator)) / max(1, p[0].numel())
    return net.double().eval()


def image_of(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 0.1 + torch.rand(3, *shape, generator=generator, dtype=torch.float64)


def assert_field_is_footprint(net: nn.Module, geometry: Geometry, size: int) -> None:
    """Each unit whose field lies inside the image depends on all of it and on nothing else."""
    image = image_of(*(size,) * len(geometry.axes))
    for axis, along in enumerate(geometry.axes):
        changed = change_footprint(net, image, axis)
        reached = nan_footprint(net, image, axis)
        inside = 0
        for unit in range(changed.shape[1]):
            start, stop = along.field_of(unit)
            low, high = hull(changed[:, unit])
            assert low >= max(0, start)
            assert high <= stop
            if start >= 0 and stop <= size:
                inside += 1
                assert hull(changed[:, unit] | reached[:, unit]) == (start, stop)
        assert inside >= 2


def assert_windows_are_exact(net: nn.Module, shape: tuple[int, ...], cut: int = 3) -> None:
    """Units in a grid of boxes, each from its own window; and the gradient of all weights."""
    geometry = fc.trace(net, shape=shape)
    image = image_of(*shape)
    weights = list(net.parameters())
    whole = net(image[None])[0]
    factors = torch.randn(whole.shape, generator=torch.Generator().manual_seed(2)).double()
    expected = torch.autograd.grad((whole * factors).sum(), weights) if weights else ()
    totals = [torch.zeros_like(w) for w in weights]
    steps = [range(0, m, max(1, -(-m // cut))) for m in whole.shape[1:]]
    for corner in torch.cartesian_prod(*(torch.tensor(list(s)) for s in steps)).reshape(
        -1, len(steps)
    ):
        start = tuple(corner.tolist())
        stop = tuple(min(a + s.step, s.stop) for a, s in zip(start, steps, strict=True))
        window = geometry.window(Box(start=start, stop=stop), shape)
        got = net(image[(slice(None), *window.reads.slices)][None])[0][
            (slice(None), *window.inside.slices)
        ]
        place = (slice(None), *window.units.slices)
        assert torch.allclose(got, whole[place], rtol=1e-10, atol=1e-12)
        if weights:
            parts = torch.autograd.grad((got * factors[place]).sum(), weights)
            totals = [t + g for t, g in zip(totals, parts, strict=True)]
    for total, exact in zip(totals, expected, strict=True):
        assert float((total - exact).norm()) <= 1e-9 * float(exact.norm()) + 1e-12


class Block(nn.Module):
    """A residual block with a strided 1 × 1 shortcut."""

    def __init__(self, start: int, stop: int, stride: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(start, stop, 3, stride=stride, padding=1)
        self.two = nn.Conv2d(stop, stop, 3, padding=1)
        self.shortcut = nn.Conv2d(start, stop, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.two(F.relu(self.one(x))) + self.shortcut(x))


class MiniUNet(nn.Module):
    """One level: the deepest layer is at stride 2, the map at stride 1."""

    def __init__(self, mode: str = "nearest") -> None:
        super().__init__()
        self.mode = mode
        self.head, self.low = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.tail = nn.Conv2d(8, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        kept = self.head(x)
        low = F.interpolate(self.low(F.max_pool2d(kept, 2)), scale_factor=2, mode=self.mode)
        return self.tail(torch.cat([kept, low], 1))


class Functional(nn.Module):
    """Pooling called as a function: no module to be found."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(F.max_pool2d(self.one(x), 2))


class OutOfOrder(nn.Module):
    """Modules registered in another order than they are called."""

    def __init__(self) -> None:
        super().__init__()
        self.second, self.first = nn.Conv2d(4, 2, 3), nn.Conv2d(3, 4, 5, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(4, 2, 3),
    )  # fmt: skip


def residual() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 7, 2, 3), nn.MaxPool2d(3, 2, 1), Block(4, 4, 2))


@pytest.mark.parametrize(
    ("net", "field", "stride", "size"),
    [
        pytest.param(plain(), 18, 4, 50, id="plain"),  # shelfwise 15
        pytest.param(residual(), 35, 8, 96, id="strided-shortcut"),  # stride 16; field 31
        pytest.param(nn.Conv2d(3, 2, 3, dilation=5), 11, 1, 30, id="dilated"),  # 9
        pytest.param(Functional(), 6, 2, 20, id="functional-pooling"),  # 5, 7
        pytest.param(MiniUNet(), 10, 1, 32, id="u-net"),  # 0; 9 with stride 0
        pytest.param(OutOfOrder(), 9, 2, 24, id="registered-out-of-order"),
        pytest.param(
            nn.Sequential(nn.Conv2d(3, 2, 3, 2, 1), nn.Upsample(scale_factor=2, mode="bilinear")),
            5, 1, 24, id="bilinear-upsampling",  # stride 2
        ),
        pytest.param(nn.AvgPool2d(2, 1), 2, 1, 12, id="average-pooling"),
    ],
)  # fmt: skip
def test_fields_are_the_footprint(net: nn.Module, field: int, stride: int, size: int) -> None:
    net = double(net)
    geometry = fc.trace(net)
    assert geometry.field == (field, field)
    assert geometry.stride == (stride, stride)
    assert_field_is_footprint(net, geometry, size)


def test_a_kernel_of_1_by_7_sees_1_by_7() -> None:  # AssertionError
    net = double(nn.Conv2d(3, 2, (1, 7), padding=(0, 3)))
    geometry = fc.trace(net)
    assert geometry.field == (1, 7)
    assert geometry.halo == ((0, 0), (3, 3))
    assert_field_is_footprint(net, geometry, 20)
    assert_windows_are_exact(net, (13, 31))


def block(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), *layers, nn.Conv2d(4, 2, 3))


def trained_norm() -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(4)
    norm.running_mean, norm.running_var = torch.rand(4), torch.rand(4) + 0.5
    return norm


EXACT = {
    "PReLU": lambda: block(nn.PReLU(4)),
    "BatchNorm in eval, affine left trainable": lambda: block(trained_norm()),
    "reflect": lambda: block(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")),
    "reflect, wider than the kernel needs": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=3, padding_mode="reflect"), nn.Conv2d(4, 2, 3)
    ),
    "replicate": lambda: block(nn.Conv2d(4, 4, 5, padding=2, padding_mode="replicate")),
    "dilation": lambda: block(nn.Conv2d(4, 4, 3, padding=2, dilation=2)),
    "ceil_mode": lambda: block(nn.MaxPool2d(3, 2, ceil_mode=True)),
    "average, ceil_mode": lambda: block(nn.AvgPool2d(3, 2, 1, ceil_mode=True)),
    "(1, 7)": lambda: block(nn.Conv2d(4, 4, (1, 7), padding=(0, 3))),
    "U-Net": MiniUNet,
    "U-Net, bilinear": lambda: MiniUNet("bilinear"),
    "bilinear upsampling": lambda: block(nn.Upsample(scale_factor=2, mode="bilinear")),
    "transposed convolution": lambda: block(nn.ConvTranspose2d(4, 4, 4, stride=2, padding=1)),
    "residual": residual,
    "average pooling": lambda: block(nn.AvgPool2d(3, 2, padding=1)),
}


@pytest.mark.parametrize("name", EXACT)
def test_windows_and_gradients_are_those_of_the_whole_image(name: str) -> None:
    assert_windows_are_exact(double(EXACT[name]()), (72, 88))


@pytest.mark.parametrize("name", sorted(set(EXACT) - {"U-Net", "U-Net, bilinear"}))
def test_sizes_need_not_be_divisible_by_the_stride(name: str) -> None:  # forward error 3.2
    assert_windows_are_exact(double(EXACT[name]()), (59, 67))


class SqueezeAndExcite(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(F.adaptive_avg_pool2d(x, 1))


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (nn.GroupNorm(2, 4), r"`1` \(GroupNorm\)"),
        (nn.InstanceNorm2d(4), r"`1` \(InstanceNorm2d\)"),
        (SqueezeAndExcite(), r"`1` \(SqueezeAndExcite\)"),
        (nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), r"`1` \(Upsample\)"),
    ],
)
def test_what_cannot_be_exact_is_refused_by_the_name_of_the_module(
    layer: nn.Module, why: str
) -> None:
    with pytest.raises(fc.NotLocalError, match=why):
        fc.trace(double(block(layer)))


def test_a_window_off_the_period_would_be_wrong_and_none_is() -> None:
    """One px off, the map is wrong by more than its spread; windows start on the period."""
    net = double(residual())
    geometry = fc.trace(net, shape=(96, 96))
    image = image_of(96, 96)
    whole = net(image[None])[0].detach()
    window = geometry.window(Box(start=(6, 6), stop=(7, 7)), (96, 96))
    assert all(a % p == 0 for a, p in zip(window.reads.start, geometry.period, strict=True))
    reads = window.reads.shifted((1, 1))
    part = net(image[(slice(None), *reads.slices)][None])[0].detach()
    got = part[(slice(None), *window.inside.slices)]
    exact = whole[(slice(None), *window.units.slices)]
    assert float((got - exact).abs().max()) > 1e-4 * float(exact.abs().max())


def test_a_halo_one_too_small_would_be_wrong() -> None:
    net = double(nn.Sequential(nn.Conv2d(3, 2, 5, padding=2), nn.Conv2d(2, 2, 5, padding=2)))
    image, geometry = image_of(40, 40), fc.trace(net)
    window = geometry.window(Box(start=(20, 20), stop=(21, 21)), (40, 40))
    assert window.reads == Box(start=(16, 16), stop=(25, 25))
    small = net(image[:, 17:25, 16:25][None])[0][:, 3, 4]
    assert not torch.allclose(small, net(image[None])[0][:, 20, 20], rtol=1e-6)
