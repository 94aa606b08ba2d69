"""A program: makes a few small steps and prints what they took, as one line of JSON.

It is run in a process of its own (`_measure`), so that running out of memory would end nothing else,
and so that what is loaded for good can be told from what steps take. Weights are drawn anew: only their
shapes matter.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fullconv.execution import (
    give_back_freed_memory,
    laid_out,
    like_weights,
    return_freed_memory,
)
from fullconv.planning._manner import Manner

RUNS = 2  # timed, of which the faster one counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """What steps over images of one shape took.

    Attributes:
        before_bytes: What the process held before it had the network.
        peak_bytes: The most that it held, while one was made that was not the first.
        seconds: Of the fastest one.
    """

    before_bytes: int
    peak_bytes: int
    seconds: float


class Meter:
    """Counts the memory of the process, or that of PyTorch's allocator on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def now(self) -> int:
        """Return the bytes that are held now."""
        if self._device.type == "cuda":
            return torch.cuda.memory_allocated(self._device)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def start(self) -> None:
        """Let `peak` count from now on."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            Path("/proc/self/clear_refs").write_text("5")

    def peak(self) -> int:
        """Return the most bytes that were held since `start`."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            return torch.cuda.max_memory_reserved(self._device)
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024


class Steps:
    """Steps over whole images with one network.

    Args:
        net: The network, with numbers.
        manner: How steps are made.
        device: Where.
    """

    def __init__(self, net: nn.Module, manner: Manner, device: torch.device) -> None:
        self._net, self._manner, self._device = net, manner, device
        self._descent = manner.descent(p for p in net.parameters() if p.requires_grad)

    def make(self, batch: int, shape: tuple[int, ...]) -> float:
        """Make a step and return its seconds; gradients are given back."""
        dtype = like_weights(self._net).dtype
        image = torch.rand(batch, *shape, dtype=dtype, device=self._device)
        self._wait()
        start = time.perf_counter()
        self._loss(image).backward()
        self._descent.step()
        self._descent.zero_grad()
        self._wait()
        return time.perf_counter() - start

    def _loss(self, image: Tensor) -> Tensor:
        with self._manner.cast(self._device):
            logits = self._net(laid_out(image, self._net))
            labels = torch.zeros(
                (len(image), *logits.shape[2:]), dtype=torch.long, device=self._device
            )
            halved = logits.dtype in (torch.bfloat16, torch.float16)
            return self._manner.total(logits.float() if halved else logits, labels)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def without_weights(net: nn.Module) -> nn.Module:
    """Return a copy whose weights have no numbers.

    Buffers have theirs: they may be indices, or a matrix that must have an inverse.
    """
    memo: dict[int, Any] = {id(b): b.detach().clone() for b in net.buffers()}
    memo |= {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=p.requires_grad)
        for p in net.parameters()
    }
    return copy.deepcopy(net, memo)


def with_numbers(net: nn.Module, device: torch.device) -> nn.Module:
    """Return a copy whose weights are drawn anew, such that they compute without overflow.

    Buffers without numbers are 1. Tensors that several modules share stay shared.
    """
    memo: dict[int, Any] = {id(b): _filled(b, device) for b in net.buffers()}
    memo |= {
        id(p): nn.Parameter(_drawn(p, device), requires_grad=p.requires_grad)
        for p in net.parameters()
    }
    return copy.deepcopy(net, memo)


def _filled(buffer: Tensor, device: torch.device) -> Tensor:
    if buffer.is_meta:
        return torch.empty_like(buffer, device=device).fill_(1)
    return buffer.detach().to(device, copy=True)


@torch.no_grad()
def _drawn(weight: Tensor, device: torch.device) -> Tensor:
    spread = (weight[0].numel() if weight.ndim > 1 else 1) ** -0.5
    return torch.empty_like(weight, device=device, requires_grad=False).normal_(0, spread)


def measure(
    net: nn.Module,
    manner: Manner,
    device: torch.device,
    shapes: Sequence[tuple[int, tuple[int, ...]]],
    runs: int = RUNS,
) -> list[Took]:
    """Return what steps took, for each number and shape of images; the fastest of some runs."""
    import_module("torch._dynamo")  # optimisers do, in their first step
    give_back_freed_memory()  # of steps before, which would hide what these take
    meter = Meter(device)
    before = meter.now()
    steps = Steps(with_numbers(net, device), manner, device)
    found: list[Took] = []
    for batch, shape in shapes:
        steps.make(batch, shape)
        meter.start()
        seconds = min(steps.make(batch, shape) for _ in range(runs))
        found.append(
            Took(
                before_bytes=before,
                peak_bytes=meter.peak(),
                seconds=seconds,
            )
        )
    return found


def main(folder: Path) -> None:
    """Read what to do from a folder, and print what it took."""
    job: dict[str, Any] = json.loads((folder / "job.json").read_text())
    torch.set_num_threads(job["threads"])
    return_freed_memory()
    # Written by the process that started this one.
    net, manner = torch.load(folder / "net.pt", weights_only=False)
    shapes = [(batch, tuple(shape)) for batch, shape in job["shapes"]]
    found = measure(net, manner, torch.device(job["device"]), shapes)
    sys.stdout.write(json.dumps([asdict(took) for took in found]) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
