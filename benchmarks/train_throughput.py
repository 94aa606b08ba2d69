"""Training on whole 980 x 980 images: `fullconv train` against a bare PyTorch loop.

Usage: python benchmarks/train_throughput.py                (all cases in turn, writes the result)
       python benchmarks/train_throughput.py --side 200     (a trial, writes nothing)
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import bench
import numpy as np
import torch
from rich.console import Console

import fullconv as fc

SIDE, CLASSES, IMAGES, EPOCHS, ROUNDS = 980, 3, 12, 3, 3
CASES = ("bare", "plain", "default")
METHOD = (
    f"The registry's U-Net (default options), {IMAGES} images of {SIDE} x {SIDE} x 3 uint8 as PNG, "
    f"{CLASSES} classes, batch 1, AdamW, {EPOCHS} epochs, CPU, float32. `bare`: forward, cross "
    "entropy, backward and step over tensors already in memory as normalised float32, "
    "channels_last. `plain`: the whole training job without augmentation; `default`: with it. "
    "Seconds per step are the median over the steps of a run after the first four (validation "
    f"falls between steps). Each case in a fresh process, in turn, {ROUNDS} rounds; throughput "
    "over the bare loop's, pair by pair."
)


def images(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the images and masks that all cases share."""
    generator = np.random.default_rng(0)
    shape = (IMAGES, 3, side // 20, side // 20)
    blocks = generator.integers(0, 256, shape, dtype=np.uint8).repeat(20, 2).repeat(20, 3)
    masks = (blocks[:, 0] // 86).astype(np.uint8)
    return blocks, masks


def bare(side: int) -> float:
    """Return the seconds per step of the loop that anybody would write."""
    pixels, masks = images(side)
    torch.manual_seed(0)
    net = fc.networks.build("unet", classes=CLASSES).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    x = (
        torch.from_numpy(pixels)
        .float()
        .sub(128)
        .div(64)
        .contiguous(memory_format=torch.channels_last)
    )
    y = torch.from_numpy(masks).long()
    seconds: list[float] = []
    for step in range(IMAGES * EPOCHS):
        start, n = time.perf_counter(), step % IMAGES
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x[n : n + 1]), y[n : n + 1]).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[4:])


def job(side: int, *, augment: bool) -> float:
    """Return the seconds per step of a training job, from the rows that it wrote."""
    from fullconv.images import ClassTable, write_labels
    from fullconv.training import TrainConfig, train

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ["XDG_CACHE_HOME"] = folder
        for name in ("images", "masks"):
            (root / "data" / name).mkdir(parents=True)
        from PIL import Image

        for n, (image, mask) in enumerate(zip(*images(side), strict=True)):
            Image.fromarray(image.transpose(1, 2, 0)).save(root / f"data/images/{n}.png")
            write_labels(root / f"data/masks/{n}.png", mask, ClassTable.default(CLASSES))
        config = TrainConfig(
            data=root / "data", out=root / "run", epochs=EPOCHS, augment=augment, sampling="whole"
        )
        run = train(config, console=Console(quiet=True))
        stamps = [float(row["seconds"]) for row in run.steps()]
    return statistics.median(np.diff(stamps)[4:])


def main() -> None:
    """Run all cases in turn, and write the result if it is of full size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=SIDE, help="px, a multiple of 20")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--case", choices=CASES)
    given = parser.parse_args()
    if given.case:
        bare_loop = given.case == "bare"
        found = bare(given.side) if bare_loop else job(given.side, augment=given.case == "default")
        print(json.dumps({"seconds": found}))
        return
    cases = {case: ("--case", case, "--side", str(given.side)) for case in CASES}
    runs = bench.in_turn(__file__, cases, given.rounds)
    figures = {
        case: {
            "throughput_over_bare": bench.ratios(runs, "bare", case, "seconds"),
            "runs": runs[case],
        }
        for case in CASES
    }
    if (given.side, given.rounds) == (SIDE, ROUNDS):
        bench.write("train_throughput", METHOD, figures)
    else:
        print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
