"""What a machine makes of a rehearsal: gauge and pace by formula, small steps really made."""

from __future__ import annotations

import json
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fullconv as fc
from fullconv.execution._memory import keep_freed_memory
from fullconv.planning import Course, Manner, rehearse_step
from fullconv.planning import _measure as measuring
from fullconv.planning import _plan as planning_plan
from fullconv.planning import _small_steps as small_steps
from fullconv.planning._gauge import FACTOR_SPREAD, FLOOR, LOADED_BYTES, LOADED_SPREAD, NOISE, Gauge
from fullconv.planning._ledger import Block, Tick
from fullconv.planning._pace import Pace, fitted
from fullconv.tracing import hollow

MIB = 2**20


def course(standing: int, passing: int) -> Course:
    ticks = (Tick("aten.relu", "forward", "", scratch=0, flops=0, moved=0),)
    return Course(ticks, (Block(standing, -1, "parameters"), Block(passing, 0, "passing")))


def test_a_step_that_takes_what_was_expected_changes_nothing() -> None:
    gauge, run = Gauge.of("cpu"), course(10 * MIB, 200 * MIB)
    assert gauge.taken(run) == 210 * MIB + LOADED_BYTES["cpu"]
    found = gauge.seen(run, gauge.taken(run))
    assert (found.loaded, found.factor) == (gauge.loaded, gauge.factor)


def test_what_was_seen_is_known_better_and_more_is_usable() -> None:
    """Against the inverse of the summed inverse variances, in matrices."""
    gauge, run = Gauge.of("cpu"), course(10 * MIB, 200 * MIB)
    found = gauge.seen(run, gauge.taken(run)).seen(run, gauge.taken(run))
    before = np.diag([LOADED_SPREAD**2, FACTOR_SPREAD**2])
    row = np.array([[1.0, 200 * MIB]])
    after = np.linalg.inv(np.linalg.inv(before) + 2 * row.T @ row / NOISE**2)
    loaded, both, factor = found.spread
    np.testing.assert_allclose([[loaded, both], [both, factor]], after, rtol=1e-3)
    for memory in (100 * MIB, 5000 * MIB):
        usable = found.usable(memory)
        assert gauge.usable(memory) < usable < memory
        assert found.needed(usable) <= memory < found.needed(usable + 2)
    # Far from what was seen, less is known.
    near, far = (found.usable(memory) / memory for memory in (200 * MIB, 5000 * MIB))
    assert far < near < 1 / (1 + FLOOR)


@pytest.mark.parametrize("counted", [20 * MIB, 150 * MIB, 1000 * MIB])
@pytest.mark.parametrize("more", [-9 * MIB, 30 * MIB])
def test_what_a_step_took_besides_is_laid_to_both_by_their_spreads(counted: int, more: int) -> None:
    gauge, run = Gauge.of("cpu"), course(10 * MIB, counted)
    found = gauge.seen(run, gauge.taken(run) + more)
    by_factor, by_loaded = (found.factor - 1) * counted, found.loaded - gauge.loaded
    assert by_factor / by_loaded == pytest.approx(
        (FACTOR_SPREAD * counted / LOADED_SPREAD) ** 2, rel=1e-5
    )
    # All but what may be noise.
    spread = (FACTOR_SPREAD * counted) ** 2 + LOADED_SPREAD**2
    left = more * NOISE**2 / (spread + NOISE**2)
    assert gauge.taken(run) + more - found.taken(run) == pytest.approx(left, abs=2)


def test_a_gauge_is_good_for_other_sizes() -> None:
    """Of a machine that loads 31 MiB and takes 1.06 for each byte, seen once at 600 MiB."""
    small, large = course(10 * MIB, 600 * MIB), course(10 * MIB, 4000 * MIB)
    found = Gauge.of("cpu").seen(small, round((10 + 31 + 1.06 * 600) * MIB))
    assert found.taken(large) == pytest.approx((10 + 31 + 1.06 * 4000) * MIB, rel=0.005)


def test_nothing_is_loaded_where_nothing_is_known() -> None:
    assert Gauge.of("cuda") == Gauge(loaded=0)


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([(1e9, 0.15), (4e9, 0.45)], Pace(rate=1e-10, start=0.05)),
        ([(4e9, 0.45), (1e9, 0.15)], Pace(rate=1e-10, start=0.05)),
        ([(2e9, 0.4)], Pace(rate=2e-10, start=0.0)),
        ([(1e9, 0.5), (4e9, 0.4)], Pace(rate=1e-10, start=0.0)),  # the clock was disturbed
        ([(1e9, 0.01), (4e9, 0.4)], Pace(rate=1e-10, start=0.0)),
    ],
)
def test_a_pace_is_a_line_through_both_runs(
    runs: list[tuple[float, float]], expected: Pace
) -> None:
    found = fitted(runs)
    assert (found.rate, found.start) == pytest.approx((expected.rate, expected.start), abs=1e-12)


def test_seconds_go_with_operations_and_runs() -> None:
    assert Pace(rate=1e-9, start=0.01).seconds(3e9, runs=5) == pytest.approx(3.05)


def test_the_meter_sees_what_is_held_for_a_while() -> None:
    meter = small_steps.Meter(torch.device("cpu"))
    before = meter.now()
    meter.start()
    held = torch.ones(64 * MIB // 4)
    assert meter.now() - before >= 0.9 * held.nbytes
    del held
    assert meter.peak() - before >= 0.9 * 64 * MIB
    assert meter.now() - before < 0.5 * 64 * MIB
    meter.start()
    assert meter.peak() - before < 0.5 * 64 * MIB


def tiny() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))


def test_small_steps_are_made_with_numbers() -> None:
    with torch.device("meta"):
        net = tiny()
    numbered = small_steps.with_numbers(net, torch.device("cpu"))
    assert torch.isfinite(numbered(torch.rand(1, 3, 20, 20))).all()
    manner = Manner(precision="bf16", optimizer="sgd")
    found = small_steps.measure(tiny(), manner, torch.device("cpu"), [(2, (3, 30, 30))])
    assert found[0].seconds > 0
    assert found[0].peak_bytes >= found[0].before_bytes


def test_the_job_is_read_from_a_folder_and_the_answer_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = {"device": "cpu", "threads": torch.get_num_threads(), "shapes": [[1, [3, 24, 20]]]}
    (tmp_path / "job.json").write_text(json.dumps(job))
    torch.save((tiny(), Manner()), tmp_path / "net.pt")
    small_steps.main(tmp_path)
    (took,) = json.loads(capsys.readouterr().out)
    assert took.keys() == {"before_bytes", "peak_bytes", "seconds"}


def test_small_images_are_like_the_planned_one_and_none_is_larger() -> None:
    shapes = measuring.small_shapes(tiny(), (3, 2000, 500), Manner())
    assert [shape[0] for shape in shapes] == [3, 3]
    for shape, px in zip(shapes, measuring.SMALL_PX, strict=True):
        assert shape[1] * shape[2] == pytest.approx(px, rel=0.02)
        assert shape[1] / shape[2] == pytest.approx(4, rel=0.02)
    assert measuring.small_shapes(tiny(), (3, 40, 50), Manner()) == [(3, 40, 50)]


def test_images_that_are_small_themselves_are_measured_by_their_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, device = tiny(), torch.device("cpu")

    def took(*args: object) -> list[small_steps.Took]:
        assert args[-1] == [(4, (3, 40, 50)), (1, (3, 40, 50))]
        return [
            small_steps.Took(before_bytes=0, peak_bytes=30 * MIB, seconds=seconds)
            for seconds in (0.9, 0.3)
        ]

    monkeypatch.setattr(measuring, "steps_here", took)
    found = measuring.measured_here(net, (3, 40, 50), Manner(), device)
    assert found.pace.start == pytest.approx(0.1)
    assert found.pace.seconds(3 * measuring._work(net, (3, 40, 50)), 1) == pytest.approx(0.7)


def test_steps_made_here_leave_network_and_random_numbers_as_they_were() -> None:
    net, state = tiny(), torch.get_rng_state()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    (took,) = measuring.steps_here(net, Manner(), torch.device("cpu"), [(2, (3, 300, 300))], runs=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    saved = 2 * (8 + 8 + 8) * 298 * 298 * 4  # what the convolution, the norm and the ReLU keep
    assert took.peak_bytes - took.before_bytes > 0.8 * saved
    assert took.seconds > 0


class WithBuffer(nn.Conv2d):
    """Takes a row of a table of one row, and the inverse of a matrix."""

    def __init__(self) -> None:
        super().__init__(3, 3, 3)
        self.table = nn.Parameter(torch.zeros(1, 3))
        self.register_buffer("row", torch.zeros(1, dtype=torch.long))
        self.register_buffer("mixing", torch.eye(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed = torch.einsum("ij,bjhw->bihw", torch.linalg.inv(self.mixing), x)
        return super().forward(mixed) + self.table[self.row].view(1, 3, 1, 1)


def test_buffers_keep_their_numbers_and_are_not_trained() -> None:
    net = WithBuffer()
    (took,) = measuring.steps_here(net, Manner(), torch.device("cpu"), [(1, (3, 20, 20))])
    assert took.seconds > 0
    sent = small_steps.without_weights(net)
    assert all(weight.is_meta for weight in sent.parameters())
    numbered = small_steps.with_numbers(sent, torch.device("cpu"))
    assert torch.equal(numbered.mixing, net.mixing)
    numbered.mixing.zero_()
    assert torch.equal(net.mixing, torch.eye(3))


def test_tensors_that_modules_share_stay_shared() -> None:
    first, second, third = (nn.Conv2d(3, 3, 3) for _ in range(3))
    first.weight = second.weight = third.weight
    second.weight.requires_grad_(False)
    norms = [nn.BatchNorm2d(3), nn.BatchNorm2d(3)]
    norms[0].running_mean = norms[1].running_mean
    net = nn.Sequential(first, norms[0], second, norms[1], third)
    for sent in (net, small_steps.without_weights(net), hollow(net)):
        found = small_steps.with_numbers(sent, torch.device("cpu"))
        assert found[0].weight is found[2].weight is found[4].weight
        assert found[1].running_mean is found[3].running_mean
        assert [p.requires_grad for p in found.parameters()] == [
            p.requires_grad for p in net.parameters()
        ]


def tall() -> nn.Module:
    """Keeps a map of 64 channels for each of 12 layers."""
    return nn.Sequential(nn.Conv2d(3, 64, 1), *(nn.Tanh() for _ in range(12)), nn.Conv2d(64, 2, 1))


@pytest.mark.parametrize("limit", [160 * MIB, 260 * MIB, 700 * MIB, None])
def test_small_steps_stay_within_the_memory_that_there_is(
    limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, tuple[int, ...]]] = []

    def took(*args: object) -> list[small_steps.Took]:
        asked.extend(args[-1])  # pyright: ignore[reportArgumentType]
        return [small_steps.Took(before_bytes=0, peak_bytes=30 * MIB, seconds=0.9)] * len(asked)

    monkeypatch.setattr(measuring, "steps_here", took)
    measuring.measured_here(tall(), (3, 300, 300), Manner(), torch.device("cpu"), limit)
    kept = [images * 12 * 64 * prod(shape[1:]) * 4 for images, shape in asked]
    assert max(kept) <= (limit or measuring.MOST_BYTES)
    assert len(asked) == len(set(asked))
    if limit is None or limit > 300 * MIB:
        assert max(kept) > 150 * MIB


def test_nothing_is_measured_where_no_small_step_fits() -> None:
    with pytest.raises(fc.FullconvError, match=r"small enough to be tried, .* than 60 MiB"):
        measuring.measured_here(tall(), (3, 300, 300), Manner(), torch.device("cpu"), 60 * MIB)


def test_what_small_steps_took_is_given_back() -> None:
    keep_freed_memory()
    device = torch.device("cpu")
    meter = small_steps.Meter(device)
    measuring.steps_here(tall(), Manner(), device, [(1, (3, 20, 20))], runs=1)  # loads for good
    before = meter.now()
    (took,) = measuring.steps_here(tall(), Manner(), device, [(1, (3, 160, 160))], runs=1)
    assert took.peak_bytes - took.before_bytes > 70 * MIB
    assert meter.now() - before < 20 * MIB


def test_a_system_that_does_not_say_what_a_process_takes_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(*_: object) -> None:
        raise FileNotFoundError("no /proc here")

    monkeypatch.setattr(measuring, "measure", missing)
    with pytest.raises(fc.FullconvError, match=r"memory must be known .*, got no /proc here"):
        measuring.steps_here(tiny(), Manner(), torch.device("cpu"), [(1, (3, 9, 9))])


class Even(nn.Conv2d):
    """Takes multiples of 32 px only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not any(side % 32 for side in x.shape[-2:]), "sides must be multiples of 32"
        return super().forward(x)


def test_small_images_are_of_sizes_that_the_network_takes() -> None:
    found = measuring.small_shapes(Even(3, 2, 1), (3, 960, 640), Manner())
    assert not any(side % 32 for shape in found for side in shape[1:])


def test_a_gauge_is_measured_at_the_largest_small_step(monkeypatch: pytest.MonkeyPatch) -> None:
    net, asked = tiny(), []

    def took(*args: object) -> list[small_steps.Took]:
        asked.append(args[-1])
        return [
            small_steps.Took(before_bytes=100 * MIB, peak_bytes=peak * MIB, seconds=seconds)
            for peak, seconds in ((190, 0.4), (150, 0.1))
        ]

    monkeypatch.setattr(measuring, "_in_a_process", took)
    found = measuring.measured(net, (3, 500, 500), Manner())
    ((images, first), (one, second)) = asked[0]
    assert (images, one) == (4, 1)
    assert first[1] > second[1]
    small = rehearse_step(net, first, batch=images).course
    assert found.measured
    assert found.taken(small) == pytest.approx(90 * MIB, rel=0.02)
    assert found.pace.rate > 0


def test_a_network_that_cannot_be_sent_to_another_process_is_refused() -> None:
    class Here(nn.Conv2d):
        pass

    said = (
        r"`net` must run in a process of its own to be measured, got a Here that does not: .*Here"
    )
    with pytest.raises(fc.FullconvError, match=said):
        measuring.measured(Here(3, 2, 1), (3, 64, 64), Manner())


def test_a_plan_goes_without_small_steps_that_cannot_be_made_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = nn.Conv2d(3, 2, 3, padding=1)
    net.own = lambda x: x  # pyright: ignore[reportArgumentType] (no other process can be given it)
    plain = fc.plan(net, (3, 80, 80), memory="1 GiB")
    found = fc.plan(net, (3, 80, 80), memory="1 GiB", measure=True)
    assert replace(found, unmeasured="") == plain
    assert "no small step was measured: `net` must run in a process of its own" in str(found)
    assert str(found).splitlines()[-1] == plain.recommendation
    monkeypatch.setattr(planning_plan, "free_bytes", lambda _: 60 * MIB)
    few = fc.plan(tall(), (3, 300, 300), memory="1 GiB", measure=True)
    assert "whose smallest step would take more than 60 MiB" in few.unmeasured
    assert not few.measured


def test_small_steps_that_take_too_long_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "SECONDS", 0.01)
    with pytest.raises(
        fc.FullconvError, match=r"got a Conv2d that does not: .*timed out after 0.01"
    ):
        measuring.measured(nn.Conv2d(3, 2, 1), (3, 64, 64), Manner())


def test_images_that_are_never_small_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "MOST_BYTES", 2**20)
    with pytest.raises(fc.FullconvError, match=r"small enough to be tried, got one .* than 1 MiB"):
        measuring.measured(tiny(), (3, 640, 640), Manner())


@pytest.mark.slow
def test_a_plan_is_calibrated_by_steps_in_a_process_of_their_own() -> None:
    net = fc.networks.build("unet", classes=2, width=8, depth=2)
    found = fc.plan(net, (3, 256, 256), memory="2 GiB", measure=True)
    assert found.measured
    assert found.error < Gauge.of("cpu").error
    plain = fc.plan(net, (3, 256, 256), memory="2 GiB")
    assert found.peak_bytes == pytest.approx(plain.peak_bytes, rel=0.3)
    assert found.regime("whole").seconds != plain.regime("whole").seconds


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_steps_are_made_on_images_of_the_type_of_the_weights(dtype: torch.dtype) -> None:
    net = nn.Conv2d(3, 2, 3).to(dtype)
    (took,) = measuring.steps_here(net, Manner(), torch.device("cpu"), [(1, (3, 64, 64))])
    assert took.seconds > 0
