"""`--batch auto`: what is chosen and why, and that a run is then like one that is told the number."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from fullconv.comparing import compare, fitting
from fullconv.errors import BadConfigError, FullconvError
from fullconv.images import open_dataset, survey
from fullconv.planning import Course, Gauge, Took
from fullconv.planning._pace import Pace
from fullconv.training import TrainConfig, _batch, _room, train
from fullconv.training._batch import Batch, batch_for
from fullconv.training._job import job_for, recipe_for
from fullconv.training._room import Room

LOCAL = {"width": 4, "depth": 1, "norm": "none", "stem": 1}
NOTHING = Course((), ())


class Known:
    """Steps of 100 bytes, and 10 for each image, where 200 are left, less 2 for each.

    To start one takes as long as `start` images.
    """

    def __init__(self, start: float, *, measured: bool = True, why: str = "") -> None:
        pace = Pace(rate=1e-3, start=start)
        self.gauge, self.why = replace(Gauge.of(""), pace=pace, measured=measured), why

    def of(self, images: int, small_px: int | None = None) -> Room:
        assert small_px == 0  # small steps are counted too
        took = Took(before_bytes=7, peak_bytes=107 + 10 * images, seconds=1.0)
        course = None if self.why else NOTHING
        return Room(
            images=images, shape=(3, 9, 9), left=200 - 2 * images, course=course, gauge=self.gauge,
            made=took, work=1e3 * images, why=self.why,
        )  # fmt: skip


def chosen(
    known: Known, count: int, images_of: Callable[[int], int] = lambda batch: batch
) -> Batch:
    return batch_for(known, count, images_of)  # pyright: ignore[reportArgumentType]


def test_it_is_the_most_that_fit_where_starting_takes_long() -> None:
    # 100 + 10 n <= 200 - 2 n: 8, by what is held of the images too.
    assert chosen(Known(10.0), 1000) == Batch(images=8, why="no more fit into 198 B")


def test_it_is_no_more_than_what_makes_steps_faster() -> None:
    # Starting takes 0.2 images' time: 5 % of it from 0.2 * 19 = 3.8 images on.
    found = chosen(Known(0.2), 1000)
    assert found.images == 4
    assert found.why == "larger steps are no faster for each image; 8 would fit"
    assert chosen(Known(10.0, measured=False), 1000).images == 1


def test_an_epoch_keeps_some_steps() -> None:
    found = chosen(Known(10.0), 17)
    assert found == Batch(images=2, why="an epoch has 9 steps then; 8 would fit")
    assert chosen(Known(10.0), 3).images == 1


def test_one_image_is_not_told_to_be_all_that_fits() -> None:
    assert chosen(Known(10.0), 1) == Batch(images=1, why="there is 1 image")
    assert chosen(Known(0.2), 1) == Batch(images=1, why="there is 1 image")


def test_samplers_that_take_more_images_leave_room_for_fewer() -> None:
    assert chosen(Known(10.0), 1000, lambda batch: 4 * batch).images == 2
    assert chosen(Known(10.0), 30, lambda batch: 10 * batch).images == 1  # 3 at most by steps


def test_a_step_takes_no_more_images_than_there_are() -> None:
    assert _batch._most(24, lambda batch: 8 * batch) == 3
    assert _batch._most(24, lambda batch: 9 * batch) == 2
    assert _batch._most(24, lambda batch: 99 * batch) == 1


def test_steps_that_cannot_be_planned_are_of_one_image() -> None:
    found = chosen(Known(1.0, why="`net` asks for values"), 1000)
    assert found.images == 1
    assert "cannot be planned: `net` asks for values" in found.why


def trained(config: TrainConfig, said: io.StringIO) -> dict[str, torch.Tensor]:
    return load_file(train(config, console=Console(file=said, width=300)).last)


def test_a_run_is_the_same_as_one_that_is_told_the_number(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_batch, "STEPS", 2)
    slow = replace(Gauge.of(""), pace=Pace(rate=1e-12, start=9.0), measured=True)
    monkeypatch.setattr(_room, "measured_here", lambda *_: slow)
    said = io.StringIO()
    auto = TrainConfig(
        data=scenes, out=tmp_path / "auto", epochs=1, workers=0, batch="auto", sampling="whole",
        options=LOCAL,
    )  # fmt: skip
    found = trained(auto, said)
    noted = TrainConfig.from_dict(train(resume=auto.out, config=replace(auto, batch=3, epochs=2),
                                        console=Console(file=said)).config())  # fmt: skip
    assert noted.batch == 3  # of 7 training images
    assert "batch 3: an epoch has 3 steps then; 7 would fit" in said.getvalue()
    told = trained(replace(auto, out=tmp_path / "told", batch=3), said)
    assert all(torch.equal(found[name], told[name]) for name in told)


def test_sub_images_are_counted_by_their_sampling(scenes: Path, tmp_path: Path) -> None:
    said = io.StringIO()
    config = TrainConfig(
        data=scenes, out=tmp_path / "run", epochs=1, workers=0, batch="auto", sampling="crop:2x16",
        options=LOCAL,
    )  # fmt: skip
    trained(config, said)
    assert "batch 1: `sampling` = crop:2x16 counts what steps have" in said.getvalue()


def test_regimes_are_compared_at_one_number(scenes: Path, tmp_path: Path) -> None:
    config = TrainConfig(data=scenes, out=tmp_path, batch="auto")
    for run in (lambda: compare(config, ["whole", "hard:0.5"]), lambda: fitting(config)):
        with pytest.raises(BadConfigError, match="`batch` must be a whole number to compare"):
            run()


def test_a_step_is_made_before_the_run_and_cut_where_it_took_too_much(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_room, "SMALL_PX", 0)
    said = io.StringIO()
    config = TrainConfig(
        data=scenes, out=tmp_path / "fits", epochs=1, workers=0, batch=2, sampling="whole",
        options=LOCAL,
    )  # fmt: skip
    whole = train(config, console=Console(file=said, width=300))
    assert "a step over 2 images of 40 x 52 px takes " in said.getvalue()
    assert "s, measured" in said.getvalue()
    assert "windows" not in said.getvalue()
    step = whole.memory()["step"]
    assert step["measured"]
    assert 0 < step["seconds"] < 5
    steps: list[object] = []

    def much(*args: object, **settings: object) -> list[Took]:
        steps.append((args[-1], settings))
        return [Took(before_bytes=0, peak_bytes=2**60, seconds=0.1)]

    monkeypatch.setattr(_room, "steps_here", much)
    monkeypatch.setattr(_room, "left_now", lambda *_: 10 * step["step_bytes"] + 2**26)
    train(replace(config, out=tmp_path / "cut"), console=Console(file=said, width=300))
    assert steps == [([(2, (3, 40, 52))], {"runs": 1})]
    assert "steps are cut into windows: uncut, they take more than" in said.getvalue()


@pytest.mark.parametrize("name", ["measured_here", "steps_here"])
@pytest.mark.parametrize("error", [FullconvError("no\nmore"), IndexError("no"), MemoryError("no")])
def test_what_cannot_be_measured_stays_unknown_and_is_told(
    name: str, error: Exception, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    known = replace(Gauge.of(""), measured=True)
    monkeypatch.setattr(_room, "SMALL_PX", 0)
    monkeypatch.setattr(_room, "measured_here", lambda *_: known)
    monkeypatch.setattr(_room, name, fail)
    config = TrainConfig(data=scenes, out=tmp_path / "run", sampling="whole", options=LOCAL)
    dataset, said = open_dataset(scenes), io.StringIO()
    facts = survey(dataset)
    console = Console(file=said, width=300)
    job = job_for(config, recipe_for(config, facts), dataset, facts, console)
    assert job.room.course is not None
    assert job.room.made is None
    assert said.getvalue().splitlines()[0] == "no step is measured before the run: no"
