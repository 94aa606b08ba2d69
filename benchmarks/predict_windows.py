"""Prediction of large images: one whole forward, exact windows, and MONAI's windows.

Usage: python benchmarks/predict_windows.py                 (all cases in turn, writes the result)
       python benchmarks/predict_windows.py unet-8192       (these alone; the others stay as they are)
       python benchmarks/predict_windows.py --side 512      (a trial, writes nothing)
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import bench
import numpy as np
import torch
from torch import Tensor

import fullconv as fc

CLASSES, ROUNDS = 3, 3
WARM_UP_PX = 256
LEAST_BYTES = 2**25  # for trials on small images


@dataclass(frozen=True, kw_only=True)
class Job:
    """A network, an image, and what windows may take.

    Attributes:
        options: Of the network.
        side: Of the image, in px.
        share: Of the memory of the whole forward, for windows.
    """

    options: dict[str, Any] = field(default_factory=dict)
    side: int = 4096
    share: float = 0.24


JOBS = {
    "unet": Job(),
    "unet-small-field": Job(options={"depth": 2}),
    "unet-8192": Job(side=8192, share=1 / 16),
}
CASES = ("whole", "windows", "monai") if find_spec("monai") else ("whole", "windows")
METHOD = (
    "U-Net of the registry (random weights, eval, channels_last), image 4096 x 4096 x 3 float32, and "
    f"8192 x 8192 for `unet-8192`, {CLASSES} classes, CPU, inference mode; default options, and depth "
    f"2 for `unet-small-field`. Each case in a fresh process after the same call on {WARM_UP_PX} px, so that "
    f"libraries and kernels are loaded; cases in turn, {ROUNDS} rounds; ratios pair by pair. "
    "`extra` is the peak resident memory of the call over what was resident before it, the map "
    "itself not counted. Windows: fc.predict with 0.24 of the memory that the whole forward takes, "
    "and 1/16 of it for `unet-8192`. MONAI: sliding_window_inference, roi 256, overlap 0.25, constant weights, 4 windows at "
    "once. Differences are to the whole forward, relative to the standard deviation of its logits."
)


def network(name: str) -> torch.nn.Module:
    """Return a network that all its cases share."""
    torch.manual_seed(0)
    net = fc.networks.build("unet", classes=CLASSES, **JOBS[name].options).eval()
    return net.to(memory_format=torch.channels_last)


def picture(side: int) -> Tensor:
    """Return the image that all cases share."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(1, 3, side // 16, side // 16, generator=generator)
    fine = torch.randn(1, 3, side, side, generator=generator)
    return (torch.nn.functional.interpolate(coarse, size=side, mode="bilinear") + 0.3 * fine)[0]


def predictor(case: str, net: torch.nn.Module, budget: int) -> Callable[[Tensor, Tensor], Any]:
    """Return what a case does: it takes an image and writes its map."""
    if case == "whole":
        return lambda image, out: out.copy_(
            net(image[None].contiguous(memory_format=torch.channels_last))[0]
        )
    if case == "windows":
        return lambda image, out: fc.predict(net, image, memory=budget, out=out)
    from monai.inferers import sliding_window_inference

    slide = partial(sliding_window_inference, roi_size=(256, 256), sw_batch_size=4, overlap=0.25)
    return lambda image, out: out.copy_(slide(image[None], predictor=net)[0])


def run(name: str, case: str, side: int, budget: int, folder: Path) -> dict[str, float]:
    """Run one case, keep its map, and return its seconds and extra bytes."""
    predict = predictor(case, network(name), budget)
    with torch.inference_mode():
        predict(picture(WARM_UP_PX), torch.zeros(CLASSES, WARM_UP_PX, WARM_UP_PX))
        image, out = picture(side), torch.zeros(CLASSES, side, side)
        bench.forget_peak()
        before, start = bench.resident_bytes(), time.perf_counter()
        predict(image, out)
        seconds = time.perf_counter() - start
    extra = bench.peak_bytes() - before
    np.save(folder / f"{case}.npy", out.numpy())
    return {"seconds": seconds, "extra": extra}


def compare(name: str, side: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Return the figures of a network: all cases in turn."""

    def arguments(case: str, budget: int) -> list[str]:
        given = ("--network", name, "--side", side, "--budget", budget, "--folder", folder)
        return ["--case", case, *map(str, given)]

    whole = bench.in_fresh_process(__file__, *arguments("whole", 0))
    budget = max(LEAST_BYTES, int(whole["extra"] * JOBS[name].share))
    runs = bench.in_turn(__file__, {case: arguments(case, budget) for case in CASES}, rounds)
    geometry = fc.trace(network(name))
    figures = {
        "options": JOBS[name].options,
        "side": side,
        "field": geometry.field,
        "budget_mib": budget / 2**20,
    }
    expected = np.load(folder / "whole.npy")
    return figures | {
        case: {"runs": runs[case]}
        | ({} if case == "whole" else _beside_whole(runs, case, folder, expected))
        for case in CASES
    }


def _beside_whole(
    runs: dict[str, list[dict[str, Any]]], case: str, folder: Path, expected: np.ndarray
) -> dict[str, Any]:
    found = np.load(folder / f"{case}.npy")
    return {
        "time_over_whole": bench.ratios(runs, case, "whole", "seconds"),
        "extra_over_whole": bench.ratios(runs, case, "whole", "extra"),
        "largest_difference": float(np.abs(found - expected).max() / expected.std()),
        "labels_changed": int((found.argmax(0) != expected.argmax(0)).sum()),
    }


def main() -> None:
    """Run all cases of all jobs, or of those named, and write the result if it is of full size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("jobs", nargs="*", choices=[*JOBS, []])
    parser.add_argument("--side", type=int)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--network")
    parser.add_argument("--case")
    parser.add_argument("--budget", type=int)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.case:
        print(json.dumps(run(given.network, given.case, given.side, given.budget, given.folder)))
        return
    figures: dict[str, Any] = {}
    for name in given.jobs or JOBS:
        with tempfile.TemporaryDirectory() as folder:
            side = given.side or JOBS[name].side
            figures[name] = compare(name, side, given.rounds, Path(folder))
    if given.side or given.rounds != ROUNDS:
        print(json.dumps(figures, indent=2))
        return
    path = bench.RESULTS / "predict_windows.json"
    earlier = json.loads(path.read_text())["figures"] if path.exists() else {}
    bench.write("predict_windows", METHOD, earlier | figures)


if __name__ == "__main__":
    main()
