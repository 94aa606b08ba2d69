"""What a plan says against what happens: the peak memory of training steps.

Usage: python benchmarks/plan.py           (all networks that can be built here, writes the result)
       python benchmarks/plan.py NAME ...  (these alone; the cases of the others stay as they are)
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import bench
import torch
from plan_networks import members
from torch import nn

from fullconv.planning import Manner, rehearse_step
from fullconv.planning._gauge import Gauge
from fullconv.planning._measure import measured

ERRORS = ("before", "after", "torchinfo")
HERE = Path(__file__).parent
METHOD = (
    "Three training steps (AdamW, cross entropy, one thread) in a fresh process each, CPU, no rounds: the largest "
    "resident memory less that before the network was built. `before`: relative error of the plan from "
    "rehearsal alone; `after`: calibrated by two small steps of the same network, precision and layout "
    "in a process of their own; `reserve`: what is kept free beside that, as a share of it; `torchinfo`: "
    "the error of its total (weights, images, outputs of layers twice)."
)
LAYOUTS = {2: ("contiguous_format", "channels_last"), 3: ("contiguous_format", "channels_last_3d")}


def cases(names: Sequence[str] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield networks with sizes, batches, precisions and layouts."""
    for name, member in members().items():
        if names and name not in names:
            continue
        small, large = member.sides
        plain, last = LAYOUTS[len(small)]
        for sides, images, precision, layout in (
            (small, 1, "32", plain), (small, 4, "32", last), (large, 1, "32", last),
            (small, 3, "bf16", plain), (large, 2, "bf16", last),
        ):  # fmt: skip
            shape = [member.channels, *sides]
            case = {"shape": shape, "images": images, "precision": precision, "layout": layout}
            yield name, case


def real(job: dict[str, Any]) -> dict[str, Any]:
    """Return what the steps of a job took in a process of their own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.json"
        path.write_text(json.dumps(job))
        return bench.in_fresh_process(str(HERE / "plan_step.py"), str(path))


def compare(names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return what was predicted and what was taken, case by case."""
    rows: list[dict[str, Any]] = []
    for name, case in cases(names):
        net = _built(name, case["layout"])
        manner = Manner(precision=case["precision"])
        course = rehearse_step(net, case["shape"], batch=case["images"], manner=manner).course
        gauge = _gauge(name, case["layout"], case["precision"], tuple(case["shape"]))
        taken = real({"network": name, "steps": 3} | case)["taken_bytes"]
        row = {
            "network": name, **case, "taken_bytes": taken,
            "before": Gauge.of("cpu").taken(course) / taken - 1,
            "after": gauge.taken(course) / taken - 1,
            "reserve": gauge.needed(gauge.taken(course)) / gauge.taken(course) - 1,
            "torchinfo": _torchinfo(net, case) / taken - 1 if find_spec("torchinfo") else None,
        }  # fmt: skip
        rows.append(row)
        errors = {k: f"{100 * row[k]:+.1f} %" for k in ERRORS if row[k] is not None}
        print(name, case, f"{taken / 2**20:.0f} MiB", errors, file=sys.stderr, flush=True)
    return rows


@cache
def _built(name: str, layout: str) -> nn.Module:
    torch.manual_seed(0)
    return members()[name].build().to(memory_format=getattr(torch, layout))


@cache
def _gauge(name: str, layout: str, precision: str, shape: tuple[int, ...]) -> Gauge:
    """Return what the machine makes of rehearsals of a network."""
    net = _built(name, layout)
    return measured(net, shape, Manner(precision=precision))  # pyright: ignore[reportArgumentType]


def _torchinfo(net: nn.Module, case: dict[str, Any]) -> int:
    """Return the total that torchinfo gives: weights, images, and outputs of layers twice."""
    from torchinfo import summary

    found = summary(net, (case["images"], *case["shape"]), device="cpu", verbose=0)
    return found.total_input + found.total_output_bytes + found.total_param_bytes


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the errors' median, 95th percentile and largest one, and the spread of the ratios."""
    found: dict[str, Any] = {"cases": len(rows), "networks": len({r["network"] for r in rows})}
    for key in ERRORS:
        errors = sorted(abs(r[key]) for r in rows if r[key] is not None)
        if errors:
            found[key] = {
                "median": statistics.median(errors),
                "p95": errors[min(len(errors) - 1, int(0.95 * len(errors)))],
                "largest": errors[-1],
            }
            ratios = [1 + r[key] for r in rows if r[key] is not None]
            found[f"{key}_over_taken"] = {
                "median": statistics.median(ratios), "min": min(ratios), "max": max(ratios),
            }  # fmt: skip
    return found


def main(names: Sequence[str]) -> None:
    """Compare all, or those named, and write the result."""
    path = bench.RESULTS / "plan.json"
    earlier = json.loads(path.read_text())["figures"]["cases"] if names and path.exists() else []
    rows = [row for row in earlier if row["network"] not in names] + compare(names or None)
    bench.write("plan", METHOD, {"summary": summary(rows), "cases": rows})


if __name__ == "__main__":
    main(sys.argv[1:])
