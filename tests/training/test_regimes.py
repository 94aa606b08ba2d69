"""Steps of every regime in training: the right units, the right divisor, the same for a seed."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from fullconv.errors import BadConfigError
from fullconv.sampling import Balanced, Hard, Patchwise, Sampled, generator
from fullconv.training import TrainConfig, criterion, train
from fullconv.training._regime import regime
from fullconv.training._step import Step

CLASSES = 3
WEIGHTS = [0.5, 1.0, 4.0]


@pytest.mark.parametrize(
    ("text", "images", "sampler"),
    [
        ("whole", 2, None),
        ("sampled:0.25", 8, Sampled(0.25)),
        ("sampled-coarse:0.5", 4, Sampled(0.5, cell=16)),
        ("patchwise:64", 4, Patchwise(64)),
        ("patchwise:3x128", 3, Patchwise(3, 128)),
        ("balanced:99", 2, Balanced(99, ignore=7)),
        ("balanced-unbiased:99", 2, Balanced(99, unbiased=True, ignore=7)),
        ("hard:0.1", 2, Hard(0.1, ignore=7)),
    ],
)
def test_names_say_images_and_sampler(text: str, images: int, sampler: Any) -> None:
    found = regime(text, batch=2, ignore=7, cell=16)
    assert (found.name, found.images, found.sampler, found.cut) == (text, images, sampler, None)


def test_crops_are_cut_out_beforehand() -> None:
    found = regime("crop:6x128")
    assert (found.images, found.sampler, found.cut) == (6, None, 128)


@pytest.mark.parametrize("text", ["hard", "whole:1", "patchwise:4x", "patchwise:x4", "everything"])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(
        BadConfigError, match=r"`sampling` must be one of auto, whole, sampled:0\.25"
    ):
        TrainConfig(data=Path("data"), out=Path("run"), sampling=text)


def groups() -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    made: list[tuple[Tensor, Tensor]] = []
    for count, height, width in ((2, 24, 32), (1, 40, 24)):
        images = torch.rand(count, 2, height, width, generator=draw, dtype=torch.float64)
        targets = torch.randint(0, CLASSES, (count, height, width), generator=draw)
        targets[torch.rand(targets.shape, generator=draw) < 0.2] = 255
        made.append((images, targets))
    return made


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 5, padding=2), nn.Tanh(), nn.Conv2d(4, CLASSES, 3, padding=1)
    ).double()


def expected(net: nn.Module, units: list[Tensor], weights: list[float] | None) -> Tensor:
    """Mean of the weighted cross entropy over the chosen valid units, by its definition."""
    images = [i for stack, _ in groups() for i in stack]
    targets = [t for _, stack in groups() for t in stack]
    each = torch.tensor(weights or [1.0] * CLASSES, dtype=torch.float64)
    total, divisor = torch.zeros(()).double(), torch.zeros(()).double()
    for image, target, chosen in zip(images, targets, units, strict=True):
        counts = (target != 255) * chosen
        w = each[target.clamp(max=CLASSES - 1)] * counts
        losses = F.cross_entropy(net(image[None]), target[None], reduction="none", ignore_index=255)
        total, divisor = total + (losses[0] * w).sum(), divisor + counts.sum()
    return total / divisor


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("memory", [None, 300_000])
@pytest.mark.parametrize(
    "sampler", [None, Sampled(0.3), Patchwise(40), Patchwise(5, 8), Balanced(60), Balanced(60, unbiased=True)], ids=str
)  # fmt: skip
def test_a_step_is_the_weighted_mean_over_the_chosen_units(
    sampler: Any, memory: int | None, weights: list[float] | None
) -> None:
    net, judge = small_net(), criterion("cross-entropy", weights=weights)
    if sampler or memory:  # all units at once are judged in float32
        judge.double()
    loss = Step(net, judge, sampler=sampler, seed=5, memory=memory)(groups(), (1, 2, 0))
    targets = [t for _, stack in groups() for t in stack]
    if sampler is None:
        units = [torch.ones(t.shape) for t in targets]
    else:
        units = sampler(targets, generator(5, 1, 2, 0))
        if isinstance(sampler, Patchwise) and sampler.size:
            counts = [torch.zeros(t.shape) for t in targets]
            for count, boxes in zip(counts, units, strict=True):
                for box in boxes:
                    count[box.slices] += 1
            units = counts
    exact = expected(net, units, weights)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-6)
    found = torch.autograd.grad(loss, list(net.parameters()))
    for one, grad in zip(found, torch.autograd.grad(exact, list(net.parameters())), strict=True):
        assert (one - grad).norm() <= 1e-6 * grad.norm()


@pytest.mark.parametrize("name", ["cross-entropy", "focal"])
def test_hard_units_are_those_that_lose_most(name: Any) -> None:
    net, loss = small_net(), criterion(name)
    found = Step(net, loss, sampler=Hard(0.1))(groups(), (0, 0, 0))
    rows = [net(images).movedim(1, -1).reshape(-1, CLASSES) for images, _ in groups()]
    targets = torch.cat([targets.flatten() for _, targets in groups()])
    valid = targets != 255
    each = loss.each(torch.cat(rows)[valid], targets[valid])
    hardest = each.topk(round(0.1 * int(valid.sum()))).values
    assert found.item() == pytest.approx(hardest.mean().item(), rel=1e-6)


@pytest.mark.parametrize("name", ["cross-entropy", "focal"])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_units_one_by_one_sum_to_the_total(name: Any, weights: list[float] | None) -> None:
    loss = criterion(name, weights=weights)
    logits = torch.randn(2, CLASSES, 8, 9)
    targets = groups()[0][1][:, :8, :9]
    each = loss.each(logits.movedim(1, -1).reshape(-1, CLASSES), targets.flatten())
    assert each.sum().item() == pytest.approx(loss.total(logits, targets).item(), rel=1e-5)
    assert loss.weights_of(targets).sum().item() == pytest.approx(loss.weight(targets).item())


def test_choosing_hard_units_counts_nothing_twice_in_batch_norm() -> None:
    net = nn.Sequential(small_net(), nn.BatchNorm2d(CLASSES, dtype=torch.float64)).train()
    twin = copy.deepcopy(net)
    Step(net, criterion("cross-entropy"), sampler=Hard(0.5))(groups()[:1], (0, 0, 0))
    twin(groups()[0][0])
    for name, one in net.named_buffers():
        assert torch.allclose(one, twin.get_buffer(name)), name


def test_dice_takes_no_chosen_units_and_keeps_to_memory() -> None:
    net = small_net()
    with pytest.raises(BadConfigError, match="must be a sum over units"):
        Step(net, criterion("dice"), sampler=Sampled(0.5))
    losses = [Step(net, criterion("dice"), memory=m)(groups()[:1]) for m in (None, 300_000)]
    grads = [torch.autograd.grad(loss, list(net.parameters())) for loss in losses]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-6)
    for one, other in zip(*grads, strict=True):
        assert (one - other).norm() <= 1e-6 * one.norm()


@pytest.mark.parametrize(
    "sampling",
    ["sampled:0.5", "sampled-coarse:0.5", "patchwise:30", "crop:2x16", "balanced:50", "hard:0.3"],
)
def test_every_regime_trains(sampling: str, scenes: Path, tmp_path: Path) -> None:
    run = train(
        TrainConfig(
            data=scenes, out=tmp_path / "run", epochs=1, workers=0, sampling=sampling,
            options={"width": 4, "depth": 2},
        ),
        console=Console(file=io.StringIO()),
    )  # fmt: skip
    assert run.config()["sampling"] == sampling
    assert all(row["loss"] > 0 for row in run.steps())
    assert run.evaluation()["mean_iu"] > 0


def test_a_run_keeps_to_its_memory_where_the_network_is_local(scenes: Path, tmp_path: Path) -> None:
    losses: list[list[float]] = []
    for name, memory in (("free", None), ("kept", "8 GiB")):
        run = train(
            TrainConfig(
                data=scenes, out=tmp_path / name, epochs=1, workers=0, memory=memory,
                options={"width": 4, "depth": 2, "norm": "layer"},
            ),
            console=Console(file=io.StringIO()),
        )  # fmt: skip
        losses.append([row["loss"] for row in run.steps()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
