"""`Segmentation` and `ImageData` in a user's own trainer, optimisers and schedules."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from fullconv.images import Dataset, open_dataset, survey
from fullconv.networks import Normalized, build
from fullconv.training import ImageData, Segmentation, criterion, evaluate
from fullconv.training._schedule import constant, optimizer, warm_up_cosine

pytestmark = [
    # Advice of the trainer to its user, who is here a test.
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*logging interval"),
    # Lightning 2.6 asks torch 2.13 in an old way: https://github.com/Lightning-AI/pytorch-lightning
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
]


def module_and_data(scenes: Path, **changes: Any) -> tuple[Segmentation, ImageData]:
    torch.manual_seed(0)
    dataset = open_dataset(scenes)
    facts = survey(dataset)
    net = Normalized(build("unet", 2, 3, width=4, depth=2), facts.mean, facts.std)
    return Segmentation(net, 2, **changes), ImageData(dataset, facts, batch=3, workers=0)


def trainer(folder: Path, **options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(default_root_dir=folder, accelerator="cpu", **(quiet | options))


def test_both_drop_into_a_trainer_of_ones_own(scenes: Path, tmp_path: Path) -> None:
    """With clipping, accumulation and a checkpoint by mean IU: nothing is special."""
    module, data = module_and_data(scenes, lr=1e-2)
    keep = ModelCheckpoint(tmp_path, monitor="mean_iu", mode="max")
    mine = trainer(
        tmp_path, max_epochs=8, callbacks=[keep], gradient_clip_val=1.0, accumulate_grad_batches=2
    )
    mine.fit(module, datamodule=data)
    assert mine.current_epoch == 8
    assert float(mine.callback_metrics["mean_iu"]) > 0.7
    assert keep.best_model_score is not None
    assert Path(keep.best_model_path).exists()


def test_validation_agrees_with_evaluation(scenes: Path, tmp_path: Path) -> None:
    module, data = module_and_data(scenes)
    trainer(tmp_path, max_epochs=1, enable_checkpointing=False).fit(module, datamodule=data)
    found = trainer(tmp_path).validate(module, datamodule=data, verbose=False)[0]
    result = evaluate(module.net, data.dataset.splits["val"], data.survey.classes)
    scores = result.scores()
    for name in ("pixel_accuracy", "mean_accuracy", "mean_iu", "fw_iu"):
        assert found[name] == pytest.approx(getattr(scores, name), abs=1e-6)
    again = trainer(tmp_path).validate(module, datamodule=data, verbose=False)[0]
    assert again == found


def test_the_validation_loss_is_the_mean_over_all_valid_units(scenes: Path, tmp_path: Path) -> None:
    module, data = module_and_data(scenes)
    found = trainer(tmp_path).validate(module, datamodule=data, verbose=False)[0]
    groups = [group for batch in data.val_dataloader()[0] for group in batch]
    with torch.no_grad():
        module.net.eval()
        losses = [
            torch.nn.functional.cross_entropy(
                module.net(x), y.long(), ignore_index=255, reduction="none"
            )[y != 255]
            for x, y in groups
        ]
    assert found["val_loss"] == pytest.approx(torch.cat(losses).mean().item(), rel=1e-5)


@pytest.mark.filterwarnings("ignore:Total length of `list`")  # it is our intention
def test_without_validation_images_training_works_all_the_same(
    scenes: Path, tmp_path: Path
) -> None:
    module, data = module_and_data(scenes)
    alone = Dataset(root=scenes, splits={"train": data.dataset.samples[:1]})
    mine = trainer(tmp_path, max_epochs=2, enable_checkpointing=False)
    mine.fit(module, datamodule=ImageData(alone, data.survey, workers=0))
    assert mine.global_step == 2


def test_the_rate_rises_and_falls_with_the_steps(scenes: Path, tmp_path: Path) -> None:
    module, data = module_and_data(scenes, lr=0.5)
    rates: list[float] = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    mine = trainer(tmp_path, max_epochs=6, callbacks=[Watch()], enable_checkpointing=False)
    mine.fit(module, datamodule=data)
    total = len(rates)
    assert rates == pytest.approx([0.5 * warm_up_cosine(i / total) for i in range(total)])


def test_the_schedule_begins_low_peaks_behind_the_warm_up_and_ends_at_zero() -> None:
    assert 0 < warm_up_cosine(0) < 0.05
    assert warm_up_cosine(0.05) == pytest.approx(1)
    assert warm_up_cosine(0.525) == pytest.approx(0.5)
    assert warm_up_cosine(1) == pytest.approx(0)
    assert warm_up_cosine(1.5) == pytest.approx(0)
    assert {constant(x) for x in (0, 0.5, 1)} == {1.0}


def test_the_paper_s_sgd_doubles_the_rate_of_biases_and_decays_weights_alone() -> None:
    net = torch.nn.Conv2d(1, 1, 3)
    weights, biases = optimizer("sgd", net, 0.1).param_groups
    assert [p.ndim for p in weights["params"]] == [4]
    assert (weights["lr"], weights["weight_decay"], weights["momentum"]) == (0.1, 5e-4, 0.99)
    assert (biases["lr"], biases["weight_decay"]) == (0.2, 0.0)


def by_name(chosen: torch.optim.Optimizer, net: torch.nn.Module) -> dict[str, tuple[float, float]]:
    """Rate and decay of each parameter, by its name."""
    found = {id(p): (g["lr"], g["weight_decay"]) for g in chosen.param_groups for p in g["params"]}
    return {name: found[id(parameter)] for name, parameter in net.named_parameters()}


def test_a_bias_is_what_is_called_so_however_many_axes_it_has() -> None:
    """As Caffe's layers say, of which only biases have `lr_mult: 2, decay_mult: 0`."""
    net = torch.nn.Sequential(
        OrderedDict(
            conv=torch.nn.Conv2d(1, 4, 3),
            norm=torch.nn.BatchNorm2d(4),
            bend=torch.nn.PReLU(4),
            attention=torch.nn.MultiheadAttention(4, 1),
        )
    )
    net.conv.bias = torch.nn.Parameter(torch.zeros(1, 4, 1, 1))
    plain, doubled = (0.1, 5e-4), (0.2, 0.0)
    assert by_name(optimizer("sgd", net, 0.1), net) == {
        "conv.weight": plain,
        "conv.bias": doubled,
        "norm.weight": plain,
        "norm.bias": doubled,
        "bend.weight": plain,
        "attention.in_proj_weight": plain,
        "attention.in_proj_bias": doubled,
        "attention.out_proj.weight": plain,
        "attention.out_proj.bias": doubled,
    }


def test_adamw_decays_no_vectors_and_learns_all_at_one_rate() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4))
    none = (0.1, 0.0)
    assert by_name(optimizer("adamw", net, 0.1), net) == {
        "0.weight": (0.1, 1e-2), "0.bias": none, "1.weight": none, "1.bias": none,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "loss", "lr"),
    [
        ("adamw", "cross-entropy", 4e-3),
        ("sgd", "cross-entropy", 1e-4),
        ("sgd", "cross-entropy-sum", 1e-10),
    ],
)
def test_the_default_rate_goes_with_optimiser_and_loss(name: Any, loss: Any, lr: float) -> None:
    module = Segmentation(torch.nn.Conv2d(1, 2, 1), 2, criterion(loss), optimizer=name)
    assert module.lr == lr
