"""Real steps in a process of its own: what they take, and how long. Knows nothing of the planner.

Usage: python plan_step.py JOB.json, where the job has the network's name or its file, `images`, each
of `shape`, the `precision`, `layout` and number of `steps`; through windows of `step_bytes` if given;
under a hard `limit` of bytes beyond what there is before the network, if given.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import bench
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fullconv.execution import StepLoss, return_freed_memory


def data_bytes() -> int:
    """Return the private memory that may be written, which `RLIMIT_DATA` bounds."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmData:")[1].split()[0]) * 1024


class Steps:
    """Training steps as a user would write them.

    Args:
        net: The network.
        job: See above.
    """

    def __init__(self, net: nn.Module, job: dict[str, Any]) -> None:
        self.net, self.job = net, job
        self.layout = getattr(torch, job["layout"])
        self.descent = torch.optim.AdamW(p for p in net.parameters() if p.requires_grad)
        self.windows: StepLoss | None = None
        if job.get("step_bytes"):
            criterion = nn.CrossEntropyLoss(reduction="none")
            self.windows = StepLoss(net, criterion, memory=job["step_bytes"])

    def make(self) -> float:
        """Make a step; return its seconds."""
        images = torch.rand(self.job["images"], *self.job["shape"])
        start = time.perf_counter()
        self._loss(images).backward()
        self.descent.step()
        self.descent.zero_grad()
        return time.perf_counter() - start

    def _loss(self, images: Tensor) -> Tensor:
        half = self.job["precision"] == "bf16"
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            if self.windows:
                sides = self.job["map_shape"]
                labels = torch.zeros(len(images), *sides, dtype=torch.long)
                return self.windows(list(images), list(labels))
            logits = self.net(images.contiguous(memory_format=self.layout))
            labels = torch.zeros(len(images), *logits.shape[2:], dtype=torch.long)
            return F.cross_entropy(logits.float(), labels)


def main(job: dict[str, Any]) -> None:
    """Make the steps of a job and print what they took."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return_freed_memory()
    import_module("torch._dynamo")  # optimisers do, in their first step
    build = import_module("plan_networks").members()[job["network"]].build
    with torch.device("meta"):
        build()  # imports what it needs
    before = bench.resident_bytes()
    if job.get("limit"):
        most = data_bytes() + job["limit"]
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    bench.forget_peak()
    steps = Steps(build().to(memory_format=getattr(torch, job["layout"])), job)
    seconds = [steps.make() for _ in range(job["steps"])]
    print(json.dumps({"taken_bytes": bench.peak_bytes() - before, "seconds": seconds}))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
