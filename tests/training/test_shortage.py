"""Steps that run out of memory: made again in smaller windows, with the same result."""

from __future__ import annotations

import io
import json
import re
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor, nn

from fullconv.errors import BadConfigError, FullconvError, NotLocalError
from fullconv.runs import Run
from fullconv.training import TrainConfig, _auto, _module, _step, criterion, train
from fullconv.training._shortage import is_shortage, patiently
from fullconv.training._step import Step

SAID = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you "
    "tried to allocate 8589934592 bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError(SAID), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"), True),
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB"), True),
        (RuntimeError("shape '[2]' is invalid"), False),
        (ValueError("out of memory"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_a_shortage_is_told_from_other_errors(error: BaseException, expected: bool) -> None:
    assert is_shortage(error) is expected


def test_a_real_allocation_that_fails_is_a_shortage() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**62, dtype=torch.uint8)
    assert is_shortage(caught.value)


def test_a_run_is_made_again_with_the_same_random_numbers() -> None:
    drawn: list[Tensor] = []
    room: list[str] = []

    def run() -> str:
        drawn.append(torch.rand(3))
        if len(drawn) < 3:
            raise RuntimeError(SAID)
        return "done"

    assert patiently(run, room.append) == "done"
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])
    assert room == [SAID, SAID]
    with pytest.raises(ValueError, match="another"):
        patiently(lambda: (_ for _ in ()).throw(ValueError("another")), room.append)


PLAIN = Step.__call__


class Failing:
    """A step's loss that fails at some calls, in forward or in backward."""

    def __init__(self, *calls: int, backward: bool = False) -> None:
        self.calls, self.backward, self.count = calls, backward, 0

    def as_method(self) -> Any:
        def call(*args: Any) -> Tensor:
            return self.run(*args)

        return call

    def run(self, step: Step, *args: Any) -> Tensor:
        self.count += 1
        if self.count not in self.calls:
            return PLAIN(step, *args)
        if not self.backward:
            raise RuntimeError(SAID)
        loss = PLAIN(step, *args)
        loss.register_hook(self.fail)
        return loss

    def fail(self, _: Tensor) -> None:
        raise RuntimeError(SAID)


def trained(
    data: Path, out: Path, said: io.StringIO | None = None, **settings: Any
) -> dict[str, Tensor]:
    config = TrainConfig(
        data=data, out=out, epochs=2, workers=0, batch=2,
        **({"sampling": "whole", "options": {"width": 4, "depth": 1, "norm": "none", "stem": 1}} | settings),
    )  # fmt: skip
    run = train(config, console=Console(file=said or io.StringIO(), width=300))
    return load_file(run.last)


@pytest.mark.parametrize(
    ("backward", "settings"),
    [(False, {}), (True, {}), (False, {"loss": "dice"}), (True, {"sampling": "patchwise:20"})],
    ids=str,
)
def test_a_run_goes_on_from_the_same_step_with_the_same_result(
    backward: bool,
    settings: dict[str, Any],
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calm, failing = Failing(), Failing(3, backward=backward)
    monkeypatch.setattr(Step, "__call__", calm.as_method())
    expected = trained(scenes, tmp_path / "plain", **settings)
    monkeypatch.setattr(Step, "__call__", failing.as_method())
    said = io.StringIO()
    found = trained(scenes, tmp_path / "failing", said, **settings)
    assert "step 3 ran out of memory: it goes on in windows that take" in said.getvalue()
    assert failing.count == calm.count + 1
    for name, weights in expected.items():
        torch.testing.assert_close(found[name], weights, rtol=2e-3, atol=2e-5)


def test_a_step_that_cannot_be_cut_says_why(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing(2)
    monkeypatch.setattr(Step, "__call__", failing.as_method())
    said = r"step 2 ran out of memory, and cannot be cut .*BatchNorm.*`--batch`.*can't allocate"
    with pytest.raises(FullconvError, match=said):
        trained(scenes, tmp_path / "run", options={"width": 4, "depth": 1})


def test_a_validation_that_runs_out_of_memory_goes_on_in_windows(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"options": {"width": 4, "depth": 1, "stem": 1}}  # BatchNorm: steps cannot be cut
    expected = trained(scenes, tmp_path / "plain", **settings)
    plain, calls = _step.logits_of, [0]

    def failing(net: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        calls[0] += not torch.is_grad_enabled()
        if calls[0] == 2 and not torch.is_grad_enabled():
            raise RuntimeError(SAID)
        return plain(net, images, targets)

    monkeypatch.setattr(_step, "logits_of", failing)
    said = io.StringIO()
    found = trained(scenes, tmp_path / "failing", said, **settings)
    assert re.search(r"the validation behind step \d+ ran out of memory: it goes", said.getvalue())
    assert all(torch.equal(found[name], weights) for name, weights in expected.items())
    rows, others = (list(Run.open(tmp_path / n).validation()) for n in ("plain", "failing"))
    assert [r["mean_iu"] for r in rows] == pytest.approx([r["mean_iu"] for r in others])
    # What cannot be cut says so.
    module = _module.Segmentation(nn.Sequential(nn.Conv2d(3, 2, 1), nn.Softmax(2)), classes=2)
    module.trainer = Namespace(global_step=7)  # pyright: ignore[reportAttributeAccessIssue]
    group = torch.rand(1, 3, 20, 20), torch.zeros(1, 20, 20).long()
    with pytest.raises(FullconvError, match=r"validation behind step 7 ran out.*Softmax.*enough"):
        module._make_room_to_see(group, "not enough memory")


@pytest.mark.parametrize("call", [1, 20])
def test_a_regime_that_runs_out_of_memory_is_left_out(
    call: int, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_auto, "CANDIDATES", ("crop:2x16", "whole"))
    failing = Failing(call)
    monkeypatch.setattr(Step, "__call__", failing.as_method())
    trained(scenes, tmp_path / "run", sampling="auto", options={"width": 4, "depth": 1})
    chosen = Run.open(tmp_path / "run").sampling()
    # First it warms up, then it reads six steps of crops.
    assert [r["sampling"] for r in chosen["readings"]] == ([] if call == 1 else ["crop:2x16"])
    assert chosen["sampling"] == "crop:2x16"
    assert not chosen["ends_on_whole"]


def test_shortages_are_noted_though_the_run_ends_in_an_error(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Step, "__call__", Failing(2, *range(4, 99)).as_method())
    with pytest.raises(FullconvError, match="cannot be cut"):
        trained(scenes, tmp_path / "run")
    noted = json.loads((tmp_path / "run" / "memory.json").read_text())
    assert noted["shortages"][0]["step"] == 2


def test_half_is_half_of_what_the_images_take_and_then_of_that() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    step = Step(net, criterion("cross-entropy"))
    groups = [(torch.rand(2, 3, 200, 200), torch.zeros(2, 200, 200).long())]
    loss = step(groups)
    halves = [step.halve(groups) for _ in range(4)]
    assert halves == pytest.approx([halves[0] / 2**n for n in range(4)], abs=4)
    assert step.memory == halves[-1]
    assert step(groups).item() == pytest.approx(loss.item(), rel=1e-6)
    step.keep_within(1)
    with pytest.raises(FullconvError, match=r"`memory` must hold one window of a step, got .* KiB"):
        step.halve(groups[:1])
    norms = Step(nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)), criterion("cross-entropy"))
    with pytest.raises(NotLocalError, match="BatchNorm"):
        norms.halve(groups)
    with pytest.raises(BadConfigError, match="must be a sum over units"):
        Step(net, criterion("dice"), sampler=lambda *_: None)  # pyright: ignore[reportArgumentType]


def test_a_module_of_ones_own_says_it_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    module = _module.Segmentation(nn.Conv2d(3, 2, 1), classes=2)
    module.say("a step ran out of memory")
    assert "a step ran out of memory" in caplog.text
