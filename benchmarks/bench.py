"""What every benchmark shares: fresh processes, the machine's description, results as JSON."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "lightning", "monai", "numpy", "fullconv")


def in_fresh_process(script: str, *arguments: str) -> dict[str, Any]:
    """Run a script of this folder in a process of its own; it prints one JSON line last."""
    done = subprocess.run(
        [sys.executable, script, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{script} {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def in_turn(
    script: str, cases: Mapping[str, Sequence[str]], rounds: int
) -> dict[str, list[dict[str, Any]]]:
    """Run every case once per round, one after another, so that a drifting machine drifts for all.

    Args:
        script: Of this folder; it prints one JSON line last.
        cases: The arguments of each.
        rounds: How often each is run.
    """
    runs: dict[str, list[dict[str, Any]]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case, arguments in cases.items():
            runs[case].append(in_fresh_process(script, *arguments))
    return runs


def ratios(
    runs: dict[str, list[dict[str, Any]]], case: str, to: str, figure: str
) -> dict[str, float]:
    """Return the median, least and largest ratio of a figure, pair by pair within each round."""
    found = [a[figure] / b[figure] for a, b in zip(runs[case], runs[to], strict=True)]
    return {"median": statistics.median(found), "min": min(found), "max": max(found)}


def resident_bytes() -> int:
    """Return the memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def forget_peak() -> None:
    """Let `peak_bytes` count from now on."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Return the most memory that this process has held since `forget_peak`, or its start."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def write(name: str, method: str, figures: dict[str, Any]) -> None:
    """Write a result beside its method, the machine and the versions; print the figures."""
    RESULTS.mkdir(exist_ok=True)
    result = {
        "name": name,
        "date": time.strftime("%Y-%m-%d"),
        "commit": _commit(),
        "machine": machine(),
        "versions": _versions(),
        "method": method,
        "figures": figures,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


def machine() -> dict[str, Any]:
    """Return processor, cores and accelerator in words."""
    model = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")),
        platform.processor(),
    )
    return {"cpu": model, "cores": os.cpu_count(), "load": os.getloadavg()[0]}


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
