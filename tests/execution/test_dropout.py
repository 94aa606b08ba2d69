"""Dropout in training: the same numbers whatever the windows, and random ones all the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fullconv as fc

from .test_step_loss import CLASSES, CRITERION, some


class Dropping(nn.Module):
    """Dropout at two resolutions, and of whole channels."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, stride=2, padding=1)
        self.channels, self.last = nn.Dropout2d(0.3), nn.Conv2d(6, CLASSES, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(torch.tanh(self.one(x)), 0.25, self.training)
        x = self.channels(F.dropout(torch.tanh(self.two(x)), 0.5, self.training))
        return F.interpolate(self.last(x), scale_factor=2, mode="nearest")


def setting() -> tuple[nn.Module, list[Tensor], list[Tensor]]:
    torch.manual_seed(0)
    images = [torch.randn(2, 48, 64, dtype=torch.float64) for _ in range(2)]
    return Dropping().double().train(), images, [torch.randint(CLASSES, (48, 64)) for _ in images]


def result(step: nn.Module, *args: Any, seed: int = 1) -> tuple[float, list[Tensor]]:
    torch.manual_seed(seed)
    loss = step(*args)
    grads = torch.autograd.grad(loss, list(step.net.parameters()))
    return loss.item(), list(grads)


def test_every_cover_drops_the_same_numbers() -> None:
    net, images, targets = setting()
    units = [some(t, 0.03, seed=i) for i, t in enumerate(targets)]
    covers = [
        fc.StepLoss(net, CRITERION, covering="units"),
        fc.StepLoss(net, CRITERION, memory="90 KiB"),
        fc.StepLoss(net, CRITERION, memory="150 KiB"),
    ]
    found = [result(step, images, targets, units) for step in covers]
    for loss, grads in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-12)
        for one, other in zip(grads, found[0][1], strict=True):
            assert (one - other).norm() <= 1e-11 * other.norm()
    assert result(covers[0], images, targets, units, seed=2)[0] != found[0][0]


def test_streaming_drops_the_same_numbers_forth_and_back() -> None:
    net, images, _ = setting()
    batch = torch.stack(images)
    tight = fc.Streamed(net, "90 KiB")
    for seed in (1, 2):
        torch.manual_seed(seed)
        found = tight(batch)
        torch.manual_seed(seed)
        assert torch.equal(found, tight(batch))
        direction = [torch.randn_like(p) for p in net.parameters()]
        grads = torch.autograd.grad(found.square().sum(), list(net.parameters()))
        slope = sum((g * d).sum() for g, d in zip(grads, direction, strict=True))
        moved: list[Tensor] = []
        for sign in (1, -1):
            with torch.no_grad():
                for p, d in zip(net.parameters(), direction, strict=True):
                    p.add_(sign * 1e-6 * d)
            torch.manual_seed(seed)
            moved.append(tight(batch).square().sum().detach())
            with torch.no_grad():
                for p, d in zip(net.parameters(), direction, strict=True):
                    p.sub_(sign * 1e-6 * d)
        assert float((moved[0] - moved[1]) / 2e-6) == pytest.approx(float(slope), rel=1e-5)


def test_as_many_numbers_are_dropped_as_asked_for_and_without_pattern() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Dropout(0.3)).train()
    nn.init.zeros_(net[0].weight)
    nn.init.ones_(net[0].bias)
    found = fc.Streamed(net, "300 KiB")(torch.zeros(2, 1, 160, 160))
    kept = (found > 0).double()
    assert torch.allclose(found[found > 0], torch.tensor(1 / 0.7))
    deviation = (0.3 * 0.7 / kept.numel()) ** 0.5
    assert abs(kept.mean() - 0.7) < 5 * deviation
    for axis in range(4):
        moved = kept.roll(1, axis)
        correlation = ((kept - 0.7) * (moved - 0.7)).mean() / 0.21
        assert abs(correlation) < 5 / kept.numel() ** 0.5 if axis else True
    assert abs(((kept[0] - 0.7) * (kept[1] - 0.7)).mean()) < 5 * 0.21 / kept[0].numel() ** 0.5


def test_other_random_numbers_are_refused_by_name() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.randn_like(x)

    net = nn.Sequential(nn.Conv2d(2, CLASSES, 3, padding=1), Noisy()).train()
    image, target = torch.randn(2, 64, 64), torch.randint(CLASSES, (64, 64))
    step = fc.StepLoss(net, CRITERION, memory="100 KiB")
    with pytest.raises(
        fc.NotLocalError, match=r"`1` \(Noisy\) is not local: it draws a random number"
    ):
        step([image], [target])
    assert fc.StepLoss(net, CRITERION)([image], [target]).item() > 0


def test_images_of_a_step_drop_different_numbers() -> None:
    net = nn.Sequential(nn.Conv2d(1, CLASSES, 1), nn.Dropout(0.5)).double().train()
    image, target = torch.ones(1, 8, 8).double(), torch.zeros(8, 8).long()
    units = [torch.zeros(8, 8, dtype=torch.bool) for _ in range(2)]
    units[0][2:6:3, 1:8:2] = True
    step = fc.StepLoss(net, CRITERION, covering="units", reduction="sum")
    torch.manual_seed(0)
    first = step([image, image], [target, target], [units[0], units[1]]).item()
    torch.manual_seed(0)
    second = step([image, image], [target, target], [units[1], units[0]]).item()
    assert first != second


def test_dropout_that_is_run_again_in_backward_is_refused() -> None:
    from torch.utils.checkpoint import checkpoint

    class Saving(Dropping):
        def forward(self, x: Tensor) -> Tensor:
            found = checkpoint(super().forward, x, use_reentrant=False)
            assert isinstance(found, Tensor)
            return found

    torch.manual_seed(0)
    net = Saving().double().train()
    _, images, targets = setting()
    units = [some(t, 0.03, seed=i) for i, t in enumerate(targets)]
    with pytest.raises(fc.FullconvError, match="activation checkpointing"):
        fc.StepLoss(net, CRITERION, covering="units")(images, targets, units)
    fc.StepLoss(net, CRITERION)(images, targets).backward()
    net.eval()
    fc.StepLoss(net, CRITERION, covering="units")(images, targets, units).backward()
