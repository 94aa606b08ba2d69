"""Choosing the sampling: readings against closed formulas, the choice, and the turn to whole images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from fullconv.execution import StepLoss
from fullconv.images import open_dataset, survey
from fullconv.runs import Run
from fullconv.training import TrainConfig, _auto, criterion, train
from fullconv.training._auto import Choice, candidates, choose
from fullconv.training._data import ImageData
from fullconv.training._module import Segmentation
from fullconv.training._noise import Reading, lasting, pooled, read
from fullconv.training._order import Cuts, Order, Turning
from fullconv.training._regime import Regime, regime


class Known(nn.Module):
    """A step whose gradient is its images' mean: signal and noise are those of the images."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))

    def step(self, groups: list[tuple[Tensor, Tensor]], place: tuple[int, ...]) -> Tensor:
        del place
        return (self.weight * groups[0][0].mean((0, 2, 3))).sum()


def test_signal_and_noise_are_estimated_without_bias() -> None:
    draw = torch.Generator().manual_seed(0)
    mean = torch.tensor([3.0, -1.0, 0.5], dtype=torch.float64)
    known, signals, noises = Known(), [], []
    for _ in range(400):
        steps = [
            [
                (
                    (mean + torch.randn(3, generator=draw).double()).view(1, 3, 1, 1),
                    torch.zeros(1, 1, 1),
                )
            ]
            for _ in range(4)
        ]
        reading = read(known.step, known, regime("whole"), steps)  # pyright: ignore[reportArgumentType]
        signals.append(reading.signal)
        noises.append(reading.noise)
    assert torch.tensor(signals).mean().item() == pytest.approx(
        float(mean.square().sum()), rel=0.05
    )
    assert torch.tensor(noises).mean().item() == pytest.approx(3.0, rel=0.1)


def reading(
    name: str, seconds: float, noise: float, signal: float = 1.0, steps: int = 4
) -> Reading:
    return Reading(regime=regime(name), seconds=seconds, signal=signal, noise=noise, steps=steps)


def test_worth_falls_with_seconds_and_noise() -> None:
    small, large = reading("crop:1x256", 0.1, 4.0), reading("whole", 1.0, 0.1)
    assert small.worth == pytest.approx(0.2 / 0.1)
    assert large.worth == pytest.approx(1 / 1.1)
    # Late in training noise is all there is: then the larger step pays.
    assert reading("crop:1x256", 0.1, 4000.0).worth < reading("whole", 1.0, 100.0).worth


def test_regimes_agree_on_the_signal_that_all_their_steps_tell() -> None:
    crops = reading("crop:1x256", 0.1, 4.0, signal=2.0, steps=3)  # 6 pairs of steps
    whole = reading("whole", 1.0, 0.5, signal=1.0, steps=2)  # 2 pairs
    hard = reading("hard:0.25", 1.0, 1.0, signal=9.0)  # a gradient of its own
    agreed = pooled([crops, whole, hard])
    assert [r.signal for r in agreed] == pytest.approx([1.75, 1.75, 9.0])
    assert [r.noise for r in agreed] == pytest.approx([4.25, 0.0, 1.0])
    assert [r.signal for r in lasting(agreed)] == pytest.approx([0.175, 0.175, 0.9])
    assert [r.noise for r in lasting(agreed)] == [r.noise for r in agreed]


def test_signals_that_a_few_steps_cannot_tell_leave_the_order_to_noise_and_seconds() -> None:
    lost = [reading("crop:4x256", 0.2, 3.0, signal=-1.0), reading("whole", 0.3, 5.5, signal=-0.5)]
    crops, whole = pooled(lost)
    assert crops.signal == whole.signal == pytest.approx(0.02 * 2.0)
    assert crops.worth / whole.worth == pytest.approx(0.3 * 5.0 / (0.2 * 2.0))


def test_regimes_are_compared_for_the_network_as_it_is_now(scenes: Path) -> None:
    dataset = open_dataset(scenes)
    data = ImageData(dataset, survey(dataset), workers=0)
    data.setup()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1))
    module = Segmentation(net.train(), 4)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = _auto.compared(module, data, [regime("crop:1x16"), regime("whole")], within=60)
    assert [one.regime.name for one in found] == ["crop:1x16", "whole"]
    assert all(one.signal > 0 and one.seconds > 0 for one in found)
    assert [one.steps for one in found] == [_auto.DRAWS, _auto.WHOLE_DRAWS]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_steps_that_would_take_longer_than_there_is_time_are_not_made(
    scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(scenes)
    data = ImageData(dataset, survey(dataset), workers=0)
    data.setup()
    made: list[str] = []

    def known(*args: Any, **_: Any) -> Reading:
        one: Regime = args[2]
        made.append(one.name)
        return reading(one.name, 1.0, 4.0, signal=1.0 if one.cut else 3.0)

    monkeypatch.setattr(_auto, "read", known)
    module = Segmentation(nn.Sequential(nn.Conv2d(3, 4, 1)), 4)
    regimes = [regime("crop:1x16"), regime("whole")]
    ratio = data.step_px(regimes[1]) / data.step_px(regimes[0])
    for within, names in ((1.9 * ratio, ["crop:1x16"]), (2.1 * ratio, ["crop:1x16", "whole"])):
        assert [
            r.regime.name for r in _auto.compared(module, data, regimes, within=within)
        ] == names
        made.clear()
        choice = choose(module.net, module.criterion, data, regimes, within=within)
        assert made == names
        assert choice.ending
        # All tell one signal, of which a tenth lasts.
        shared = 0.1 * (1.0 if len(names) == 1 else 2.0)
        assert [r.signal for r in choice.readings] == pytest.approx([shared] * len(names))


def test_a_regime_is_read_from_two_steps_where_there_is_no_more_time() -> None:
    known = Known()
    steps = [[(torch.rand(1, 3, 1, 1).double(), torch.zeros(1, 1, 1))] for _ in range(4)]
    assert read(known.step, known, regime("whole"), steps, until=0.0).steps == 2  # pyright: ignore[reportArgumentType]
    assert read(known.step, known, regime("whole"), steps).steps == 4  # pyright: ignore[reportArgumentType]


def test_whole_images_that_neither_fit_nor_may_be_cut_are_not_what_a_run_ends_on(
    scenes: Path,
) -> None:
    dataset = open_dataset(scenes)
    data = ImageData(dataset, survey(dataset), workers=0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1))
    regimes = [regime("crop:1x16"), regime("whole")]
    few, many = (
        choose(net, criterion("cross-entropy"), data, regimes, within=60, memory=memory)
        for memory in (100_000, 10_000_000)
    )
    assert [one.regime.name for one in few.readings] == ["crop:1x16"]
    assert (few.ending, many.ending) == (False, True)
    assert few.to_json()["ends_on_whole"] is False


def test_the_reason_says_numbers() -> None:
    readings = (reading("crop:1x256", 0.1, 4.0), reading("whole", 1.0, 0.1))
    choice = Choice(regime=readings[0].regime, readings=readings, ending=True)
    assert choice.why == ("crop:1x256: 0.10 s per step; gradient signal per second 2.2 times whole")
    assert choice.to_json()["readings"][1]["sampling"] == "whole"
    assert "no time to measure" in Choice(regime=regime("whole"), readings=(), ending=True).why


def test_sub_images_that_are_most_of_an_image_are_no_candidates(scenes: Path) -> None:
    dataset = open_dataset(scenes)
    facts = survey(dataset)
    assert [r.name for r in candidates(ImageData(dataset, facts), 1)] == ["whole"]
    large = replace(facts, shapes=dict.fromkeys(facts.shapes, (400, 400)))
    found = [r.name for r in candidates(ImageData(dataset, large), 1)]
    assert found == ["crop:4x256", "whole"]


def plain(*widths: int) -> nn.Sequential:
    """A network without norms: each layer but the last adds 2 px to the field."""
    pairs = zip((3, *widths), widths, strict=False)
    return nn.Sequential(
        *(nn.Conv2d(a, b, 3, padding=1) for a, b in pairs), nn.Conv2d(widths[-1], 2, 1)
    )


def test_windows_with_the_image_around_are_tried_where_they_read_little_more(scenes: Path) -> None:
    dataset = open_dataset(scenes)
    facts = survey(dataset)
    data = ImageData(dataset, replace(facts, shapes=dict.fromkeys(facts.shapes, (600, 700))))
    crops = regime("crop:4x256")
    assert [r.name for r in _auto.windows(plain(8, 8), data, crops)] == ["patchwise:4x256"]
    # A field of 31 px reads (286 / 256) ** 2 = 1.25 times the px, one of 33 px more.
    assert _auto.windows(plain(*[2] * 15), data, crops)
    assert not _auto.windows(plain(*[2] * 16), data, crops)
    norm = nn.Sequential(plain(8), nn.BatchNorm2d(2))
    assert not _auto.windows(norm.train(), data, crops)
    assert _auto.windows(norm.eval(), data, crops)


@pytest.mark.parametrize(
    ("seconds", "best"), [(0.108, "patchwise:4x64"), (0.12, "crop:4x64"), (0.09, "patchwise:4x64")]
)
def test_windows_are_taken_where_they_buy_nearly_as_much_as_crops(
    seconds: float, best: str
) -> None:
    seen = [reading("crop:4x64", 0.1, 4.0), reading("patchwise:4x64", seconds, 4.0)]
    assert _auto._best(seen).name == best
    choice = Choice(regime=_auto._best(seen), readings=tuple(seen), ending=True)
    assert choice.why.startswith(best)
    # Whole images see all there is anyway.
    assert _auto._best([*seen, reading("whole", 0.09, 4.0)]).name in {"whole", "patchwise:4x64"}
    assert _auto._best([*seen, reading("whole", 0.01, 4.0)]).name == "whole"


def orders() -> tuple[Cuts, Order]:
    return Cuts([(40, 40)] * 5, count=2, size=10, seed=0), Order(range(5), batch=2, seed=0)


def test_steps_are_cuts_before_the_turn_and_whole_images_after_it() -> None:
    cuts, whole = orders()
    turning = Turning(*orders())
    assert len(turning) == len(cuts)
    steps = iter(turning)
    before = [next(steps) for _ in range(7)]
    assert before == list(cuts)[:7]
    turning.turn(7)
    after = [next(steps) for _ in range(8)]
    expected = list(whole)
    whole.set_epoch(1)
    expected += list(whole)
    whole.set_epoch(2)
    assert after == (expected + list(whole))[:8]


def test_a_turned_order_goes_on_behind_a_step() -> None:
    turning = Turning(*orders())
    steps = iter(turning)
    for _ in range(3):
        next(steps)
    turning.turn(3)
    later = [next(steps) for _ in range(9)][4:]
    resumed = Turning(*orders())
    resumed.turned_at = 3
    resumed.start_after(3 + 4)
    assert [keys for keys, _ in zip(resumed, range(5), strict=False)] == later


def large_scenes(root: Path) -> Path:
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for n in range(5):
        mask = np.kron(draw.integers(0, 2, (6, 6)), np.ones((50, 50))).astype(np.uint8)
        noise = draw.integers(0, 60, (300, 300, 3))
        Image.fromarray((mask[..., None] * 120 + noise).astype(np.uint8)).save(
            root / f"images/{n}.png"
        )
        Image.fromarray(mask).save(root / f"masks/{n}.png")
    return root


def trained(config: TrainConfig, resume: Path | None = None) -> Run:
    return train(config, resume=resume, console=Console(file=io.StringIO()))


@pytest.mark.parametrize("pays", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_run_chooses_turns_where_it_pays_and_resumes_with_its_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pays: bool
) -> None:
    monkeypatch.setattr(_auto, "CANDIDATES", ("crop:2x64", "crop:4x64"))
    asked: list[str] = []

    def compared(*args: Any, **_: Any) -> list[Reading]:
        regimes: Sequence[Regime] = args[2]
        asked.extend(one.name for one in regimes)
        return [reading("crop:2x64", 0.1, 4.0), reading("whole", 0.01 if pays else 1.0, 4.0)]

    monkeypatch.setattr(_auto, "compared", compared)
    config = TrainConfig(
        data=large_scenes(tmp_path / "data"), out=tmp_path / "run", epochs=3, workers=0,
        options={"width": 4, "depth": 2},
    )  # fmt: skip
    assert config.sampling == "auto"
    run = trained(config)
    chosen = run.sampling()
    assert {r["sampling"] for r in chosen["readings"]} == {"crop:2x64", "crop:4x64"}
    images = [row["images"] for row in run.steps()]
    per_step = [b - a for a, b in zip([0, *images], images, strict=False)]
    assert per_step[0] == {"crop:2x64": 2, "crop:4x64": 4}[chosen["sampling"]]
    assert asked == [chosen["sampling"], "whole"]
    assert (per_step[-1] == 1) == pays  # whole images at the end
    more = trained(replace(config, epochs=4), resume=run.path)
    assert more.sampling() == chosen


def test_a_run_by_windows_takes_all_units_once_it_has_turned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_auto, "CANDIDATES", ("crop:4x64", "whole"))
    monkeypatch.setattr(_auto, "NEARLY", 0.0)
    monkeypatch.setattr(_auto, "MOST_READ", 99.0)

    def best(seen: Sequence[Reading]) -> Regime:
        return next(r.regime for r in seen if r.regime.sampler)

    monkeypatch.setattr(_auto, "_best", best)
    monkeypatch.setattr(
        _auto, "compared",
        lambda *_, **__: [reading("patchwise:4x64", 0.1, 4.0), reading("whole", 0.01, 4.0)],
    )  # fmt: skip
    counted: list[int] = []
    each = StepLoss.forward

    def forward(self: StepLoss, images: Any, targets: Any, units: Any = None) -> Tensor:
        counted.append(sum(box.size for boxes in units for box in boxes))
        return each(self, images, targets, units)

    config = TrainConfig(
        data=large_scenes(tmp_path / "data"), out=tmp_path / "run", epochs=8, workers=0,
        options={"width": 4, "depth": 1, "norm": "none"},
    )  # fmt: skip
    monkeypatch.setattr(StepLoss, "forward", forward)
    run = trained(config)
    assert run.sampling()["sampling"] == "patchwise:4x64"
    assert "patchwise:4x64" in {r["sampling"] for r in run.sampling()["readings"]}
    images = [row["images"] for row in run.steps()]
    per_step = [b - a for a, b in zip([0, *images], images, strict=False)]
    assert per_step[-1] == 1
    assert counted == [4 * 64**2] * (_auto.WHOLE_DRAWS + per_step.count(4))
    # A run that goes on behind its turn never chooses units again.
    counted.clear()
    trained(replace(config, epochs=9), resume=run.path)
    assert not counted


def test_regimes_of_one_step_per_epoch_are_read_from_several_epochs(scenes: Path) -> None:
    dataset = open_dataset(scenes)
    data = ImageData(dataset, survey(dataset), batch=100, workers=0)
    data.setup()
    assert data.steps_per_epoch == 1
    drawn = data.draw(regime("whole", batch=100), 3)
    assert len(drawn) == 3
    assert not torch.equal(drawn[0][0][0], drawn[1][0][0])
