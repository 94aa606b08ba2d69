"""Images larger than memory: growth, 100,000 x 100,000 px within 1 GiB, exact steps, and peers beside.

Usage: python benchmarks/larger_than_memory.py               (all parts, writes the result)
       python benchmarks/larger_than_memory.py growth sparse (some parts; the others stay as they are)
       python benchmarks/larger_than_memory.py growth --trial (small, writes nothing)
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import bench
import numpy as np
import torch
import torch.nn.functional as F
import zarr
from tilers import PEERS, predictor
from torch import Tensor, nn

import fullconv as fc
from fullconv.prediction import left_for_windows, process_memory

ROUNDS, CLASSES = 2, 3
SIDES = (1024, 2048, 4096, 8192, 16384, 32768)
MOST_REPEATED = 8192
STEP_SIDES = (2048, 4096)
STREAMED_SIDE = PEER_SIDE = 2048
SPARSE_SIDE, BUDGET, SAMPLE_S = 100_000, 2**30, 0.05
WINDOWS = 2**28  # what fc.predict may add, in growth
SHARES = {2048: 1 / 4, 4096: 1 / 8}  # of what a whole step adds, by side
METHOD = (
    "CPU, float32, random weights, channels_last; U-Net of the registry with 3 classes, in `growth` "
    "and `sparse` with width 8 and depth 2 (field 99 px), else with width 16 and depth 4 (field 411 "
    "px); each case in a fresh process after the same call on a small image; cases in turn, "
    f"{ROUNDS} rounds, ratios pair by pair. `extra` is the peak resident memory over what was "
    "resident before. growth: fc.predict from Zarr to Zarr, memory 256 MiB; the image is one fill "
    "value but for a dense square; above 8192 px per side it is run once. sparse: a labelled image of 100,000 x 100,000 px in a process that "
    "may have 1 GiB, its resident memory read every 50 ms; predicted for some minutes, killed, gone "
    "on with; then trained on for some minutes by StepLoss on sub-images. steps: StepLoss with a "
    "quarter of what the whole step adds at 2048 px, an eighth at 4096 px; the second step over the image "
    "is timed, the first one plans and is timed apart (`first`); `extra` is of both. streamed: Dice on the map, likewise. peers: largest error "
    "relative to the standard deviation of the whole forward's logits; MONAI gaussian, roi 256, "
    "overlap 0.5; TorchIO GridSampler and GridAggregator (hann), patch 256, overlap 128; tiler "
    "overlap-tile, 256, overlap 128."
)


def small() -> nn.Module:
    """Return the network of what takes long."""
    torch.manual_seed(0)
    return fc.networks.build("unet", classes=CLASSES, width=8, depth=2).eval()


def large() -> nn.Module:
    """Return the network of steps and peers."""
    torch.manual_seed(0)
    net = fc.networks.build("unet", classes=CLASSES, width=16, depth=4).eval()
    return net.to(memory_format=torch.channels_last)


def sparse_image(path: Path, side: int, dense: int = 1024) -> Path:
    """Write an image that takes no room on disk but for a dense square in the middle, and its labels."""
    names = {"image": ((3, side, side), (3, 512, 512), list("cyx"))}
    names["mask"] = ((side, side), (1024, 1024), list("yx"))
    for name, (shape, chunks, axes) in names.items():
        array = zarr.create_array(
            str(path / f"{name}.zarr"), shape=shape, chunks=chunks, dtype="u1", fill_value=1,
            dimension_names=axes, overwrite=True,
        )  # fmt: skip
        start = (side - dense) // 2
        place = (..., slice(start, start + dense), slice(start, start + dense))
        size = (*shape[:-2], dense, dense)
        array[place] = np.random.default_rng(0).integers(0, 3, size, np.uint8)
    return path / "image.zarr"


def watched(run: Callable[[], Any]) -> dict[str, float]:
    """Return how long something takes, and what it adds to the process."""
    bench.forget_peak()
    before, start = bench.resident_bytes(), time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "extra": bench.peak_bytes() - before}


# growth ------------------------------------------------------------------------------------------


def grow(side: int) -> dict[str, float]:
    """Predict a square from disk to disk."""
    net = small()
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "first"
        fc.predict(net, sparse_image(first, 1024), WINDOWS, first / "out.zarr")
        image = sparse_image(Path(folder) / "image", side)
        found = watched(lambda: fc.predict(net, image, WINDOWS, Path(folder) / "out.zarr"))
    return found | {"seconds_per_mpx": found["seconds"] / side**2 * 1e6}


def growth(trial: bool) -> dict[str, Any]:
    """Return the figures of images that grow."""
    sides = (1024, 2048, 4096) if trial else SIDES
    runs: dict[str, list[dict[str, Any]]] = {str(side): [] for side in sides}
    for number in range(1 if trial else ROUNDS):
        for side in sides:
            arguments = ("--case", "grow", "--side", str(side))
            # The largest ones take long, and are run once.
            again = side <= MOST_REPEATED or not number
            earlier = runs[str(side)]
            earlier.append(bench.in_fresh_process(__file__, *arguments) if again else earlier[0])
    first = "4096"
    return {
        side: {
            "runs": runs[side],
            "seconds_per_mpx_over_4096": bench.ratios(runs, side, first, "seconds_per_mpx"),
            "extra_over_4096": bench.ratios(runs, side, first, "extra"),
        }
        for side in runs
    }


# sparse ------------------------------------------------------------------------------------------


def predict_sparse(folder: Path) -> None:
    """Predict the image in a folder in a process that may have `BUDGET`; print what is done."""
    net = small()
    memory = left_for_windows(process_memory(BUDGET), net, held_bytes=0)

    def tell(done: int, total: int) -> None:
        print(f"{done} {total}", flush=True)

    fc.predict(net, folder / "image.zarr", memory, folder / "out.zarr", progress=tell)


def train_sparse(folder: Path) -> None:
    """Take steps over sub-images from anywhere in such a process; print how many."""
    net = small().train()
    for module in net.modules():  # statistics as they are: windows of one step are one image
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    memory = left_for_windows(process_memory(BUDGET), net, held_bytes=0)
    image, mask = (zarr.open_array(folder / f"{n}.zarr", mode="r") for n in ("image", "mask"))
    step = fc.StepLoss(net, nn.CrossEntropyLoss(reduction="none"), memory)
    for number in range(10**6):
        draw = torch.Generator().manual_seed(number)
        units = fc.Patchwise(count=4, size=512).draw([mask.shape], draw)
        step([image], [mask], units).backward()
        net.zero_grad()
        print(f"{number + 1} 0", flush=True)


def sampled(case: str, folder: Path, seconds: float) -> dict[str, Any]:
    """Run a case for some time, kill it, and return its largest memory and how far it came."""
    command = [sys.executable, __file__, "--case", case, "--folder", str(folder)]
    with (folder / "told").open("w") as told:
        process = subprocess.Popen(command, stdout=told)
    status, page = Path(f"/proc/{process.pid}/statm"), os.sysconf("SC_PAGE_SIZE")
    peak, count = 0, 0
    until = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until:
        peak, count = max(peak, int(status.read_text().split()[1]) * page), count + 1
        time.sleep(SAMPLE_S)
    process.send_signal(signal.SIGKILL)
    process.wait()
    lines = (folder / "told").read_text().split("\n")[:-1]
    counts = [int(line.split()[0]) for line in lines]
    return {
        "seconds": seconds,
        "peak_bytes": peak,
        "samples": count,
        "first": counts[0] if counts else 0,
        "last": counts[-1] if counts else 0,
    }


def sparse(trial: bool) -> dict[str, Any]:
    """Return the figures of an image of 100,000 x 100,000 px."""
    side, seconds = (20_000, 40.0) if trial else (SPARSE_SIDE, 120.0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sparse_image(folder, side)
        runs = {
            "predicted": sampled("predict-sparse", folder, seconds),
            "gone_on": sampled("predict-sparse", folder, seconds),
            "trained": sampled("train-sparse", folder, seconds),
        }
        unfinished = not (folder / "out.zarr").exists()
    shares = {n: run["peak_bytes"] / BUDGET for n, run in runs.items()}
    return {
        "side": side,
        "budget_bytes": BUDGET,
        **runs,
        "went_on_behind_what_was_done": runs["gone_on"]["first"] > runs["predicted"]["first"],
        "killed_leaves_no_output": unfinished,
        "peak_over_budget": {
            "median": sorted(shares.values())[1],
            "min": min(shares.values()),
            "max": max(shares.values()),
        },
    }


# steps and streamed ------------------------------------------------------------------------------


def picture(side: int) -> tuple[Tensor, Tensor]:
    """Return an image with labels."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(3, side, side, generator=generator)
    return image, torch.randint(CLASSES, (side, side), generator=generator)


def dice(found: Tensor, target: Tensor) -> Tensor:
    """Return a loss that is no sum over units."""
    shares, truth = found.softmax(1), F.one_hot(target[None], CLASSES).movedim(-1, 1).float()
    both = (shares * truth).sum((0, 2, 3))
    return 1 - (2 * both / (shares + truth).sum((0, 2, 3))).mean()


def losses(net: nn.Module, budget: int) -> Mapping[str, Callable[[Tensor, Tensor], Tensor]]:
    """Return the cases of a step, from image and labels to a loss."""
    criterion = nn.CrossEntropyLoss(reduction="none")

    def whole(image: Tensor) -> Tensor:
        return net(image[None].contiguous(memory_format=torch.channels_last))

    step, streamed = fc.StepLoss(net, criterion, budget), fc.Streamed(net, budget)
    return {
        "whole": lambda image, target: F.cross_entropy(whole(image), target[None]),
        "step_loss": lambda image, target: step([image], [target]),
        "whole_dice": lambda image, target: dice(whole(image), target),
        "streamed_dice": lambda image, target: dice(streamed(image[None]), target),
    }


def take_step(kind: str, side: int, budget: int) -> dict[str, float]:
    """Run two steps, forward and backward, and return what the second one took."""
    net = large()
    losses(net, 2**30)[kind](*picture(256)).backward()
    net.zero_grad()
    loss, (image, target) = losses(net, budget or 2**30)[kind], picture(side)
    seconds: list[float] = []

    def run() -> None:
        for _ in range(2):
            start = time.perf_counter()
            loss(image, target).backward()
            seconds.append(time.perf_counter() - start)
            net.zero_grad()

    found = watched(run)
    return {"seconds": seconds[1], "first": seconds[0], "extra": found["extra"]}


def compare_steps(names: tuple[str, str], sides: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """Return the figures of a step through windows beside the whole one; a trial has half its memory."""
    whole, windows = names
    figures: dict[str, Any] = {}
    for side in sides:
        share = SHARES[side] if rounds > 1 else 1 / 2
        case = ("--case", "step", "--side", str(side), "--kind")
        budget = int(bench.in_fresh_process(__file__, *case, whole)["extra"] * share)
        cases = {whole: (*case, whole), windows: (*case, windows, "--budget", str(budget))}
        runs = bench.in_turn(__file__, cases, rounds)
        figures[str(side)] = {
            "budget_bytes": budget,
            "runs": runs,
            "time_over_whole": bench.ratios(runs, windows, whole, "seconds"),
            "extra_over_whole": bench.ratios(runs, windows, whole, "extra"),
        }
    return figures


def steps(trial: bool) -> dict[str, Any]:
    """Return the figures of StepLoss."""
    sides, rounds = ((1024,), 1) if trial else (STEP_SIDES, ROUNDS)
    return compare_steps(("whole", "step_loss"), sides, rounds)


def streamed(trial: bool) -> dict[str, Any]:
    """Return the figures of Streamed."""
    side, rounds = (1024, 1) if trial else (STREAMED_SIDE, ROUNDS)
    return compare_steps(("whole_dice", "streamed_dice"), (side,), rounds)


# peers -------------------------------------------------------------------------------------------


def run_peer(kind: str, side: int, budget: int, folder: Path) -> dict[str, float]:
    """Predict, keep the map, and return seconds and extra bytes."""
    predict, found = predictor(kind, large(), CLASSES, budget), np.empty(0)
    with torch.inference_mode():
        predict(picture(512)[0])
        image = picture(side)[0]

        def run() -> None:
            nonlocal found
            found = predict(image)

        taken = watched(run)
    np.save(folder / f"{kind}.npy", found)
    return taken


def peers(trial: bool) -> dict[str, Any]:
    """Return the figures of other tools on the same network and image."""
    side, rounds = (1024, 1) if trial else (PEER_SIDE, ROUNDS)
    with tempfile.TemporaryDirectory() as folder:
        common = ("--case", "peer", "--side", str(side), "--folder", folder, "--kind")
        whole = bench.in_fresh_process(__file__, *common, "whole")
        budget = max(2**26, int(whole["extra"] / 16))
        cases = {k: (*common, k, "--budget", str(budget)) for k in ("whole", *PEERS)}
        runs = bench.in_turn(__file__, cases, rounds)
        expected = np.load(Path(folder) / "whole.npy")
        figures: dict[str, Any] = {"budget_bytes": budget, "whole": {"runs": runs["whole"]}}
        for kind in PEERS:
            found = np.load(Path(folder) / f"{kind}.npy")
            figures[kind] = {
                "runs": runs[kind],
                "time_over_whole": bench.ratios(runs, kind, "whole", "seconds"),
                "extra_over_whole": bench.ratios(runs, kind, "whole", "extra"),
                "largest_error": float(np.abs(found - expected).max() / expected.std()),
                "labels_changed": int((found.argmax(0) != expected.argmax(0)).sum()),
            }
    return figures


PARTS = {
    "growth": growth,
    "sparse": sparse,
    "steps": steps,
    "streamed": streamed,
    "peers": peers,
}


def case(given: argparse.Namespace) -> None:
    """Run one case in this process, and print its figures."""
    match given.case:
        case "grow":
            found = grow(given.side)
        case "step":
            found = take_step(given.kind, given.side, given.budget)
        case "peer":
            found = run_peer(given.kind, given.side, given.budget, given.folder)
        case "predict-sparse":
            return predict_sparse(given.folder)
        case _:
            return train_sparse(given.folder)
    return print(json.dumps(found))


def main() -> None:
    """Run parts, and write their results beside those of the others."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []])
    parser.add_argument("--trial", action="store_true")
    parser.add_argument("--case")
    parser.add_argument("--kind")
    parser.add_argument("--side", type=int)
    parser.add_argument("--budget", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.case:
        case(given)
        return
    path = bench.RESULTS / "larger_than_memory.json"
    figures = json.loads(path.read_text())["figures"] if path.exists() else {}
    for name in given.parts or PARTS:
        figures[name] = PARTS[name](given.trial)
        if given.trial:
            print(json.dumps({name: figures[name]}, indent=2))
        else:
            bench.write("larger_than_memory", METHOD, figures)


if __name__ == "__main__":
    main()
