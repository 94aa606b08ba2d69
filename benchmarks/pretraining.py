"""What weights of ImageNet buy: the same network for the same minutes, with them and without.

Usage: python benchmarks/pretraining.py DATA [DATA ...]                      (writes the result)
       python benchmarks/pretraining.py DATA --minutes 0.2 --seeds 1 --trial (writes nothing)
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import bench
from rich.console import Console

from fullconv.training import TrainConfig, train

MINUTES, SEEDS = 1.0, 2
NETWORK = "unet:efficientnet-lite0"
ARMS = ("pretrained", "frozen", "fresh")
METHOD = (
    "`fullconv train DATA --net unet:efficientnet-lite0 --minutes M --sampling crop:4x256` with `--weights "
    "pretrained` (`pretrained`), with `--options.norms frozen` as well (`frozen`), and without either "
    "(`fresh`); all else at its defaults (AdamW with cosine, augmentation, square-root class weights), "
    "CPU, float32, all cores; each run in a fresh process, arms in turn, seeds as rounds. Mean IU of the "
    "best weights on all held-out images (`final`), and of validations of at most 64 whole images while "
    "training against seconds (`curve`)."
)


def run(arm: str, data: Path, minutes: float, seed: int) -> dict[str, Any]:
    """Train once, and return the curve and the final score."""
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            data=data, out=Path(folder) / "run", minutes=minutes, seed=seed, net=NETWORK,
            sampling="crop:4x256", weights=None if arm == "fresh" else Path("pretrained"),
            options={"norms": "frozen"} if arm == "frozen" else {},
        )  # fmt: skip
        done = train(config, console=Console(quiet=True))
        curve = [(round(r["seconds"], 1), round(r["mean_iu"], 4)) for r in done.validation()]
        steps = int(done.steps()[-1]["step"])
        return {"curve": curve, "final": float(done.evaluation()["mean_iu"]), "steps": steps}


def compare(data: Path, minutes: float, seeds: int) -> dict[str, Any]:
    """Return all arms on one data set."""
    common = (str(data), "--minutes", str(minutes))
    found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
    for seed in range(seeds):
        for arm in ARMS:
            found[arm].append(
                bench.in_fresh_process(__file__, *common, "--arm", arm, "--seed", str(seed))
            )
            print(data.name, arm, seed, found[arm][-1]["final"], flush=True)
    return {
        "minutes": minutes,
        "final": {arm: statistics.mean(r["final"] for r in runs) for arm, runs in found.items()},
        "pretrained_over_fresh": bench.ratios(found, "pretrained", "fresh", "final"),
        "frozen_over_fresh": bench.ratios(found, "frozen", "fresh", "final"),
        "runs": found,
    }


def main() -> None:
    """Run all arms on all data sets, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--trial", action="store_true")
    parser.add_argument("--arm")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.arm:
        print(json.dumps(run(given.arm, given.data[0], given.minutes, given.seed)))
        return
    figures = {data.name: compare(data, given.minutes, given.seeds) for data in given.data}
    if given.trial:
        print(json.dumps(figures, indent=2))
    else:
        bench.write("pretraining", METHOD, figures)


if __name__ == "__main__":
    main()
