"""Are the seconds that a plan predicts for the steps of each regime right, and their order?

Usage: python benchmarks/regime_seconds.py            (writes the result)
       python benchmarks/regime_seconds.py --trial    (one network, writes nothing)
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations
from typing import Any

import bench
import torch
from fits import Runner
from plan_networks import members
from torch import nn

from fullconv.planning import Gauge, Manner, Plan
from fullconv.planning._pace import Pace
from fullconv.planning._plan import planned

MB = 10**6
ROUNDS = 3
ALIKE = 0.05  # regimes whose seconds differ by less have no order
CASES = (
    ("residual", (3, 256, 256), 1, 1000), ("unet, layer norm, narrow", (3, 256, 320), 1, 100),
    ("unet, no norm, full resolution", (3, 256, 256), 1, 400), ("fcn8s", (3, 384, 384), 1, 1000),
    ("monai UNet", (3, 256, 256), 1, 600), ("unet", (3, 480, 480), 2, 600),
)  # fmt: skip
METHOD = (
    "CPU, float32, one thread, seconds of the processor (other programs ran). Networks, image sizes, "
    "batches and budgets; each network is in the mode that it is trained in. Predicted: fc.plan's seconds "
    "of a step by regime, calibrated by two small steps in a process of their own. Taken: the "
    f"median of {ROUNDS} rounds, each a step in the same process behind one that is not counted: whole "
    "images at once, and fullconv.StepLoss with the memory of the plan for all units (`streamed`), a "
    "quarter of four times the images (`sampled`) and 64 single units (`patchwise`). `order`: pairs of "
    f"regimes of one case whose seconds differ by more than {100 * ALIKE:.0f} %, how many were "
    "predicted in the right order, and how many were predicted alike, to as much."
)


def cases(run: Runner, *, trial: bool) -> list[dict[str, Any]]:
    """Return what was predicted and what was taken, regime by regime."""
    rows: list[dict[str, Any]] = []
    for network, shape, batch, memory in CASES[:1] if trial else CASES:
        if network not in members():
            continue
        job = {"network": network, "shape": shape, "layout": "contiguous_format"}
        plan = _plan(run, network, shape, batch, memory * MB)
        for regime in plan.regimes:
            if regime.refusal or (regime.name == "whole" and regime.peak_bytes > plan.memory):
                continue
            answer = run(kind="regime", regime=regime.name, images=regime.images, steps=ROUNDS,
                         step_bytes=regime.step_bytes, map_shape=plan.map_shape[1:], **job)  # fmt: skip
            if "failed" in answer:
                raise RuntimeError(f"{network}, {regime.name}: {answer}")
            taken = statistics.median(answer["seconds"])
            row = job | {
                "memory": memory * MB, "regime": regime.name, "images": regime.images,
                "windows": sum(w.count for w in regime.windows), "predicted": regime.seconds,
                "taken": taken, "error": regime.seconds / taken - 1,
            }  # fmt: skip
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


def _plan(run: Runner, network: str, shape: tuple[int, ...], batch: int, memory: int) -> Plan:
    found = run(kind="pace", network=network, shape=shape, layout="contiguous_format")
    if "failed" in found:
        raise RuntimeError(f"{network}: {found}")
    gauge = replace(
        Gauge.of("cpu"), loaded=found["loaded"], factor=found["factor"], pace=Pace(**found["pace"]),
        measured=True,
    )  # fmt: skip
    return planned(
        _net(network), shape, batch=batch, memory=memory, images=None, samplers={}, manner=Manner(),
        gauge=gauge,
    )  # fmt: skip


@cache
def _net(name: str) -> nn.Module:
    torch.manual_seed(0)
    return members()[name].build()


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the errors and the order of regimes."""
    ratios = [row["predicted"] / row["taken"] for row in rows]
    errors = sorted(abs(row["error"]) for row in rows)
    pairs = [
        (a, b)
        for a, b in combinations(rows, 2)
        if all(a[key] == b[key] for key in ("network", "shape", "memory"))
        and abs(a["taken"] / b["taken"] - 1) > ALIKE
    ]
    told = [(a, b) for a, b in pairs if abs(a["predicted"] / b["predicted"] - 1) > ALIKE]
    right = sum((a["predicted"] > b["predicted"]) == (a["taken"] > b["taken"]) for a, b in told)
    by_regime = {
        name: statistics.median(abs(r["error"]) for r in rows if r["regime"] == name)
        for name in dict.fromkeys(r["regime"] for r in rows)
    }
    return {
        "steps": len(rows),
        "predicted_over_taken": {
            "median": statistics.median(ratios), "min": min(ratios), "max": max(ratios),
        },
        "error": {
            "median": statistics.median(errors),
            "p95": errors[min(len(errors) - 1, int(0.95 * len(errors)))],
            "within_20_percent": sum(error <= 0.2 for error in errors),
        },
        "median_error_by_regime": by_regime,
        "order": {"pairs": len(pairs), "right": right, "predicted_alike": len(pairs) - len(told)},
    }  # fmt: skip


def main() -> None:
    """Compare all cases, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trial", action="store_true")
    trial = parser.parse_args().trial
    torch.set_num_threads(1)
    rows = cases(Runner(), trial=trial)
    figures = {"summary": summary(rows), "cases": rows}
    if trial:
        print(json.dumps(figures["summary"], indent=2))
    else:
        bench.write("regime_seconds", METHOD, figures)


if __name__ == "__main__":
    main()
