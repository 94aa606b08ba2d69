"""Costs against counts by hand, and against what autograd really keeps."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fullconv as fc
from fullconv.execution._cost import (
    PASS,
    WORKSPACE,
    Polynomial,
    costs_of,
    kept_bytes,
    multiplications,
)
from fullconv.execution._planner import Planner
from fullconv.execution._speed import SECONDS, START, Speed
from fullconv.tracing import record

from .test_step_loss import Skip


def test_multiplications_are_those_of_the_formula() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=2), nn.Conv2d(8, 8, 3, padding=1, groups=4),
        nn.ConvTranspose2d(8, 4, 4, stride=2),
    )  # fmt: skip
    program = record(net, 3, (33, 21))
    assert multiplications(program) == (
        15 * 9 * 8 * 3 * 25 + 15 * 9 * 8 * 2 * 9 + 15 * 9 * 8 * 4 * 16
    )


def test_costs_at_any_size_are_those_of_recording_that_size() -> None:
    net = Skip(2).eval()
    costs = costs_of(net, 2, fc.trace(net, 2))
    for shape in [(24, 100), (64, 64), (400, 36)]:
        program = record(net, 2, shape)
        made = sum(np.prod(out.shape) for call in program.calls for out in call.outputs) / 2
        expected = 2 * multiplications(program) + PASS * made
        assert float(costs.operations(shape)) == pytest.approx(expected, rel=1e-9)
        kept = kept_bytes(net, 2, shape, program)
        assert float(costs.kept_bytes(shape)) == pytest.approx(kept, rel=1e-9)
        assert float(costs.training_bytes(shape)) >= WORKSPACE * kept * (1 - 1e-9)


def test_kept_bytes_are_those_of_the_storages_that_autograd_saves() -> None:
    net = Skip(2).train()
    image = torch.randn(1, 2, 40, 48)
    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        output = net(image)
    saved[output.untyped_storage().data_ptr()] = output.untyped_storage().nbytes()
    assert kept_bytes(net, 2, (40, 48), record(net, 2, (40, 48))) == sum(saved.values())


def test_a_polynomial_is_exact_between_and_beyond_its_corners() -> None:
    def value(h: float, w: float) -> float:
        return 3 + 2 * h + 5 * w + 7 * h * w

    corners = np.array([[value(h, w) for w in (20, 60)] for h in (10, 30)])
    polynomial = Polynomial((10, 20), (30, 60), corners)
    assert float(polynomial((17, 33))) == pytest.approx(value(17, 33))
    found = polynomial([np.array([[5, 100]]), np.array([[200, 1]])])
    assert found.tolist() == [[pytest.approx(value(5, 200)), pytest.approx(value(100, 1))]]


def test_speed_finds_the_line_through_its_measurements() -> None:
    speed = Speed()
    assert (speed.rate, speed.start) == (SECONDS, START)
    for operations in (1e9, 4e9, 2e9, 8e9):
        speed.measured(operations, 0.02 + 3e-11 * operations)
    assert speed.rate == pytest.approx(3e-11)
    assert speed.start == pytest.approx(0.02)


def test_speed_keeps_to_a_share_where_all_runs_are_alike() -> None:
    speed = Speed()
    for _ in range(5):
        speed.measured(1e9, 0.1)
    assert speed.seconds(1e9) == pytest.approx(0.1, rel=0.3)
    assert speed.start > 0


class SlowBack(nn.Conv2d):
    """A convolution whose backward pass sleeps."""

    def forward(self, input: Tensor) -> Tensor:
        found = super().forward(input)
        if found.requires_grad:

            def wait(_: Tensor) -> None:
                time.sleep(0.1)

            found.register_hook(wait)
        return found


def test_a_step_over_one_window_is_timed_to_the_end_of_its_backward_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = SlowBack(1, 2, 3, padding=1)
    step = fc.StepLoss(net, nn.CrossEntropyLoss(reduction="none"))
    image, labels = torch.rand(1, 8, 9), torch.zeros(8, 9).long()
    step([image], [labels], [torch.ones(8, 9) > 0]).backward()  # costs are known from here on
    notes: list[float] = []

    def note(planner: Planner, channels: int, sides: Any, count: int, seconds: float) -> None:
        del planner, channels, sides, count
        notes.append(seconds)

    monkeypatch.setattr(Planner, "note", note)
    with torch.no_grad():
        step([image], [labels])
    loss = step([image], [labels])
    assert notes == []
    loss.backward()
    assert len(notes) == 1
    assert notes[0] >= 0.1
