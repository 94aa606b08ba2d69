"""Training with the default regime, on whole images, on crops, and with MONAI's patch pipeline.

Usage: python benchmarks/peers.py DATA [DATA ...]                      (writes the result, with earlier runs)
       python benchmarks/peers.py DATA --minutes 0.2 --seeds 1 --trial (writes nothing)
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bench
import numpy as np
from rich.console import Console
from torch.utils.data import DataLoader

from fullconv.comparing import measure
from fullconv.training import TrainConfig, _job, _train, train
from fullconv.training._data import ImageData, stack_by_size

MINUTES, SEEDS = 1.5, 3
ARMS = ("auto", "auto_half", "whole", "crop:4x256", "monai")
SAMPLING = {"monai": "crop:4x256", "auto_half": "auto"}
SIDE, SAMPLES = 256, 4
METHOD = (
    "`fullconv train DATA --minutes M --sampling ARM` with all else at its defaults (U-Net, AdamW with "
    "cosine, augmentation, square-root class weights), CPU, float32, all cores; each run in a fresh "
    "process, arms in turn, seeds as rounds. `monai` is the same job whose training loader is MONAI's: "
    f"CacheDataset and RandCropByPosNegLabeld ({SAMPLES} crops of {SIDE} x {SIDE} px of one image, as "
    "many centred on a label above 0 as not), then the same augmentation of each crop. Mean IU of a "
    "curve: of validations of at most 64 whole images while training, against seconds of training, "
    "those that `auto` spends on measuring included; `auto_half`: `auto` with half of the minutes; `final`: of the best weights on all held-out "
    "images; `auto_over_best_other`: of auto and the better of whole and monai, seed by seed. `share_of_time`: seconds until auto reaches the best last value of whole and monai, over "
    "the seconds that this one took to reach it; null if never."
)


class MonaiData(ImageData):
    """The same images, in MONAI's crops."""

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the steps of an epoch."""
        from monai.data import CacheDataset
        from monai.transforms import RandCropByPosNegLabeld

        images = self._train
        items = [
            {"number": n, "image": p, "label": m[None]} for n, (p, m) in enumerate(images._pairs)
        ]
        crop = RandCropByPosNegLabeld(
            keys=("image", "label"),
            label_key="label",
            spatial_size=(SIDE, SIDE),
            num_samples=SAMPLES,
        ).set_random_state(self.seed)
        drawn = iter(range(10**9))

        def batch(found: Sequence[Any]) -> Any:
            pairs = [
                (np.asarray(one["image"]), np.asarray(one["label"])[0])
                for crops in found
                for one in crops
            ]
            tensors = [(self._tensor(p), self._tensor(m).long()) for p, m in pairs]
            if images.augment is None:
                return stack_by_size(tensors)
            return stack_by_size(
                [images.augment(i, m, epoch=0, place=(next(drawn),)) for i, m in tensors]
            )

        dataset = CacheDataset(items, transform=crop, progress=False)
        return DataLoader(dataset, batch_size=1, shuffle=True, collate_fn=batch)

    @staticmethod
    def _tensor(values: np.ndarray) -> Any:
        import torch

        return torch.from_numpy(np.array(values, np.float32))


def run(arm: str, data: Path, minutes: float, seed: int) -> dict[str, Any]:
    """Train once, and return the curve and the final score."""
    measured = 0.0
    choose = _train.choose

    def timed(*args: Any, **kwargs: Any) -> Any:
        nonlocal measured
        start = time.perf_counter()
        found = choose(*args, **kwargs)
        measured = time.perf_counter() - start
        return found

    _train.choose = timed
    if arm == "monai":
        _job.ImageData = MonaiData
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            data=data, out=Path(folder) / "run", seed=seed, sampling=SAMPLING.get(arm, arm),
            minutes=minutes / 2 if arm == "auto_half" else minutes,
        )  # fmt: skip
        done = train(config, console=Console(quiet=True))
        curve = [
            (round(r["seconds"] + measured, 1), round(r["mean_iu"], 4)) for r in done.validation()
        ]
        final = float(done.evaluation()["mean_iu"])
        steps = int(done.steps()[-1]["step"])
        chosen = done.sampling()["sampling"] if SAMPLING.get(arm, arm) == "auto" else arm
    return {"curve": curve, "final": final, "steps": steps, "sampling": chosen}


def quick(data: Path) -> dict[str, float]:
    """Return what `fullconv compare --quick` says of each regime: worth per second."""
    config = TrainConfig(data=data, out=Path("unused"))
    readings = measure(config, ("whole", "crop:4x256"), console=Console(quiet=True))
    return {reading.regime.name: reading.worth for reading in readings}


def compare(
    data: Path, minutes: float, seeds: int, earlier: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    """Return all arms on one data set, and what they say; earlier runs of a seed are not made again."""
    common = ("--minutes", str(minutes))
    found = {arm: list(earlier.get(arm, [])) for arm in ARMS}
    for seed in range(seeds):
        for arm in ARMS:
            if seed < len(found[arm]):
                continue
            arguments = (str(data), "--arm", arm, "--seed", str(seed), *common)
            found[arm].append(bench.in_fresh_process(__file__, *arguments))
            print(data.name, arm, seed, found[arm][-1]["final"], flush=True)
    said = bench.in_fresh_process(__file__, str(data), "--arm", "quick")
    final = {arm: statistics.mean(r["final"] for r in runs) for arm, runs in found.items()}
    return {"final": final, **_race(found), "quick": _quick(said, final), "runs": found}


def _race(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return how auto raced against the better of the others."""
    other = max(("whole", "monai"), key=lambda arm: _mean_last(found[arm]))
    level = _mean_last(found[other])
    theirs, ours = (_reached(found[arm], level) for arm in (other, "auto"))
    return {
        "best_other": other,
        "auto_minus_best_other": statistics.mean(r["final"] for r in found["auto"])
        - max(statistics.mean(r["final"] for r in found[arm]) for arm in ("whole", "monai")),
        "auto_over_best_other": bench.ratios(found, "auto", other, "final"),
        "half_minus_best_other": statistics.mean(r["final"] for r in found["auto_half"])
        - max(statistics.mean(r["final"] for r in found[arm]) for arm in ("whole", "monai")),
        "level": level,
        "share_of_time": ours / theirs if ours and theirs else None,
    }


def _mean_last(runs: list[dict[str, Any]]) -> float:
    return statistics.mean(max(value for _, value in r["curve"]) for r in runs)


def _reached(runs: list[dict[str, Any]], level: float) -> float | None:
    """Return the seconds at which the best so far, averaged over the runs, reaches a level."""
    end = max(run["curve"][-1][0] for run in runs)
    for second in np.linspace(0, end, 400):
        best = [max((v for s, v in run["curve"] if s <= second), default=0.0) for run in runs]
        if statistics.mean(best) >= level - 1e-9:
            return float(second)
    return None


def _quick(worth: dict[str, float], final: dict[str, float]) -> dict[str, Any]:
    said, was = (max(("whole", "crop:4x256"), key=v.__getitem__) for v in (worth, final))
    return {"worth_per_second": worth, "said": said, "was": was, "agreed": said == was}


COLOURS = {
    "auto": "#1f5fa8",
    "auto_half": "#7fb2e5",
    "whole": "#5a6675",
    "crop:4x256": "#9a7d0a",
    "monai": "#c05717",
}


def draw(figures: dict[str, Any], path: Path) -> None:
    """Draw mean IU against seconds for each data set: every run a line, every validation a dot."""
    parts: list[str] = []
    for n, (name, found) in enumerate(figures.items()):
        left = 40 + n * 300
        curves = [(arm, run["curve"]) for arm, runs in found["runs"].items() for run in runs]
        end = max(curve[-1][0] for _, curve in curves)
        top = max(value for _, curve in curves for _, value in curve)
        for arm, curve in curves:
            points = [(left + 230 * s / end, 240 - 195 * max(v, 0) / top) for s, v in curve]
            line = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
            parts.append(f'<path d="M{line}" stroke="{COLOURS[arm]}"/>')
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.8" fill="{COLOURS[arm]}"/>'
                for x, y in points
            ]
        parts.append(f'<text class="title" x="{left}" y="22">{name}</text>')
        parts.append(f'<path class="axis" d="M{left} 40V240H{left + 230}"/>')
        parts.append(f'<text x="{left + 4}" y="36">mean IU {top:.2f}</text>')
        parts.append(f'<text x="{left + 230}" y="256" text-anchor="end">{end:.0f} s</text>')
    keys = "".join(
        f'<text x="{40 + 130 * i}" y="282" style="fill:{colour}">{arm}</text>'
        for i, (arm, colour) in enumerate(COLOURS.items())
    )
    style = (
        "path{fill:none;stroke-width:1.2;stroke-opacity:.7}.axis{stroke:#888;stroke-width:1}"
        "text{font:11px sans-serif;fill:#5a6675}.title{font-weight:600;fill:#1b2430}"
    )
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 940 295"><style>{style}</style>'
        f'<rect width="940" height="295" fill="#fff"/>{"".join(parts)}{keys}</svg>\n'
    )


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
    if given.arm == "quick":
        print(json.dumps(quick(given.data[0])))
    elif given.arm:
        print(json.dumps(run(given.arm, given.data[0], given.minutes, given.seed)))
    else:
        path = bench.RESULTS / "peers.json"
        figures = json.loads(path.read_text())["figures"] if path.exists() else {}
        for data in given.data:
            known = figures.get(data.name, {})
            same = not given.trial and known.get("minutes") == given.minutes
            found = compare(data, given.minutes, given.seeds, known["runs"] if same else {})
            figures[data.name] = {"minutes": given.minutes, **found}
            if given.trial:
                print(json.dumps(found, indent=2))
            else:
                bench.write("peers", METHOD, figures)
                draw(figures, Path(__file__).parents[1] / "docs" / "peers.svg")


if __name__ == "__main__":
    main()
