"""The running statistics of BatchNorm, against the means of what went through."""

import copy

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.data import DataLoader

from fullconv.training._settling import Settling

pytestmark = [
    # Lightning 2.6 asks PyTorch 2.13's pytree in a way that is going out of use.
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


class Toy(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)

    def training_step(self, batch: Tensor) -> Tensor:
        return self.norm(batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def run(toy: Toy, values: Tensor) -> None:
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=[Settling()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(toy, DataLoader(list(values), batch_size=6))


def running(values: Tensor, steps: int) -> tuple[float, float]:
    """Mean and variance after so many batches of 6: all alike, from the tenth on a tenth each."""
    means, variances = values.view(-1, 6).mean(1).tolist(), values.view(-1, 6).var(1).tolist()
    found = np.mean(means[: min(10, steps)]), np.mean(variances[: min(10, steps)])
    for mean, variance in zip(means[10:steps], variances[10:steps], strict=True):
        found = 0.9 * found[0] + 0.1 * mean, 0.9 * found[1] + 0.1 * variance
    return float(found[0]), float(found[1])


@pytest.mark.parametrize("steps", [1, 2, 7, 14])
def test_the_first_batches_count_alike_and_later_ones_as_usual(steps: int) -> None:
    torch.manual_seed(0)
    values, toy = 5 + 3 * torch.randn(steps * 6, 1), Toy()
    run(toy, values)
    found = float(toy.norm.running_mean), float(toy.norm.running_var)
    assert found == pytest.approx(running(values, steps), rel=1e-5)
    assert toy.norm.momentum == 0.1
    assert not toy.norm._forward_pre_hooks


def test_a_second_fit_goes_on_where_the_first_stopped() -> None:
    torch.manual_seed(0)
    values, toy = torch.randn(8 * 6, 1), Toy()
    run(toy, values[: 5 * 6])
    run(toy, values[5 * 6 :])
    assert float(toy.norm.running_mean) == pytest.approx(running(values, 8)[0], rel=1e-4)


def test_norms_without_running_statistics_are_left_alone() -> None:
    toy = Toy()
    toy.norm = nn.BatchNorm1d(1, track_running_stats=False)
    run(toy, torch.randn(12, 1))
    assert toy.norm.momentum == 0.1


def planned_between(toy: Toy) -> None:
    """Run a copy, one without numbers, and the norm itself on a tensor without numbers."""
    copy.deepcopy(toy.norm)(torch.rand(6, 1))
    hollow = copy.deepcopy(toy.norm).to("meta")
    hollow(torch.rand(6, 1, device="meta"))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        kept = dict(toy.norm.named_buffers())
        fake = {name: mode.from_tensor(value) for name, value in kept.items()}
        torch.func.functional_call(toy.norm, fake, (torch.rand(6, 1),))


def test_only_batches_that_went_through_count(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    values, toy = 5 + 3 * torch.randn(7 * 6, 1), Toy()
    monkeypatch.setattr(toy, "on_train_batch_start", lambda *_: planned_between(toy))
    run(toy, values)
    found = float(toy.norm.running_mean), float(toy.norm.running_var)
    assert found == pytest.approx(running(values, 7), rel=1e-5)
