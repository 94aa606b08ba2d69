"""What ``run.json`` says: command, versions, machine, start and duration."""

import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import psutil
import torch

from fullconv.runs import Run, write_json
from fullconv.training._module import Segmentation
from fullconv.training._room import Room, peak_bytes

_PACKAGES = ("fullconv", "torch", "lightning", "torchmetrics", "kornia", "numpy", "pillow")


def note_start(run: Run, module: Segmentation) -> None:
    """Write what is known before the first step; a run that goes on keeps its first start."""
    command = " ".join(sys.argv)
    if run.run_json.exists():
        about = run.about()
        about["resumed"] = [*about["resumed"], {"command": command, "start": _now()}]
    else:
        about = {
            "command": command,
            "start": _now(),
            "versions": _versions(),
            "machine": _machine(),
            "parameters": sum(p.numel() for p in module.net.parameters()),
            "resumed": [],
        }
    write_json(run.run_json, about | {"finished": False})


def note_end(run: Run, *, device: torch.device, seconds: float, steps: int) -> None:
    """Add where and how long it was trained."""
    ending = {"device": str(device), "seconds": round(seconds, 1), "steps": steps}
    write_json(run.run_json, run.about() | ending)


def note_finished(run: Run) -> None:
    """Add that nothing is left: it is trained and evaluated."""
    write_json(run.run_json, run.about() | {"finished": True})


def note_memory(run: Run, module: Segmentation, room: Room) -> None:
    """Write where the memory goes: planned for the largest step, and what was taken so far."""
    values = {
        "step": room.to_json(),
        "left_bytes": room.left,
        "memory_bytes": module.memory,
        "shortages": module.shortages,
        "taken_bytes": peak_bytes(),
    }
    write_json(run.memory_json, values)


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}


def _machine() -> dict[str, Any]:
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": gpus,
    }


def _processor() -> str:
    return platform.processor() or platform.machine()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
