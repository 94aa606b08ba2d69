"""One plan for all ranks of a distributed run; two real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fullconv.planning._ranks import first_rank_says, least_of_ranks

RANK = """
import json, sys
import torch, torch.distributed as dist
import fullconv as fc
from fullconv.planning import _plan
from fullconv.planning._gauge import Gauge
from fullconv.planning._ranks import first_rank_says

rank = int(sys.argv[2])
dist.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=rank, world_size=2)
_plan.measured = lambda *_: Gauge(loaded=rank + 7)  # what each rank would have found by itself
net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 5), torch.nn.ReLU(), torch.nn.Conv2d(16, 2, 3))
plan = fc.plan(net, (3, 200, 200), memory=("90 MiB", "70 MiB")[rank], measure=True)

def fails():
    assert rank == 0
    raise ValueError("by the first rank")

try:
    first_rank_says(fails)
except ValueError as error:
    said = str(error)
print(json.dumps([plan.memory, plan.largest_batch, plan.peak_bytes, said]), flush=True)
dist.barrier()  # whoever leaves while the other still talks may be aborted by its own thread
dist.destroy_process_group()
"""


def test_alone_nothing_is_agreed() -> None:
    assert least_of_ranks(7) == 7
    assert first_rank_says(lambda: "here") == "here"
    with pytest.raises(KeyError):
        first_rank_says(lambda: {}["there"])


@pytest.mark.slow
def test_all_ranks_take_the_same_plan(tmp_path: Path) -> None:
    path = os.pathsep.join(filter(None, sys.path))
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(tmp_path / "meeting"), str(rank)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        for rank in (0, 1)
    ]  # fmt: skip
    found = [rank.communicate(timeout=300) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], found
    first, second = (json.loads(out.strip().splitlines()[-1]) for out, _ in found)
    assert first == second
    assert first[0] == 70 * 2**20
    assert first[3] == "by the first rank"
