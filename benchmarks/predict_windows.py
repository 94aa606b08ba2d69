"""Prediction of a 4096 x 4096 image: one whole forward, exact windows, and MONAI's windows.

Usage: python benchmarks/predict_windows.py            (all cases in turn, writes the result)
       python benchmarks/predict_windows.py CASE       (one case, prints one JSON line)
"""

import json
import sys
import time

import bench
import numpy as np
import torch

import fullconv as fc

SIDE, CLASSES, ROUNDS = 4096, 3, 3
CASES = ("whole", "windows", "monai")
METHOD = (
    f"U-Net of the registry (random weights, eval, channels_last), image {SIDE} x {SIDE} x 3 float32, "
    f"{CLASSES} classes, CPU, inference mode. Each case in a fresh process after a warm-up on 64 px, "
    f"cases in turn, {ROUNDS} rounds; ratios pair by pair. `extra` is the peak resident memory over "
    "what was resident before the call, the map itself not counted. Windows: fc.predict with an eighth "
    "of the memory that the whole forward takes. MONAI: sliding_window_inference, roi 256, overlap "
    "0.25, constant weights, 4 windows at once. Differences are to the whole forward, relative to "
    "the standard deviation of its logits."
)


def network() -> torch.nn.Module:
    """Return the network that all cases share."""
    torch.manual_seed(0)
    net = fc.networks.build("unet", classes=CLASSES).eval()
    return net.to(memory_format=torch.channels_last)


def picture() -> torch.Tensor:
    """Return the image that all cases share."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(1, 3, SIDE // 16, SIDE // 16, generator=generator)
    fine = torch.randn(1, 3, SIDE, SIDE, generator=generator)
    return (torch.nn.functional.interpolate(coarse, size=SIDE, mode="bilinear") + 0.3 * fine)[0]


def run(case: str, budget: int = 0) -> dict[str, float]:
    """Run one case and return its seconds, extra bytes and map."""
    net, image = network(), picture()
    with torch.inference_mode():
        net(torch.zeros(1, 3, 64, 64))
        out = torch.zeros(CLASSES, SIDE, SIDE)
        before, start = bench.resident_bytes(), time.perf_counter()
        if case == "whole":
            out.copy_(net(image[None].contiguous(memory_format=torch.channels_last))[0])
        elif case == "windows":
            fc.predict(net, image, memory=budget, out=out)
        else:
            from monai.inferers import sliding_window_inference

            out.copy_(sliding_window_inference(image[None], (256, 256), 4, net, overlap=0.25)[0])
        seconds = time.perf_counter() - start
    np.save(f"/tmp/predict-{case}.npy", out.numpy())
    return {"seconds": seconds, "extra": bench.peak_bytes() - before}


def main() -> None:
    """Run all cases in turn and write the result."""
    whole = bench.in_fresh_process(__file__, "whole")
    budget = int(whole["extra"] / 8)
    runs: dict[str, list[dict[str, float]]] = {case: [] for case in CASES}
    for _ in range(ROUNDS):
        for case in CASES:
            runs[case].append(bench.in_fresh_process(__file__, case, str(budget)))
    expected = np.load("/tmp/predict-whole.npy")
    figures: dict[str, object] = {"budget_mib": budget / 2**20, "whole": runs["whole"]}
    for case in CASES[1:]:
        found = np.load(f"/tmp/predict-{case}.npy")
        figures[case] = {
            "time_over_whole": bench.ratios(runs, case, "whole", "seconds"),
            "extra_over_whole": bench.ratios(runs, case, "whole", "extra"),
            "largest_difference": float(np.abs(found - expected).max() / expected.std()),
            "labels_changed": int((found.argmax(0) != expected.argmax(0)).sum()),
        }
    bench.write("predict_windows", METHOD, figures)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(run(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)))
    else:
        main()
