"""Whether a run's steps fit, known before the first one: cut by default where they don't."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from fullconv.errors import FullconvError, NotLocalError
from fullconv.images import open_dataset, survey
from fullconv.planning import Gauge
from fullconv.runs import Run
from fullconv.training import TrainConfig, _room, train
from fullconv.training._job import job_for, recipe_for

LOCAL = {"width": 4, "depth": 1, "norm": "none", "stem": 1}


def trained(data: Path, out: Path, said: io.StringIO, **settings: Any) -> Run:
    config = TrainConfig(
        data=data, out=out, epochs=2, workers=0, batch=2, augment=False,
        **({"sampling": "whole", "options": LOCAL} | settings),
    )  # fmt: skip
    return train(config, console=Console(file=said, width=300))


def test_steps_that_do_not_fit_are_cut_and_the_run_stays_the_same(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_room, "SMALL_PX", 0)
    said = io.StringIO()
    whole = trained(scenes, tmp_path / "whole", said)
    assert "windows" not in said.getvalue()
    step = whole.memory()["step"]
    assert step["fits"] is True
    assert step["images"] == 2
    monkeypatch.setattr(_room, "left_now", lambda *_: step["bill"]["saved"] // 3)
    cut = trained(scenes, tmp_path / "cut", said)
    assert "steps are cut into windows: uncut, they take more than" in said.getvalue()
    assert cut.memory()["step"]["fits"] is False
    expected, found = load_file(whole.last), load_file(cut.last)
    for name, weights in expected.items():
        torch.testing.assert_close(found[name], weights, rtol=2e-3, atol=2e-5)


def test_steps_that_neither_fit_nor_can_be_cut_are_refused_by_the_layer(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_room, "SMALL_PX", 0)
    monkeypatch.setattr(_room, "left_now", lambda *_: 100_000)
    with pytest.raises(NotLocalError, match="BatchNorm"):
        trained(scenes, tmp_path / "run", io.StringIO(), options=LOCAL | {"norm": "batch"})


def test_small_steps_are_not_planned(scenes: Path, tmp_path: Path) -> None:
    run = trained(scenes, tmp_path / "run", io.StringIO())
    assert run.memory()["step"]["why"].endswith("px are taken to fit")


def test_what_cannot_be_drawn_is_refused_before_steps_are_measured(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_room, "rehearse_step", lambda *_, **__: pytest.fail("measured"))
    with pytest.raises(FullconvError, match="`sampling` = crop:2x2000 needs images of at least"):
        trained(scenes, tmp_path / "run", io.StringIO(), sampling="crop:2x2000")


def test_what_is_measured_before_a_run_stays_within_its_memory(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[object] = []

    def measured(*args: object) -> Gauge:
        limits.append(args[-1])
        return _room.UNSEEN

    monkeypatch.setattr(_room, "SMALL_PX", 0)
    monkeypatch.setattr(_room, "measured_here", measured)
    monkeypatch.setattr(_room, "left_now", lambda *_: 2**29 + 7)
    trained(scenes, tmp_path / "run", io.StringIO())
    assert limits == [2**29 + 7]


@pytest.mark.parametrize(("sampling", "images"), [("whole", 7), ("crop:99x16", 99)])
def test_a_step_is_planned_over_no_more_whole_images_than_there_are(
    sampling: str, images: int, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(_room, "SMALL_PX", 2**60)
    monkeypatch.setattr(_room, "left_now", lambda *args: asked.append(args[-1]) or 2**40)
    dataset, console = open_dataset(scenes), Console(file=io.StringIO())
    facts = survey(dataset)
    config = TrainConfig(
        data=scenes, out=tmp_path / "run", batch=10**5, sampling=sampling, options=LOCAL,
        memory="1 GiB",
    )  # fmt: skip
    job = job_for(config, recipe_for(config, facts), dataset, facts, console)
    assert job.room.images == images
    assert asked == [images]
