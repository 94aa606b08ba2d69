"""The demo from end to end, on scenes small enough for a test."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from fullconv.demo import Stage, digit_net, make_scenes, run_demo
from fullconv.demo._classifier import patch_accuracy, train_classifier
from fullconv.demo._dataset import CLASSES
from fullconv.demo._run import fastest_precision
from fullconv.errors import BadConfigError, BadRunError
from fullconv.networks import Normalized
from fullconv.runs import Run

SMALL = Stage(counts={"train": 4, "val": 1, "test": 2}, size=240, num_digits=6, width=8)


def small_demo(out: Path) -> Run:
    return run_demo(out, minutes=0.05, stage=SMALL, console=Console(file=io.StringIO()))


@pytest.mark.slow
def test_patches_teach_more_than_chance() -> None:
    torch.manual_seed(0)
    scenes = tuple(make_scenes(0, count=3, size=400, num_digits=10))
    net = Normalized(digit_net(classes=CLASSES.num_classes, width=8), (60.0,) * 3, (60.0,) * 3)
    before = patch_accuracy(net, scenes, count=96, seed=1)
    steps = train_classifier(net, scenes, seconds=8, seed=0)
    assert steps > 1
    assert patch_accuracy(net, scenes, count=96, seed=1) > max(before, 0.2)


@pytest.mark.parametrize(("has_amx", "expected"), [(True, "bf16"), (False, "32")])
def test_precision_is_what_the_processor_is_fast_at(
    has_amx: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": has_amx}, raising=False)
    assert fastest_precision() == expected


def test_a_folder_of_anything_else_is_refused_and_kept(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(BadRunError, match="`out` must be a new or empty folder"):
        small_demo(out)
    assert (out / "thesis.txt").read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_settings_are_refused_before_any_work_is_done(tmp_path: Path) -> None:
    with pytest.raises(BadConfigError, match="`minutes` must be a number above 0, got 0"):
        run_demo(tmp_path / "demo", minutes=0, stage=SMALL, console=Console(file=io.StringIO()))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_demo_ends_with_evaluation_predictions_and_report(tmp_path: Path) -> None:
    for _ in range(2):  # an earlier demo is replaced
        run = small_demo(tmp_path / "demo")
        assert run.report.is_file()
        assert len(list(run.predictions.iterdir())) == 2
        assert set(run.evaluation()["iu"]) == set(CLASSES.names)
        assert np.isfinite(run.evaluation()["mean_iu"])
        assert run.config()["weights"] == str(tmp_path / "demo-classifier.safetensors")
