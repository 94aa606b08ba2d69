"""Runs jobs under a hard limit of memory, each in a process forked from one that has loaded everything.

Usage: python fits_run.py < JOBS, one a line of JSON; answers with one line each. A job has a `kind`:

- ``steps``: training steps as `plan_step.py` makes them, with what they took;
- ``regime``: steps of a regime through `fullconv.StepLoss`, or over whole images, and their seconds;
- ``pace``: what small steps say of how fast the machine is, as `fullconv.plan` measures it;
- ``lightning``, ``accelerate``: the largest batch as these find it, with the seconds they took.

`limit` is in bytes beyond what there is before the network: `RLIMIT_DATA` of the process.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bench
import lightning.pytorch as pl
import plan_step
import torch
import torch.nn.functional as F
from plan_networks import members
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from fullconv.execution import StepLoss, return_freed_memory
from fullconv.planning import Manner
from fullconv.planning import _measure as measure
from fullconv.planning import _small_steps as small_steps
from fullconv.sampling import Patchwise, Sampled, Whole, generator

SAMPLERS: dict[str, Any] = {
    "whole": None, "streamed": Whole(), "sampled": Sampled(keep=0.25), "patchwise": Patchwise(count=64),
}  # fmt: skip
SECONDS = 600  # after which a job is given up


def steps(job: dict[str, Any]) -> dict[str, Any]:
    """Return what some steps took, without pages of programs, and how long."""
    before = bench.resident_bytes() - _pages_of_programs()
    bench.forget_peak()
    made = plan_step.Steps(_net(job), job)
    seconds = [made.make() for _ in range(job["steps"])]
    return {"taken_bytes": bench.peak_bytes() - _pages_of_programs() - before, "seconds": seconds}


def _pages_of_programs() -> int:
    """Return the bytes of files that are mapped: a forked process has them when it uses them."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssFile:")[1].split()[0]) * 1024


def regime(job: dict[str, Any]) -> dict[str, Any]:
    """Return the seconds of the processor that steps of a regime took, without the first one."""
    net = _net(job)
    sampler = SAMPLERS[job["regime"]]
    criterion = nn.CrossEntropyLoss(reduction="none")
    step = StepLoss(net, criterion, memory=job["step_bytes"]) if sampler else None
    descent = torch.optim.AdamW(net.parameters())
    seconds: list[float] = []
    for number in range(job["steps"] + 1):
        images = torch.rand(job["images"], *job["shape"])
        targets = [torch.zeros(job["map_shape"], dtype=torch.long) for _ in images]
        units = sampler(targets, generator(number)) if sampler else None
        start = time.process_time()
        loss = step(list(images), targets, units) if step else _loss(net, images)
        loss.backward()
        descent.step()
        descent.zero_grad()
        seconds.append(time.process_time() - start)
    return {"seconds": seconds[1:]}


def pace(job: dict[str, Any]) -> dict[str, Any]:
    """Return rate and start by small steps in this process, in seconds of the processor."""
    small_steps.time = SimpleNamespace(perf_counter=time.process_time)  # pyright: ignore[reportAttributeAccessIssue]
    measure._in_a_process = measure.steps_here
    found = measure.measured(_net(job), tuple(job["shape"]), Manner(precision="32"))
    return {"loaded": found.loaded, "factor": found.factor, "pace": asdict(found.pace)}


class Noise(Dataset[Tensor]):
    """Images without number."""

    def __init__(self, shape: list[int]) -> None:
        self.shape = shape

    def __len__(self) -> int:
        return 10_000

    def __getitem__(self, index: int) -> Tensor:
        return torch.rand(*self.shape)


class Module(pl.LightningModule):
    """A network as a user of Lightning would train it."""

    def __init__(self, net: nn.Module, shape: list[int]) -> None:
        super().__init__()
        self.net, self.shape, self.batch_size = net, shape, 1

    def training_step(self, batch: Tensor, _: int) -> Tensor:
        """Return the loss."""
        return _loss(self.net, batch)

    def configure_optimizers(self) -> Any:
        """Return AdamW."""
        return torch.optim.AdamW(self.net.parameters())

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Return images in batches of the size that is tried."""
        return DataLoader(Noise(self.shape), batch_size=self.batch_size)


def lightning(job: dict[str, Any]) -> dict[str, Any]:
    """Return the largest batch by `BatchSizeFinder` in a mode, and its seconds."""
    finder = import_module("lightning.pytorch.tuner").Tuner
    module = Module(_net(job), job["shape"])
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=job["folder"],
    )  # fmt: skip
    start = time.perf_counter()
    found = finder(trainer).scale_batch_size(module, mode=job["mode"], init_val=1)
    return {"images": found, "seconds": time.perf_counter() - start}


def accelerate(job: dict[str, Any]) -> dict[str, Any]:
    """Return the largest batch by `find_executable_batch_size`, from its 128 on, and its seconds."""
    find = import_module("accelerate.utils").find_executable_batch_size
    net = _net(job)

    @find(starting_batch_size=128)
    def train(batch_size: int) -> int:
        descent = torch.optim.AdamW(net.parameters())
        for _ in range(2):
            _loss(net, torch.rand(batch_size, *job["shape"])).backward()
            descent.step()
            descent.zero_grad()
        return batch_size

    start = time.perf_counter()
    found = train()
    return {"images": found, "seconds": time.perf_counter() - start}


def _net(job: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    return members()[job["network"]].build().to(memory_format=getattr(torch, job["layout"]))


def _loss(net: nn.Module, images: Tensor) -> Tensor:
    logits = net(images)
    return F.cross_entropy(logits, torch.zeros(len(images), *logits.shape[2:], dtype=torch.long))


KINDS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "steps": steps, "regime": regime, "pace": pace, "lightning": lightning, "accelerate": accelerate,
}  # fmt: skip


def child(job: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a job, within its limit; what failed, where it did."""
    signal.alarm(SECONDS)
    return_freed_memory()
    if job.get("limit"):
        most = plan_step.data_bytes() + job["limit"]
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    try:
        return KINDS[job["kind"]](job)
    except Exception as error:  # noqa: BLE001 - whatever it is, the job has failed
        last = traceback.extract_tb(error.__traceback__)[-1]
        return {"failed": f"{type(error).__name__}: {error}"[:300], "where": str(last)}


def forked(job: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of a child; how it died, where it did."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(writing, json.dumps(child(job)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    _, status = os.waitpid(pid, 0)
    return json.loads(text) if text else {"failed": f"it ended with status {status}"}


def main() -> None:
    """Answer jobs until there are no more."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    import_module("torch._dynamo")  # optimisers do, in their first step
    with torch.device("meta"):
        for member in members().values():
            member.build()  # imports what it needs
    for line in sys.stdin:
        sys.stdout.write(json.dumps(forked(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
