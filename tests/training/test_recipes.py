"""The authors' settings: shelhamer/fcn.berkeleyvision.org, commit 1305c73, ``*/solver.prototxt``; CVPR 2015, 4.3."""

import io
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml
from rich.console import Console
from torch import nn

from fullconv.errors import BadConfigError
from fullconv.training import TrainConfig, resolve, train
from fullconv.training._order import Order
from fullconv.training._schedule import constant, optimizer


@pytest.mark.parametrize(
    ("net", "lr"),
    [
        ("fcn32s-vgg16", 1e-10),
        ("fcn16s-vgg16", 1e-12),
        ("fcn8s-vgg16", 1e-14),
        ("fcn8s-atonce-vgg16", 1e-10),
    ],
)
def test_heavy_learning_is_one_image_the_sum_and_a_tiny_rate(net: str, lr: float) -> None:
    found = resolve({"data": "voc", "net": net, "recipe": "fcn-heavy"})
    assert (found.batch, found.momentum, found.loss, found.lr) == (1, 0.99, "cross-entropy-sum", lr)
    assert (found.optimizer, found.replacement, found.augment) == ("sgd", True, False)
    assert (found.class_weights, found.sampling) == ("none", "whole")


@pytest.mark.parametrize(
    ("net", "lr"),
    [
        ("fcn32s-vgg16", 1e-4),
        ("fcn-alexnet", 1e-3),
        ("fcn-googlenet", 5e-5),
        ("fcn16s-vgg16", 1e-6),
    ],
)
def test_the_setting_of_2015_is_20_images_and_the_mean(net: str, lr: float) -> None:
    found = resolve({"data": "voc", "net": net, "recipe": "fcn-cvpr"})
    assert (found.batch, found.momentum, found.loss) == (20, 0.9, "cross-entropy")
    assert found.lr == pytest.approx(lr)


def test_flags_and_files_outdo_a_recipe(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("recipe: fcn-heavy\nmomentum: 0.5\nbatch: 3\n")
    found = resolve({"data": "voc", "batch": 2}, config=file)
    assert (found.momentum, found.batch, found.loss) == (0.5, 2, "cross-entropy-sum")


def test_a_recipe_that_is_a_flag_outdoes_the_file(tmp_path: Path) -> None:
    """The file is that of a run, which states every setting."""
    earlier = resolve({"data": "voc", "net": "fcn32s-vgg16", "recipe": "fcn-cvpr", "seed": 7})
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(earlier.to_dict()))
    found = resolve({"recipe": "fcn-heavy", "momentum": 0.7}, config=file)
    assert (found.batch, found.lr, found.loss) == (1, 1e-10, "cross-entropy-sum")
    assert (found.replacement, found.recipe, found.momentum, found.seed) == (
        True,
        "fcn-heavy",
        0.7,
        7,
    )
    again = resolve({"batch": 5}, config=file)
    assert (again.recipe, again.batch, again.lr, again.momentum) == ("fcn-cvpr", 5, 1e-4, 0.9)


def test_a_recipe_keeps_its_optimiser(tmp_path: Path) -> None:
    flags = {"data": "voc", "recipe": "fcn-heavy"}
    message = (
        "`optimizer` must be sgd for `recipe` = fcn-heavy, .* got 'adamw'; leave the recipe out"
    )
    with pytest.raises(BadConfigError, match=message):
        resolve(flags | {"optimizer": "adamw"})
    file = tmp_path / "own.yaml"
    file.write_text("recipe: fcn-heavy\noptimizer: adamw\n")
    with pytest.raises(BadConfigError, match=message):
        resolve({"data": "voc"}, config=file)
    file.write_text("optimizer: adamw\nlr: 0.1\n")
    found = resolve(flags, config=file)
    assert (found.optimizer, found.lr) == ("sgd", 1e-10)


@pytest.mark.parametrize("flags", [{"momentum": 0.5}, {"momentum": 0.99, "optimizer": "adamw"}])
def test_a_momentum_that_nothing_has_is_refused(flags: dict[str, object], tmp_path: Path) -> None:
    message = rf"`momentum` must go with `optimizer` = sgd, got {flags['momentum']} for adamw"
    with pytest.raises(BadConfigError, match=message):
        resolve({"data": "voc"} | flags)
    file = tmp_path / "own.yaml"
    file.write_text("momentum: 0.3\n")
    with pytest.raises(
        BadConfigError, match=r"got 0\.3 for adamw, which has none; give `optimizer`"
    ):
        resolve({"data": "voc"}, config=file)
    assert resolve({"data": "voc", "optimizer": "sgd"}, config=file).momentum == 0.3


def test_the_file_of_a_run_has_a_momentum_for_any_optimiser(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(resolve({"data": "voc"}).to_dict()))
    assert resolve({}, config=file).optimizer == "adamw"
    plain = resolve({"data": "voc", "optimizer": "sgd", "momentum": 0.5})
    file.write_text(yaml.safe_dump(plain.to_dict()))
    other = resolve({"optimizer": "adamw"}, config=file)
    file.write_text(yaml.safe_dump(other.to_dict()))
    assert resolve({}, config=file) == other


def test_weights_decay_and_biases_learn_at_twice_the_rate() -> None:
    chosen = optimizer("sgd", nn.Conv2d(3, 2, 3), 0.1, 0.9)
    rows = [(g["lr"], g["weight_decay"], g["momentum"]) for g in chosen.param_groups]
    assert rows == [(0.1, 5e-4, 0.9), (0.2, 0.0, 0.9)]
    assert constant(0.3) == constant(0.9) == 1


def test_images_with_replacement_come_as_chance_has_it() -> None:
    plain, drawn = (Order(range(200), batch=1, seed=1, replacement=r) for r in (False, True))
    counts = Counter(key.index for keys in drawn for key in keys)
    assert len(list(plain)) == sum(counts.values()) == 200
    # Of many draws with replacement, 1 - 1/e of the images come at all.
    assert 0.56 < len(counts) / 200 < 0.70
    again = Order(range(200), batch=1, seed=1, replacement=True)
    assert [k[0].index for k in again] == [k[0].index for k in drawn]


def test_fresh_weights_are_warned_of(scenes: Path, tmp_path: Path) -> None:
    said = io.StringIO()
    settings = resolve(
        {
            "data": scenes, "out": tmp_path / "run", "recipe": "fcn-heavy", "net": "fcn32s-vgg16",
            "options": {"thin": 64}, "epochs": 1, "workers": 0,
        }
    )  # fmt: skip
    torch.manual_seed(0)
    train(settings, console=Console(file=said, width=400))
    assert "recipe fcn-heavy is made for pretrained weights" in said.getvalue()
    assert "train from scratch without a recipe" in said.getvalue()


def test_what_is_no_recipe_is_refused() -> None:
    with pytest.raises(
        BadConfigError, match="`recipe` must be one of fcn-heavy, fcn-cvpr, got 'x'"
    ):
        resolve({"data": "voc", "recipe": "x"})
    with pytest.raises(BadConfigError, match="`recipe` must be one of"):
        TrainConfig(data=Path("voc"), out=Path("run"), recipe="x")
    with pytest.raises(BadConfigError, match="`momentum` must be from 0 to below 1, got 1"):
        TrainConfig(data=Path("voc"), out=Path("run"), momentum=1)
