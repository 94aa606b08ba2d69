"""Training on whole 980 x 980 images: `fullconv train` against a bare PyTorch loop.

Usage: python benchmarks/train_throughput.py            (all cases in turn, writes the result)
       python benchmarks/train_throughput.py CASE       (one case, prints one JSON line)
"""

import json
import statistics
import sys
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


def images() -> tuple[np.ndarray, np.ndarray]:
    """Return the images and masks that all cases share."""
    generator = np.random.default_rng(0)
    shape = (IMAGES, 3, SIDE // 20, SIDE // 20)
    blocks = generator.integers(0, 256, shape, dtype=np.uint8).repeat(20, 2).repeat(20, 3)
    masks = (blocks[:, 0] // 86).astype(np.uint8)
    return blocks, masks


def bare() -> float:
    """Return the seconds per step of the loop that anybody would write."""
    pixels, masks = images()
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


def job(*, augment: bool) -> float:
    """Return the seconds per step of a training job, from the rows that it wrote."""
    from fullconv.images import ClassTable, write_labels
    from fullconv.training import TrainConfig, train

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("images", "masks"):
            (root / "data" / name).mkdir(parents=True)
        from PIL import Image

        for n, (image, mask) in enumerate(zip(*images(), strict=True)):
            Image.fromarray(image.transpose(1, 2, 0)).save(root / f"data/images/{n}.png")
            write_labels(root / f"data/masks/{n}.png", mask, ClassTable.default(CLASSES))
        config = TrainConfig(data=root / "data", out=root / "run", epochs=EPOCHS, augment=augment)
        run = train(config, console=Console(quiet=True))
        stamps = [float(row["seconds"]) for row in run.steps()]
    return statistics.median(np.diff(stamps)[4:])


def main() -> None:
    """Run all cases in turn and write the result."""
    runs = bench.in_turn(__file__, CASES, ROUNDS)
    figures = {
        case: {
            "throughput_over_bare": bench.ratios(runs, "bare", case, "seconds"),
            "runs": runs[case],
        }
        for case in CASES
    }
    bench.write("train_throughput", METHOD, figures)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        found = bare() if sys.argv[1] == "bare" else job(augment=sys.argv[1] == "default")
        print(json.dumps({"seconds": found}))
    else:
        main()
