"""The loss of a step and its gradient, against plain autograd over all its units at once."""

import numpy as np
import pytest
import torch
from kornia.losses import dice_loss
from torch import Tensor, nn

from fullconv.errors import BadConfigError
from fullconv.planning import Manner, rehearse_step
from fullconv.training import criterion
from fullconv.training._config import ClassWeights, LossName
from fullconv.training._losses import class_weights
from fullconv.training._step import Group, step_loss

CLASSES = 3
WEIGHTS = [0.5, 1.0, 4.0]


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, CLASSES, 1)
    ).double()


def group(count: int, height: int, width: int, *, seed: int, ignored: float = 0.2) -> Group:
    draw = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 2, height, width, generator=draw, dtype=torch.float64)
    targets = torch.randint(0, CLASSES, (count, height, width), generator=draw)
    targets[torch.rand(targets.shape, generator=draw) < ignored] = 255
    return images, targets


GROUPS = [
    group(1, 9, 7, seed=1),
    group(2, 4, 5, seed=2, ignored=0.8),
    group(1, 3, 3, seed=3, ignored=1.1),  # nothing to learn from
]


def units(module: nn.Module, groups: list[Group]) -> tuple[Tensor, Tensor]:
    """All units of the step as one long list: logits (n, K) and targets (n,)."""
    logits = [module(images).movedim(1, -1).reshape(-1, CLASSES) for images, _ in groups]
    return torch.cat(logits), torch.cat([targets.flatten() for _, targets in groups])


def plain_loss(name: str, logits: Tensor, targets: Tensor, weights: list[float] | None) -> Tensor:
    """The losses by their definitions, unit by unit."""
    valid = targets != 255
    logits, targets = logits[valid], targets[valid]
    p = logits.softmax(1)[torch.arange(len(targets)), targets]
    w = torch.tensor(weights or [1.0] * CLASSES, dtype=logits.dtype)[targets]
    match name:
        case "cross-entropy":
            return (w * -p.log()).sum() / len(w)
        case "cross-entropy-sum":
            return (w * -p.log()).sum()
        case "focal":
            return (w * -((1 - p) ** 2) * p.log()).sum() / len(w)
        case _:
            raise AssertionError(name)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("name", ["cross-entropy", "cross-entropy-sum", "focal"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_loss_and_gradient_are_those_of_all_valid_units_together(
    name: LossName, weights: list[float] | None, count: int
) -> None:
    mine, plain = net(), net()
    loss = step_loss(mine, criterion(name, weights=weights), GROUPS[:count])
    loss.backward()
    expected = plain_loss(name, *units(plain, GROUPS[:count]), weights)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for a, b in zip(mine.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-7)


def test_the_gradient_is_not_the_mean_of_those_of_the_images() -> None:
    """Else the test above could not tell the two apart."""
    module, loss = net(), criterion("cross-entropy")
    together = step_loss(module, loss, GROUPS[:2])
    apart = torch.stack([step_loss(module, loss, [g]) for g in GROUPS[:2]]).mean()
    assert abs(together.item() - apart.item()) > 1e-3


def dice_by_hand(images: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """1 - 2 |X Y| / (|X| + |Y|) by class present, mean over classes, mean over images."""
    losses: list[float] = []
    for logits, target in images:
        valid = target != 255
        p = np.exp(logits) / np.exp(logits).sum(0)
        rows: list[float] = []
        for k in range(len(logits)):
            x, y = p[k][valid], (target == k)[valid]
            if y.any():
                rows.append(1 - 2 * (x * y).sum() / (x.sum() + y.sum()))
        if rows:
            losses.append(float(np.mean(rows)))
    return float(np.mean(losses))


def test_dice_is_that_of_the_definition_and_skips_images_without_units() -> None:
    module = net()
    loss = step_loss(module, criterion("dice"), GROUPS)
    with torch.no_grad():
        maps = [
            (module(images[i : i + 1])[0].numpy(), targets[i].numpy())
            for images, targets in GROUPS
            for i in range(len(images))
        ]
    assert loss.item() == pytest.approx(dice_by_hand(maps), rel=1e-5)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("without", [(), (1,), (0, 2), (0, 1, 2)])
def test_dice_is_that_of_the_images_that_have_units(
    without: tuple[int, ...], weights: list[float] | None
) -> None:
    """Against the loss of these images alone."""
    torch.manual_seed(0)
    logits = torch.randn(3, 3, 9, 8, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(3, (3, 9, 8))
    targets[:, :2] = 255
    targets[list(without)] = 255
    found = criterion("dice", weights=weights).total(logits, targets)
    (grad,) = torch.autograd.grad(found, logits)
    kept = [i for i in range(3) if i not in without]
    table = None if weights is None else torch.tensor(weights)
    expected = logits.sum() * 0
    if kept:
        mean = dice_loss(logits[kept], targets[kept], "macro", weight=table, ignore_index=255)
        expected = mean * len(kept)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6, check_dtype=False)
    torch.testing.assert_close(grad, torch.autograd.grad(expected, logits)[0])


@pytest.mark.parametrize("name", ["cross-entropy", "focal", "dice"])
def test_steps_of_each_loss_are_planned(name: LossName) -> None:
    found = rehearse_step(net(), (2, 40, 40), batch=2, manner=Manner(total=criterion(name).total))
    assert found.peak_bytes > 2 * 3 * 40 * 40 * 4


@pytest.mark.parametrize("name", ["cross-entropy", "cross-entropy-sum", "focal", "dice"])
def test_a_step_with_nothing_to_learn_from_has_loss_zero_and_no_gradient(name: LossName) -> None:
    for groups in ([GROUPS[2]], [GROUPS[2], group(1, 2, 2, seed=4, ignored=1.1)]):
        module = net()
        loss = step_loss(module, criterion(name), groups)
        loss.backward()
        assert loss.item() == 0
        assert all(p.grad is None or not p.grad.any() for p in module.parameters())


def test_what_multiplies_the_loss_multiplies_the_handed_gradient() -> None:
    once, thrice = net(), net()
    step_loss(once, criterion("cross-entropy"), GROUPS).backward()
    (3 * step_loss(thrice, criterion("cross-entropy"), GROUPS)).backward()
    for a, b in zip(once.parameters(), thrice.parameters(), strict=True):
        assert a.grad is not None
        torch.testing.assert_close(3 * a.grad, b.grad)


def test_parameters_that_are_frozen_or_unused_are_left_alone() -> None:
    module = net()
    module.register_module("unused", nn.Linear(2, 2).double())
    module[0].requires_grad_(False)  # pyright: ignore[reportIndexIssue]
    module.forward = lambda x: module[2](module[1](module[0](x)))  # pyright: ignore
    step_loss(module, criterion("cross-entropy"), GROUPS).backward()
    grads = {name: p.grad for name, p in module.named_parameters()}
    assert grads["0.weight"] is None
    assert grads["2.weight"] is not None
    assert grads["2.weight"].abs().sum() > 0


def test_bfloat16_autocast_works_over_several_groups() -> None:
    mine, plain = net().float(), net().float()
    groups = [(images.float(), targets) for images, targets in GROUPS[:2]]
    with torch.autocast("cpu", torch.bfloat16):
        loss = step_loss(mine, criterion("cross-entropy"), groups)
    loss.backward()
    step_loss(plain, criterion("cross-entropy"), groups).backward()
    for a, b in zip(mine.parameters(), plain.parameters(), strict=True):
        assert b.grad is not None
        torch.testing.assert_close(a.grad, b.grad, rtol=0.1, atol=0.02)


def test_a_map_of_another_size_is_refused() -> None:
    shrinking = nn.Conv2d(2, CLASSES, 3).double()
    with pytest.raises(BadConfigError, match=r"\(9 x 7 units\), got 7 x 5; upsample"):
        step_loss(shrinking, criterion("cross-entropy"), GROUPS[:1])


@pytest.mark.parametrize(
    ("name", "shares"), [("balanced", [1, 1, 0, 1]), ("sqrt", [9, 3, 0, 1]), ("none", None)]
)
def test_class_weights_set_the_shares_of_the_loss(
    name: ClassWeights, shares: list[float] | None
) -> None:
    counts = [81, 9, 0, 1]
    weights = class_weights(name, counts)
    if shares is None:
        assert weights is None
        return
    assert weights is not None
    found = [w * c for w, c in zip(weights, counts, strict=True)]
    assert found == pytest.approx([91 * share / sum(shares) for share in shares])
