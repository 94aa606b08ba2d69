"""Frozen norms: the numbers of evaluation in training, statistics that do not move, a local network."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

import fullconv as fc


class NormAct(nn.BatchNorm2d):
    """A norm with an activation of its own, as other projects have them."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu()


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3), NormAct(8), nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
    )  # fmt: skip
    net(torch.randn(4, 3, 20, 20) * 3 + 1)  # statistics of their own
    return net


def test_training_and_evaluation_give_what_evaluation_gave() -> None:
    net = network()
    frozen = fc.freeze_norms(net)
    x = torch.randn(2, 3, 30, 30)
    expected = net.eval()(x)
    for mode in (True, False):
        assert torch.equal(frozen.train(mode)(x), expected)


def test_statistics_stay_and_scale_and_shift_learn() -> None:
    net = network()
    frozen = fc.freeze_norms(net).train()
    before = {name: buffer.clone() for name, buffer in frozen.named_buffers()}
    frozen(torch.randn(2, 3, 30, 30) * 9).square().sum().backward()
    assert all(torch.equal(before[name], buffer) for name, buffer in frozen.named_buffers())
    assert before.keys() >= {"1.running_mean", "5.running_var"}
    assert all(p.grad is not None and p.grad.any() for p in frozen[1].parameters())


def test_the_original_is_as_it_was_and_shares_its_weights() -> None:
    net = network()
    frozen = fc.freeze_norms(net)
    assert net[1].training
    assert not net[1]._forward_pre_hooks
    assert frozen.state_dict().keys() == net.state_dict().keys()
    assert all(a is b for a, b in zip(frozen.parameters(), net.parameters(), strict=True))


def test_a_frozen_network_is_local_in_training() -> None:
    net = network()
    with pytest.raises(fc.NotLocalError, match="BatchNorm"):
        fc.trace(net)
    assert fc.trace(fc.freeze_norms(net).train()).field == (7, 7)


def test_copies_and_pickles_stay_frozen() -> None:
    frozen = fc.freeze_norms(network())
    x = torch.randn(2, 3, 30, 30)
    expected = frozen(x)
    for twin in (copy.deepcopy(frozen), pickle.loads(pickle.dumps(frozen))):
        assert torch.equal(twin.train()(x), expected)


def test_a_norm_without_statistics_is_refused_by_name() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    with pytest.raises(fc.FullconvError, match=r"`1` \(BatchNorm2d\) has none.*over the channels"):
        fc.freeze_norms(net)


def test_norms_that_keep_no_statistics_are_left_alone() -> None:
    net = nn.Sequential(nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.LayerNorm(5)).train()
    x = torch.randn(2, 4, 5, 5)
    assert torch.equal(fc.freeze_norms(net)(x), net(x))


def test_a_network_that_cannot_be_copied_is_refused() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3))
    net.odd = (n for n in range(3))  # pyright: ignore[reportAttributeAccessIssue] (a generator)
    with pytest.raises(fc.FullconvError, match=r"`copy.deepcopy` copies, got a Sequential"):
        fc.freeze_norms(net)
