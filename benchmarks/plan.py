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

ERRORS = ("before", "after", "torchinfo", "memtracker")
HERE = Path(__file__).parent
METHOD = (
    "Three training steps (AdamW, cross entropy, one thread) in a fresh process each, CPU, no rounds: the largest "
    "resident memory less that before the network was built. `before`: relative error of the plan from "
    "rehearsal alone; `after`: calibrated by two small steps of the same network, precision and layout "
    "in a process of their own; `reserve`: what is kept free beside that, as a share of it; `torchinfo`: "
    "the error of its total (weights, images, outputs of layers twice); `memtracker`: that of the peak that "
    "torch.distributed._tools.mem_tracker.MemTracker counts over two steps on fake tensors, null where "
    "the network cannot be built on these."
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
            "torchinfo": _beside(_torchinfo(net, case) if find_spec("torchinfo") else None, taken),
            "memtracker": _beside(_memtracker(name, case), taken),
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


def _memtracker(name: str, case: dict[str, Any]) -> int | None:
    """Return the peak that PyTorch's MemTracker counts over two steps without numbers."""
    from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    tracker, layout = MemTracker(), getattr(torch, case["layout"])
    with FakeTensorMode(allow_non_fake_inputs=True):
        try:
            net = members()[name].build()
        except DataDependentOutputException:
            return None
        descent = torch.optim.AdamW(net.parameters())
        images = torch.rand(case["images"], *case["shape"]).contiguous(memory_format=layout)
        tracker.track_external(net, descent, images)
        with tracker:
            for _ in range(2):
                tracker.reset_mod_stats()
                with torch.autocast("cpu", torch.bfloat16, enabled=case["precision"] == "bf16"):
                    logits = net(images)
                targets = torch.zeros((len(logits), *logits.shape[2:]), dtype=torch.long)
                nn.functional.cross_entropy(logits.float(), targets).backward()
                descent.step()
                descent.zero_grad()
        peak = tracker.get_tracker_snapshot("peak")
    return sum(
        bytes for device in peak.values() for kind, bytes in device.items() if str(kind) == "Total"
    )


def _beside(planned: int | None, taken: int) -> float | None:
    return None if planned is None else planned / taken - 1


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


COLOURS = {"before": "#b9c2cc", "after": "#1f5fa8", "memtracker": "#c05717"}
LOWEST, HIGHEST = -0.6, 0.2  # errors are drawn between these


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the error of each case, a row for each network: plain SVG."""
    names = list(dict.fromkeys(row["network"] for row in rows))
    foot = 52 + 20 * len(names)

    def x(error: float) -> float:
        return 270 + 600 * (error - LOWEST) / (HIGHEST - LOWEST)

    parts = [
        f'<text x="{250 - 8}" y="{62 + 20 * i}" text-anchor="end">{name}</text>'
        for i, name in enumerate(names)
    ]
    for percent in (-60, -50, -40, -30, -20, -10, 0, 10, 20):
        at = x(percent / 100)
        parts.append(f'<path class="{"zero" if not percent else "rule"}" d="M{at:.0f} 46V{foot}"/>')
        parts.append(f'<text x="{at:.0f}" y="{foot + 16}" text-anchor="middle">{percent} %</text>')
    for key, colour in COLOURS.items():
        parts += [
            f'<circle cx="{x(row[key]):.1f}" cy="{58 + 20 * names.index(row["network"])}" r="3" fill="{colour}"/>'
            for row in rows
            if row[key] is not None
        ]
    said = {
        "before": "planned, nothing measured",
        "after": "after two small steps",
        "memtracker": "MemTracker",
    }
    parts += [
        f'<circle cx="{250 + 215 * i}" cy="20" r="4" fill="{COLOURS[key]}"/><text x="{260 + 215 * i}" y="24">{words}</text>'
        for i, (key, words) in enumerate(said.items())
    ]
    style = "text{font:12px sans-serif;fill:#1b2430}.rule{stroke:#e3e7ec}.zero{stroke:#5a6675}circle{fill-opacity:.8}"
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 {foot + 26}"><style>{style}</style>'
        f'<rect width="900" height="{foot + 26}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def main(names: Sequence[str]) -> None:
    """Compare all, or those named, and write the result."""
    path = bench.RESULTS / "plan.json"
    earlier = json.loads(path.read_text())["figures"]["cases"] if names and path.exists() else []
    rows = [row for row in earlier if row["network"] not in names] + compare(names or None)
    bench.write("plan", METHOD, {"summary": summary(rows), "cases": rows})
    draw(rows, HERE.parent / "docs" / "plan.svg")


if __name__ == "__main__":
    main(sys.argv[1:])
