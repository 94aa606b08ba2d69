"""The loss over chosen units, against plain autograd on whole images in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fullconv as fc

CRITERION = nn.CrossEntropyLoss(reduction="none", ignore_index=255)
CLASSES = 3


class Skip(nn.Module):
    """Down by four and up again, with a skip: field larger than its period, in any dimension."""

    def __init__(self, axes: int, channels: int = 2) -> None:
        super().__init__()
        conv = [nn.Conv1d, nn.Conv2d, nn.Conv3d][axes - 1]
        up = [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d][axes - 1]
        self.head = conv(channels, 4, 3, padding=1)
        self.low = conv(4, 5, 3, stride=2, padding=1)
        self.lower = conv(5, 5, 3, stride=2, padding=1)
        self.up = up(5, 4, 4, stride=4)
        self.tail = conv(8, CLASSES, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        kept = torch.tanh(self.head(x))
        low = torch.tanh(self.lower(torch.tanh(self.low(kept))))
        return self.tail(torch.cat([kept, self.up(low)], 1))


def unpadded(axes: int) -> nn.Module:
    """A patch classifier as a network: its units see 10 px at stride 4."""
    conv = [nn.Conv1d, nn.Conv2d, nn.Conv3d][axes - 1]
    pool = [nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d][axes - 1]
    return nn.Sequential(
        conv(2, 4, 3),
        nn.Tanh(),
        pool(2, 2),
        conv(4, 5, 2, stride=2),
        nn.Tanh(),
        conv(5, CLASSES, 2),
    )


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "skip-1d": (lambda: Skip(1), (48,)),
    "skip-2d": (lambda: Skip(2), (32, 44)),
    "skip-3d": (lambda: Skip(3), (12, 16, 12)),
    "unpadded-1d": (lambda: unpadded(1), (55,)),
    "unpadded-2d": (lambda: unpadded(2), (27, 34)),
    "unpadded-3d": (lambda: unpadded(3), (15, 12, 19)),
}


def case(name: str, seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    build, shape = NETS[name]
    torch.manual_seed(seed)
    net = build().double().eval()
    image = torch.randn(2, *shape, dtype=torch.float64)
    target = torch.randint(CLASSES, net(image[None]).shape[2:])
    return net, image, target


def plain(
    net: nn.Module, images: Sequence[Tensor], targets: Sequence[Tensor], counts: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """The mean loss over units, and its gradient, by plain autograd on whole images."""
    total = sum(
        (
            F.cross_entropy(net(i[None])[0][None], t[None], reduction="none", ignore_index=255)[0]
            * c
        ).sum()
        for i, t, c in zip(images, targets, counts, strict=True)
    )
    weight = sum((c * (t != 255)).sum() for t, c in zip(targets, counts, strict=True))
    loss = torch.as_tensor(total) / weight
    return loss.detach(), list(torch.autograd.grad(loss, list(net.parameters())))


def assert_same(
    net: nn.Module, loss: Tensor, expected: tuple[Tensor, list[Tensor]], tolerance: float = 1e-12
) -> None:
    net.zero_grad()
    loss.backward()
    value, exact_value = loss.item(), expected[0].item()
    assert abs(value - exact_value) <= tolerance * abs(exact_value)
    for parameter, exact in zip(net.parameters(), expected[1], strict=True):
        assert parameter.grad is not None
        error, scale = (parameter.grad - exact).norm().item(), exact.norm().item()
        assert error <= tolerance * scale + 1e-16 * exact.numel()


def some(target: Tensor, share: float, seed: int = 0) -> Tensor:
    units = torch.rand(target.shape, generator=torch.Generator().manual_seed(seed)) < share
    units.view(-1)[0] = True
    return units


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("covering", ["cheapest", "whole", "units"])
@pytest.mark.parametrize("share", [0.03, 0.4, 1.0])
def test_any_cover_of_any_units_gives_the_gradient_of_the_whole_image(
    name: str, covering: Any, share: float
) -> None:
    net, image, target = case(name)
    if covering == "units" and target.numel() * share > 200:
        share = 200 / target.numel()
    units = some(target, share)
    step = fc.StepLoss(net, CRITERION, covering=covering)
    assert_same(net, step([image], [target], [units]), plain(net, [image], [target], [units]))


@pytest.mark.parametrize("name", ["unpadded-1d", "unpadded-2d", "unpadded-3d"])
def test_all_receptive_fields_cut_out_and_pushed_one_by_one_are_the_whole_image(name: str) -> None:
    """The theorem: a whole image is the batch of all its patches."""
    net, image, target = case(name)
    loss = torch.zeros((), dtype=torch.float64)
    for unit in product(*map(range, target.shape)):
        patch = image[(slice(None), *(slice(4 * u, 4 * u + 10) for u in unit))]
        out = net(patch[None])
        assert out.shape[2:] == (1,) * target.ndim
        loss = loss + F.cross_entropy(out.flatten(1), target[unit][None]) / target.numel()
    by_patches = loss.detach(), list(torch.autograd.grad(loss, list(net.parameters())))
    step = fc.StepLoss(net, CRITERION)
    assert_same(net, step([image], [target]), by_patches)
    assert_same(
        net,
        fc.StepLoss(net, CRITERION, covering="units")(
            [image], [target], [torch.ones_like(target, dtype=torch.bool)]
        ),
        by_patches,
    )
