"""Tracing reads a network; it must leave it exactly as it was."""

import copy

import pytest
import torch
from torch import nn

import fullconv as fc


class SharedLayer(nn.Module):
    """One layer registered under two names, as many published networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), self.norm, nn.ReLU(inplace=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


def test_weights_buffers_hooks_and_modes_are_as_before() -> None:
    net = SharedLayer().eval()
    net.body[0].train()
    before = copy.deepcopy(net.state_dict())
    fc.trace(net)
    after = net.state_dict()
    assert before.keys() == after.keys()
    assert all(
        after[k].device.type == "cpu" and torch.equal(v, after[k]) for k, v in before.items()
    )
    assert [m.training for m in net.modules()] == [False, False, False, True, False]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_running_statistics_stay_when_a_network_in_training_is_refused() -> None:
    net = SharedLayer().train()
    with pytest.raises(fc.NotLocalError, match="BatchNorm in training"):
        fc.trace(net)
    assert int(net.norm.num_batches_tracked) == 0
    assert torch.equal(net.norm.running_mean, torch.zeros(4))


class Watched(nn.Module):
    """A network without weights that remembers which devices its images were on."""

    def __init__(self, devices: list[str]) -> None:
        super().__init__()
        self.devices = devices

    def __deepcopy__(self, memo: dict[int, object]) -> "Watched":
        return Watched(self.devices)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.devices.append(x.device.type)
        return x[..., 1:]


def test_a_network_without_weights_is_not_run_on_numbers_either() -> None:
    devices: list[str] = []
    fc.trace(Watched(devices))
    assert set(devices) == {"meta"}


def test_inference_mode_changes_nothing_that_is_seen() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3), Pixelwise(), nn.Conv2d(3, 2, 3)).eval()
    with torch.inference_mode():
        inside = fc.trace(net, 2)
    assert inside == fc.trace(net, 2)


class Pixelwise(nn.Module):
    """A linear layer for each pixel, which runs as another operator where inference mode reaches it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
