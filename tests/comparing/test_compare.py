"""Comparisons: the curves and the verdict from known numbers, and the whole job on small data."""

from __future__ import annotations

import io
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from fullconv.comparing import _compare, compare, measure, verdict
from fullconv.comparing._curve import Curve, curve
from fullconv.errors import BadConfigError, BadRunError, FullconvError
from fullconv.training import TrainConfig, _auto, _train


class Told:
    """A run with given rows."""

    def __init__(self, scores: list[float], every: float, final: float) -> None:
        self.scores, self.every, self.final = scores, every, final

    def validation(self) -> list[dict[str, float]]:
        return [
            {"step": 10 * i, "seconds": self.every * i, "mean_iu": score, "loss": 1 - score}
            for i, score in enumerate(self.scores, 1)
        ]

    def steps(self) -> list[dict[str, float]]:
        return [{"step": s, "images": 4 * s} for s in range(1, 10 * len(self.scores) + 1)]

    def evaluation(self) -> dict[str, Any]:
        return {"mean_iu": self.final}

    def about(self) -> dict[str, Any]:
        return {"steps": 10 * len(self.scores)}


def runs() -> Any:
    return {
        "whole": [Told([0.2, 0.4, 0.6], 10, 0.60), Told([0.4, 0.6, 0.8], 10, 0.80)],
        "crop:1x256": [Told([0.5, 0.7, 0.7, 0.7], 5, 0.75)],
        "sampled:0.5": [Told([0.1, 0.2], 15, 0.2)],
    }


def test_a_curve_is_the_mean_over_seeds_with_its_band() -> None:
    found = curve(runs()["whole"], "mean_iu", "seconds")
    assert found is not None
    assert found.x[[0, -1]].tolist() == [10, 30]
    assert found.mean[[0, -1]] == pytest.approx([0.3, 0.7])
    assert found.low[-1] == pytest.approx(0.6)
    assert found.high[-1] == pytest.approx(0.8)
    by_images = curve(runs()["whole"], "loss", "images")
    assert by_images is not None
    assert by_images.x[[0, -1]].tolist() == [40, 120]


def test_where_a_level_is_reached_is_interpolated() -> None:
    line = np.array([0.0, 0.5, 1.0])
    found = Curve(x=np.array([0.0, 10.0, 20.0]), mean=line, low=line, high=line)
    assert found.reached(0.75) == pytest.approx(15)
    assert found.reached(0.0) == 0
    assert found.reached(1.1) is None


def test_the_verdict_says_who_got_how_far_and_how_fast() -> None:
    found = verdict(runs())
    assert found.level == pytest.approx(0.95 * 0.7)
    assert [e.name for e in found.entries] == ["crop:1x256", "whole", "sampled:0.5"]
    assert found.words == (
        "Mean IU on the held-out images: crop:1x256 0.750, whole 0.700, sampled:0.5 0.200; best was "
        "crop:1x256. A validation mean IU of 0.66 was reached by crop:1x256 in 9 s, whole in 28 s; "
        "never by sampled:0.5."
    )


def settings(data: Path, out: Path, **changes: Any) -> TrainConfig:
    given: dict[str, Any] = {"epochs": 1, "workers": 0, "options": {"width": 4, "depth": 2}}
    return TrainConfig(data=data, out=out, **(given | changes))


def quiet() -> Console:
    return Console(file=io.StringIO())


def test_a_comparison_trains_tells_and_goes_on(scenes: Path, tmp_path: Path) -> None:
    config = settings(scenes, tmp_path / "out")
    found = compare(config, ["whole", "crop:2x16"], console=quiet())
    assert set(found.runs) == {"whole", "crop:2x16"}
    page = found.report.read_text()
    assert found.verdict.words.split(";")[0] in page
    assert page.count('class="band"') == 12
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("steps.csv")}
    wider = compare(config, ["whole", "crop:2x16"], seeds=2, console=quiet())
    assert {p: p.stat().st_mtime_ns for p in before} == before  # not trained again
    assert [len(each) for each in wider.runs.values()] == [2, 2]
    near = replace(config, workers=2, data=Path(os.path.relpath(scenes)))
    again = compare(near, ["whole", "crop:2x16"], console=quiet())
    assert again.verdict.entries == found.verdict.entries
    with pytest.raises(BadRunError, match="`out` must hold runs with these settings alone"):
        compare(
            settings(scenes, tmp_path / "out", lr=1e-4), ["whole", "crop:2x16"], console=quiet()
        )


@pytest.mark.parametrize("regimes", [[], ["whole"], ["whole", "whole"]])
def test_one_regime_is_nothing_to_compare(regimes: list[str], scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(BadConfigError, match="`regimes` must be two different ones"):
        compare(settings(scenes, tmp_path / "out"), regimes, console=quiet())


def test_measuring_writes_nothing(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = measure(settings(scenes, out), ["whole", "sampled:0.5", "crop:2x16"], console=quiet())
    assert [r.regime.name for r in found] == ["whole", "sampled:0.5", "crop:2x16"]
    assert all(r.seconds > 0 and r.signal > 0 for r in found)
    assert not out.exists()


def test_measuring_over_seeds_is_the_mean_of_measuring_each(scenes: Path, tmp_path: Path) -> None:
    names = ["whole", "crop:2x16"]
    config = settings(scenes, tmp_path / "out")
    each = [measure(replace(config, seed=seed), names, console=quiet()) for seed in (4, 5)]
    found = measure(replace(config, seed=4), names, seeds=2, console=quiet())
    assert [r.regime.name for r in found] == names
    for one, (a, b) in zip(found, zip(*each, strict=True), strict=True):
        assert a.signal != b.signal
        assert one.signal == pytest.approx((a.signal + b.signal) / 2, rel=1e-4)
        assert one.noise == pytest.approx((a.noise + b.noise) / 2, rel=1e-4)
        assert one.steps == a.steps + b.steps
    with pytest.raises(BadConfigError, match="`seeds` must be at least 1 to measure, got 0"):
        measure(config, names, seeds=0, console=quiet())


def test_one_regime_is_measured_too(scenes: Path, tmp_path: Path) -> None:
    (found,) = measure(settings(scenes, tmp_path / "out"), ["crop:2x16"], console=quiet())
    assert found.regime.name == "crop:2x16"


def test_regimes_that_no_image_is_large_enough_for_are_refused_before_any_is_trained(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that comes last is refused at once, whatever it would have cost to come so far."""
    monkeypatch.setattr(_compare, "train", lambda *_, **__: pytest.fail("trained"))
    monkeypatch.setattr(_train, "measured", lambda *_, **__: pytest.fail("measured"))
    config = settings(scenes, tmp_path / "out")
    for run in (compare, measure):
        for last in ("crop:2x320", "patchwise:1x320"):
            with pytest.raises(BadConfigError, match=f"{last} needs images of at least 320 px"):
                run(config, ["whole", last], console=quiet())
        with pytest.raises(BadConfigError, match=r"sampled:0\.01 takes 100 images per step"):
            run(config, ["whole", "sampled:0.01"], console=quiet())
    assert not config.out.exists()


def test_a_finished_comparison_is_told_again_where_its_images_are_gone(
    scenes: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(scenes, data)
    config = settings(data, tmp_path / "out")
    found = compare(config, ["whole", "crop:2x16"], console=quiet())
    shutil.rmtree(data)
    assert compare(config, ["whole", "crop:2x16"], console=quiet()).verdict == found.verdict


@pytest.mark.parametrize("error", [MemoryError("no more"), RuntimeError("something else")])
def test_what_does_not_fit_to_be_measured_is_said(
    error: Exception, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(_auto, "_read", fails)
    short = isinstance(error, MemoryError)
    with pytest.raises(
        FullconvError if short else RuntimeError,
        match="`regimes` must fit into memory to be measured, got no more; name"
        if short
        else "else",
    ):
        measure(settings(scenes, tmp_path / "out"), ["whole", "crop:2x16"], console=quiet())


def test_what_takes_too_long_to_measure_is_said(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_train, "QUICK_S", 0.0)
    with pytest.raises(FullconvError, match="got no time for crop:2x16, whole"):
        measure(settings(scenes, tmp_path / "out"), ["whole", "crop:2x16"], console=quiet())
