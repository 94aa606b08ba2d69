"""Maps, and gradients of every parameter and of the input, for every kind of layer, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fullconv as fc
from fullconv.execution._descents import Descents
from fullconv.execution._rewind import Rewind

CLASSES = 3


class Residual(nn.Module):
    """Two strided blocks with 1 x 1 shortcuts, upsampled."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in ((2, 4), (4, 4)))
        self.shortcuts = nn.ModuleList(nn.Conv2d(a, b, 1, 2) for a, b in ((2, 4), (4, 4)))
        self.up = nn.ConvTranspose2d(4, CLASSES, 4, stride=4)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        for conv, shortcut in zip(self.convs, self.shortcuts, strict=True):
            x = torch.tanh(conv(x)) + shortcut(x)
        return self.up(x)[..., : size[0], : size[1]]


class Upsampled(nn.Module):
    """Down by two, and up by bilinear interpolation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.tail = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, CLASSES, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        low = F.max_pool2d(torch.tanh(self.conv(x)), 2)
        return self.tail(F.interpolate(low, scale_factor=2, mode="bilinear", align_corners=False))


def chain(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), *layers, nn.Conv2d(4, CLASSES, 1))


def registered(name: str, **options: int) -> nn.Module:
    return fc.networks.build(name, classes=CLASSES, channels=2, **options)


# Sizes are odd where the network takes odd ones.
NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int]]] = {
    "u-net": (lambda: registered("unet", width=4, depth=1), (141, 123)),
    "fcn-8s": (lambda: registered("fcn8s", width=2), (1025, 449)),
    "residual": (Residual, (61, 73)),
    "dilated": (lambda: chain(nn.Conv2d(4, 4, 3, padding=4, dilation=4), nn.Tanh()), (61, 73)),
    "prelu": (lambda: chain(nn.PReLU(4), nn.MaxPool2d(3, 1, 1)), (61, 73)),
    "batch norm": (lambda: chain(nn.BatchNorm2d(4), nn.Tanh()), (61, 73)),
    "reflect": (
        lambda: chain(nn.Conv2d(4, 4, 5, padding=2, padding_mode="reflect"), nn.Tanh()),
        (61, 73),
    ),
    "1 x 7": (lambda: chain(nn.Conv2d(4, 4, (1, 7), padding=(0, 3)), nn.Tanh()), (61, 73)),
    "bilinear": (Upsampled, (62, 74)),
}


# The field of FCN-8s takes a large image.
CASES = [pytest.param(n, marks=pytest.mark.slow) if n == "fcn-8s" else n for n in NETS]


def case(name: str) -> tuple[nn.Module, Tensor, Tensor, int]:
    """A network, a batch of two images, their labels, and memory for some windows."""
    build, shape = NETS[name]
    torch.manual_seed(0)
    net = build().double().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            module.running_mean.normal_()  # type: ignore[union-attr, operator]
    images = torch.randn(2, 2, *shape, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(CLASSES, (2, *shape))
    planner = fc.Streamed(net, "1 GiB")._planner
    least = planner._whole(2, shape)[0]
    for share in (0.2, 0.35, 0.5, 0.7, 0.9):
        try:
            fc.StepLoss(net, nn.CrossEntropyLoss(reduction="none"), int(least * share)).cover(
                images[0], targets[0]
            )
        except fc.FullconvError:
            continue
        return net, images, targets, int(least * share)
    raise AssertionError(f"{name} has no windows")


def same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for one, exact in zip(found, expected, strict=True):
        assert (one - exact).norm() <= 1e-12 * exact.norm() + 1e-15


@pytest.fixture(params=["windows", "rows"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Through windows, or down the rows and back, whatever is cheaper."""

    def plan(descents: Descents, channels: int, shape: tuple[int, ...], *_: Any) -> Rewind | None:
        rows = request.param == "rows" and descents._staged(channels, shape) is not None
        return Rewind(rows=16, every=2) if rows else None

    monkeypatch.setattr(Descents, "plan", plan)
    return request.param


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", CASES)
def test_streamed_maps_and_gradients(name: str) -> None:
    net, images, targets, memory = case(name)
    leaves = [images, *net.parameters()]
    expected_map = net(images)
    expected = torch.autograd.grad(F.cross_entropy(expected_map, targets), leaves)
    streamed = fc.Streamed(net, memory)
    assert not streamed._planner._fits_whole(2, tuple(images.shape[2:]))
    found_map = streamed(images)
    assert (found_map - expected_map).abs().max() <= 1e-12 * max(1, expected_map.abs().max())
    same(torch.autograd.grad(F.cross_entropy(found_map, targets), leaves), expected)


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_steps(name: str, way: str) -> None:
    net, images, targets, memory = case(name)
    expected = torch.autograd.grad(
        F.cross_entropy(net(images), targets), [images, *net.parameters()]
    )
    step = fc.StepLoss(net, nn.CrossEntropyLoss(reduction="none"), memory)
    assert (len(step.cover(images[0], targets[0])) == 1) == (way == "rows")
    separate = [image.detach().requires_grad_() for image in images]
    loss = step(separate, list(targets))
    found = torch.autograd.grad(loss, [*separate, *net.parameters()])
    same((torch.stack(found[:2]), *found[2:]), expected)


@pytest.mark.parametrize("name", CASES)
def test_predicted_maps(name: str) -> None:
    net, images, _, memory = case(name)
    image = images[0].detach()
    with torch.inference_mode():
        expected = net(image[None])[0]
    found = fc.predict(net, image, memory)
    assert (found - expected).abs().max() <= 1e-12 * max(1, expected.abs().max())
