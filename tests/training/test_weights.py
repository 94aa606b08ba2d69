"""Training that starts from given weights."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from fullconv.errors import BadConfigError
from fullconv.networks import (
    Normalized,
    build,
    lite0_weights,
    lite1_weights,
    lite2_weights,
)
from fullconv.runs import Run
from fullconv.training import TrainConfig, train
from fullconv.training._starting import start


def trained(data: Path, out: Path, **changes: Any) -> Run:
    values = {"epochs": 1, "batch": 4, "options": {"width": 4, "depth": 1}, "workers": 0} | changes
    return train(TrainConfig(data=data, out=out, **values), console=Console(file=io.StringIO()))


@pytest.fixture(scope="module")
def first(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(scenes, tmp_path_factory.mktemp("run") / "first")


def test_training_starts_from_the_weights_it_is_given(
    scenes: Path, first: Run, tmp_path: Path
) -> None:
    # At so small a rate the parameters stay where they started, whatever the seed.
    second = trained(scenes, tmp_path / "second", weights=first.last, lr=1e-12, seed=5)
    third = trained(scenes, tmp_path / "third", lr=1e-12, seed=5)
    name = "net.score.weight"
    start, kept, fresh = (load_file(run.last)[name] for run in (first, second, third))
    assert (start - kept).abs().max() < 1e-6
    assert (start - fresh).abs().max() > 1e-2


def test_the_run_says_which_weights_it_started_from(
    scenes: Path, first: Run, tmp_path: Path
) -> None:
    run = trained(scenes, tmp_path / "run", weights=str(first.best))
    assert run.config()["weights"] == str(first.best)
    assert TrainConfig.from_dict(run.config()).weights == first.best


def test_weights_of_another_network_are_refused_by_layer(
    scenes: Path, first: Run, tmp_path: Path
) -> None:
    with pytest.raises(
        BadConfigError,
        match=r"must hold the layers of this network.* is \(4, 3, 5, 5\), not \(6, 3, 5, 5\)",
    ):
        trained(scenes, tmp_path / "run", weights=first.best, options={"width": 6, "depth": 1})


def test_a_stage_of_an_fcn_starts_from_the_one_before(scenes: Path, tmp_path: Path) -> None:
    said = io.StringIO()
    options = {"thin": 64}
    given = {"epochs": 1, "batch": 8, "workers": 0, "options": options, "sampling": "whole"}
    run = trained(scenes, tmp_path / "32s", net="fcn32s-vgg16", **given)
    config = TrainConfig(
        data=scenes, out=tmp_path / "16s", net="fcn16s-vgg16", weights=run.path, lr=1e-12, **given
    )
    second = train(config, console=Console(file=said, width=400))
    assert "fresh: net.score_pool4.weight, net.score_pool4.bias" in said.getvalue()
    before, after = load_file(run.best), load_file(second.best)
    assert before.keys() == after.keys() - {"net.score_pool4.weight", "net.score_pool4.bias"}
    assert all((after[n] - v).abs().max() < 1e-6 for n, v in before.items())


def test_pretrained_weights_are_those_of_some_networks(scenes: Path, tmp_path: Path) -> None:
    names = ", ".join(f"unet:efficientnet-lite{size}" for size in range(3))
    rule = f"`weights` = pretrained must go with one of {names}, got unet; give a file"
    with pytest.raises(BadConfigError, match=rule):
        trained(scenes, tmp_path / "run", weights="pretrained")


@pytest.mark.parametrize("weights", [lite0_weights, lite1_weights, lite2_weights])
def test_pretrained_weights_are_those_of_the_network_that_is_named(
    weights: Callable[[], Path],
) -> None:
    size = weights.__name__[4]
    name = f"unet:efficientnet-lite{size}"
    net = Normalized(build(name, classes=2, width=2), [0.0] * 3, [1.0] * 3)
    said = io.StringIO()
    start(Path("pretrained"), name, net, Console(file=said, width=400))
    assert f"tensors from {weights()} (classifier)" in said.getvalue()
    stem = torch.load(weights(), weights_only=True)["_conv_stem.weight"]
    assert torch.equal(net.get_parameter("net.net.trunk.net.net._conv_stem.weight"), stem)
    assert net.mean.flatten().tolist() == [127.0] * 3


def test_held_out_images_that_are_learned_are_warned_of(scenes: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for split, names in (("train", ("00", "02")), ("val", ("02",))):
        for kind in ("images", "masks"):
            (data / split / kind).mkdir(parents=True)
            for name in names:
                target = data / split / kind / f"{name if split == 'train' else 'copy'}.png"
                shutil.copy(scenes / kind / f"{name}.png", target)
    said = io.StringIO()
    config = TrainConfig(
        data=data, out=tmp_path / "run", epochs=1, workers=0, sampling="whole",
        options={"width": 2, "depth": 1},
    )  # fmt: skip
    train(config, console=Console(file=said, width=400))
    assert (
        "warning: held-out images that are training images too (1): copy (as 02)" in said.getvalue()
    )
