"""Do planned steps ever run out of memory, and how long does finding the largest batch take?

Usage: python benchmarks/fits.py [--cases 200]    (all, and writes the result; goes on behind earlier cases)
       python benchmarks/fits.py crashes --cases 5 --trial   (one part, writes nothing)
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import bench
import torch
from plan_networks import members
from torch import nn

import fullconv as fc
from fullconv.errors import FullconvError
from fullconv.planning import Gauge, Manner, Plan, rehearse_step
from fullconv.planning import _plan as planning
from fullconv.planning._measure import measured
from fullconv.planning._plan import planned
from fullconv.planning._regimes import Draft, RegimePlan, through_windows

HERE = Path(__file__).parent
MB = 10**6
NETWORKS = (
    "unet", "unet, layer norm, narrow", "unet, no norm, full resolution", "fcn8s", "residual",
    "monai UNet",
)  # fmt: skip
SIDES, BUDGETS = (96, 512), (100 * MB, 400 * MB)
ENOUGH = 0.85
LAYOUTS = {"32": "contiguous_format", "bf16": "channels_last"}
FINDERS = (
    ("residual", (3, 192, 256), 800 * MB), ("monai UNet", (3, 256, 256), 600 * MB),
    ("residual", (3, 980, 980), 8000 * MB),
)  # fmt: skip
METHOD = (
    "CPU, one thread, no rounds. `crashes`: random networks, image sizes (multiples of 32 from "
    f"{SIDES[0]} to {SIDES[1]} px per side), precisions (32 bit, or bf16 in channels_last) and budgets "
    f"({BUDGETS[0] // MB} to {BUDGETS[1] // MB} MB, even in their logarithm); each is planned with `memory` = "
    "the budget, calibrated by two small steps once per network and precision, and what is chosen is "
    "made: two steps with AdamW, or one through windows, in a process of its own, which has failed "
    "if an error ends it or its largest resident memory, less that before and pages of program files, is "
    "above the budget. No limit of the system is set: RLIMIT_DATA counts addresses that are reserved and "
    "never touched, some 70 MB of them in bf16. Budgets that the plan refuses are counted apart. `use` is "
    "the planned peak over the budget; more would have helped where the plan for one more image is "
    "within the budget, or where images are cut into windows. `finders`: the seconds of fc.plan, without "
    "sampled and patchwise steps, without and with the two small steps, of Lightning's "
    "Tuner.scale_batch_size (`power`, `binsearch`, from 1 image on) and accelerate's "
    "find_executable_batch_size (from its 128 on), under an RLIMIT_DATA of what the process has before "
    "the network and the budget, without which theirs climb until the system ends them; `works`: "
    "whether two steps with the found number were made under that limit afterwards."
)


class Runner:
    """A process that runs jobs under a hard limit (`fits_run.py`)."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "fits_run.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def __call__(self, **job: Any) -> dict[str, Any]:
        """Return the answer to a job."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def triples(seed: int) -> Iterator[dict[str, Any]]:
    """Yield random networks, images and budgets, without end."""
    draw = random.Random(seed)
    known = [name for name in NETWORKS if name in members()]
    low, high = (math.log(budget) for budget in BUDGETS)
    while True:
        sides = [32 * draw.randint(SIDES[0] // 32, SIDES[1] // 32) for _ in range(2)]
        precision = draw.choice(tuple(LAYOUTS))
        yield {
            "network": draw.choice(known),
            "shape": [3, *sides],
            "precision": precision,
            "layout": LAYOUTS[precision],
            "limit": round(math.exp(draw.uniform(low, high))),
        }


def crashes(cases: int, minutes: float, run: Runner, earlier: dict[str, Any]) -> dict[str, Any]:
    """Return what happened to planned steps under a hard limit; fewer cases where time is over."""
    until = time.monotonic() + 60 * minutes
    rows: list[dict[str, Any]] = earlier.get("cases", [])
    refused: list[dict[str, Any]] = earlier.get("refused", [])
    for case in islice(triples(0), len(rows) + len(refused), None):
        if len(rows) == cases or time.monotonic() > until:
            break
        try:
            plan = _planned(case)
        except FullconvError as error:
            refused.append(case | {"said": str(error)[:200]})
            continue
        row = case | _of(plan, case)
        windows = {"step_bytes": row["step_bytes"], "map_shape": plan.map_shape[1:]}
        job = {key: value for key, value in case.items() if key != "limit"}
        answer = run(kind="steps", **job, images=row["images"], steps=1 if row["step_bytes"] else 2,
                     **(windows if row["step_bytes"] else {}))  # fmt: skip
        if answer.get("taken_bytes", 0) > case["limit"]:
            answer["failed"] = "it took more than its budget"
        rows.append(row | answer)
        print(len(rows), json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return {"summary": _summary(rows, len(refused)), "cases": rows, "refused": refused}


def _left_out(draft: Draft, name: str, sampler: Any, images: int) -> RegimePlan:
    """Plan steps through windows over whole images alone: others are not run here."""
    if name != "streamed":
        return RegimePlan(name=name, refusal="left out")
    return through_windows(draft, name, sampler, images)


def _planned(case: dict[str, Any]) -> Plan:
    net, manner = _net(case["network"], case["layout"]), Manner(precision=case["precision"])
    gauge = _gauge(case["network"], case["layout"], case["precision"])
    return planned(
        net, tuple(case["shape"]), batch=1, memory=case["limit"], images=None, samplers={},
        manner=manner, gauge=gauge,
    )  # fmt: skip


def _of(plan: Plan, case: dict[str, Any]) -> dict[str, Any]:
    """Return what a plan chooses, and whether more would have helped."""
    cut = plan.choice.regime == "streamed"
    one_more = True
    if not cut:
        manner = Manner(precision=case["precision"])
        net = _net(case["network"], case["layout"])
        more = rehearse_step(net, case["shape"], batch=plan.choice.batch + 1, manner=manner).course
        gauge = _gauge(case["network"], case["layout"], case["precision"])
        one_more = gauge.taken(more) <= case["limit"]
    return {
        "regime": plan.choice.regime,
        "images": plan.choice.batch,
        "step_bytes": plan.regime("streamed").step_bytes if cut else None,
        "planned_bytes": plan.choice.peak_bytes,
        "use": plan.choice.peak_bytes / case["limit"],
        "more_would_have_helped": one_more,
    }


def _summary(rows: Sequence[dict[str, Any]], refused: int) -> dict[str, Any]:
    made = [row for row in rows if "failed" not in row]
    more = [row for row in rows if row["more_would_have_helped"]]
    taken = sorted(row["taken_bytes"] / row["planned_bytes"] for row in made)
    return {
        "cases": len(rows),
        "failed": len(rows) - len(made),
        "refused": refused,
        "in_windows": sum(row["regime"] == "streamed" for row in rows),
        "more_would_have_helped": len(more),
        "of_these_using_enough": sum(row["use"] >= ENOUGH for row in more),
        "use_of_these": _spread([row["use"] for row in more]),
        "taken_over_planned": _spread(taken),
    }


def finders(run: Runner) -> dict[str, Any]:
    """Return the largest batches by plan and by peers, and the seconds that they took."""
    rows: list[dict[str, Any]] = []
    for network, shape, limit in FINDERS:
        if network not in members():
            continue
        case = {"network": network, "shape": list(shape), "precision": "32",
                "layout": "contiguous_format", "limit": limit}  # fmt: skip
        found = {
            "plan": _timed(case, measure=False),
            "plan with small steps": _timed(case, measure=True),
        }
        with tempfile.TemporaryDirectory() as folder:
            for mode in ("power", "binsearch"):
                found[f"lightning {mode}"] = run(kind="lightning", mode=mode, folder=folder, **case)
        if find_spec("accelerate"):
            found["accelerate"] = run(kind="accelerate", **case)
        for one in found.values():
            if "failed" not in one:
                answer = run(kind="steps", images=one["images"], steps=2, **case)
                one["works"] = "failed" not in answer
        rows.append(case | {"found": found})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return {"summary": _shares(rows), "cases": rows}


def _timed(case: dict[str, Any], *, measure: bool) -> dict[str, Any]:
    net = _net(case["network"], case["layout"])
    start = time.perf_counter()
    plan = fc.plan(net, tuple(case["shape"]), memory=case["limit"], measure=measure)
    return {"images": plan.largest_batch, "seconds": time.perf_counter() - start}


def _shares(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    shares: dict[str, list[float]] = {}
    for row in rows:
        ours = row["found"]["plan with small steps"]["seconds"]
        for name, one in row["found"].items():
            if not name.startswith("plan") and "failed" not in one:
                shares.setdefault(name, []).append(ours / one["seconds"])
    return {f"seconds_of_plan_over_{name}": _spread(found) for name, found in shares.items()}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


@cache
def _net(name: str, layout: str) -> nn.Module:
    torch.manual_seed(0)
    return members()[name].build().to(memory_format=getattr(torch, layout))


@cache
def _gauge(name: str, layout: str, precision: str) -> Gauge:
    manner = Manner(precision=precision)  # pyright: ignore[reportArgumentType]
    return measured(_net(name, layout), (3, 480, 480), manner)


def main() -> None:
    """Run the parts that are named, and write the result if all were."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["crashes", "finders"])
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=60.0, help="for crashes, at most")
    parser.add_argument("--trial", action="store_true")
    said = parser.parse_args()
    torch.set_num_threads(1)
    run = Runner()
    planning.through_windows = _left_out
    path = bench.RESULTS / "fits.json"
    figures = json.loads(path.read_text())["figures"] if path.exists() else {}
    if "crashes" in said.parts:
        figures["crashes"] = crashes(said.cases, said.minutes, run, figures.get("crashes", {}))
    if "finders" in said.parts:
        figures["finders"] = finders(run)
    if said.trial:
        print(json.dumps(figures, indent=2))
    else:
        bench.write("fits", METHOD, figures)


if __name__ == "__main__":
    main()
