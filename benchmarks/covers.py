"""Steps over few or many units: the cheapest cover against one window per unit and the whole image.

Usage: python benchmarks/covers.py            (all cases, writes the result and docs/covers.svg)
       python benchmarks/covers.py --trial    (few cases once, writes nothing)
       ... --device cuda                      (a GPU; its results are kept apart)
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import bench
import torch
from torch import Tensor, nn

import fullconv as fc
from fullconv.execution import choose

SIDE = 512
SHARES = (0.0005, 0.002, 0.01, 0.05, 0.164, 0.5, 1.0)
COUNTS = (1, 4, 16, 64, 256)
# Of the cover of single units: above, its seconds go with their number.
MOST_UNITS = {"small-field": 400, "field-like-image": 8, "large-field": 8}
ROUNDS = 5
# Of quick steps, several follow each other, and their median counts.
ENOUGH_S, MOST_STEPS = 0.3, 25
COVERS = ("units", "whole", "cheapest")
METHOD = (
    f"One step (forward and backward) of fullconv.StepLoss on an image of {SIDE} x {SIDE} x 3 px, CPU, "
    "float32, all cores, over chosen units: a random share of all (`sampled`), a number of single units "
    "anywhere (`patchwise`), 4 clusters of 24 x 24 units (`clustered`), 64 units of each of two classes, "
    "one of which is one blob (`balanced`), the hardest percent (`hard`). `units`: one window per unit "
    "(above 400 or 8 units, for small and large fields, that many are run and the seconds scaled up); `whole`: one window; "
    f"`cheapest`: chosen by cost, planning included. Median of {ROUNDS} rounds, covers in turn, each "
    "right behind a step of its own that is not counted, as in training, where steps follow their like; "
    f"of steps that take less than {ENOUGH_S} s, up to {MOST_STEPS}, their median. `planning_share`: of making "
    "the cover alone. `cheapest_over_best` is cheapest over the better of both ends, pair by pair."
)


def conv(a: int, b: int) -> nn.Sequential:
    """Return a convolution with its nonlinearity."""
    return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU())


def networks() -> dict[str, nn.Module]:
    """Return networks with a field far below, about, and far above the image."""
    torch.manual_seed(0)
    small = nn.Sequential(conv(3, 32), conv(32, 32), conv(32, 32), nn.Conv2d(32, 4, 1))
    middle = fc.networks.build("unet", classes=4, width=12, norm="none")
    large = nn.Sequential(
        fc.networks.build("unet", classes=8, width=8, norm="none"),
        fc.networks.build("unet", classes=4, channels=8, width=8, norm="none"),
    )
    return {
        "small-field": small.eval(),
        "field-like-image": middle.eval(),
        "large-field": large.eval(),
    }


def blob_labels() -> Tensor:
    """Labels of two classes: a blob of 60 x 60 px somewhere, and all the rest."""
    target = torch.zeros(SIDE, SIDE, dtype=torch.long)
    target[300:360, 100:160] = 1
    return target


def selections(
    step: fc.StepLoss, image: Tensor, target: Tensor, *, trial: bool
) -> dict[str, Tensor]:
    """Return the units of each case."""
    draw = torch.Generator().manual_seed(0)
    found = {f"sampled:{p}": fc.Sampled(keep=p)(target, draw) for p in SHARES}
    found |= {f"patchwise:{n}": fc.Patchwise(count=n)(target, draw) for n in COUNTS}
    clustered = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    for y, x in ((10, 30), (400, 60), (380, 440), (120, 300)):
        clustered[y : y + 24, x : x + 24] = True
    found["clustered"] = clustered
    rare = blob_labels()
    rare[rare == 0] = 255
    rare[40:70, 420:450] = 0
    found["balanced"] = fc.Balanced(count=128)(rare, draw)
    found["hard"] = fc.Hard(keep=0.01).hardest([target], step.losses([image], [target]))[0]
    return {k: found[k] for k in ("sampled:0.002", "clustered")} if trial else found


def measure(name: str, net: nn.Module, device: str, *, trial: bool) -> dict[str, Any]:
    """Return the seconds of all covers of all cases for one network."""
    net = net.to(device)
    image = torch.randn(3, SIDE, SIDE, device=device)
    target = blob_labels().to(device)
    criterion = nn.CrossEntropyLoss(reduction="none")
    steps = {c: fc.StepLoss(net, criterion, covering=c) for c in COVERS}  # pyright: ignore[reportArgumentType]
    cases = selections(steps["cheapest"], image, target, trial=trial)
    found: dict[str, Any] = {"field": fc.trace(net, shape=(SIDE, SIDE)).field, "cases": {}}
    for case, units in cases.items():
        found["cases"][case] = _case(steps, image, target, units, MOST_UNITS[name])
    worst = max(case["cheapest_over_best"]["median"] for case in found["cases"].values())
    return found | {"worst": worst}


def _case(
    steps: dict[str, fc.StepLoss], image: Tensor, target: Tensor, units: Tensor, most: int
) -> dict[str, Any]:
    count = int(units.sum())
    few = units.clone()
    few.view(-1)[units.view(-1).nonzero().flatten()[most:]] = False
    chosen = {"units": few, "whole": units, "cheapest": units}
    scale = {"units": count / int(few.sum()), "whole": 1.0, "cheapest": 1.0}

    def run(cover: str) -> float:
        step(cover)
        taken: list[float] = []
        while sum(taken) < ENOUGH_S and len(taken) < MOST_STEPS:
            _wait()
            start = time.perf_counter()
            step(cover)
            _wait()
            taken.append(time.perf_counter() - start)
        return statistics.median(taken) * scale[cover]

    def step(cover: str) -> None:
        steps[cover]([image], [target], [chosen[cover]]).backward()

    step("cheapest")
    step("units")
    seconds: dict[str, list[float]] = {c: [] for c in COVERS}
    for _ in range(ROUNDS):
        for cover in COVERS:
            seconds[cover].append(run(cover))
    best = {c: statistics.median(each) for c, each in seconds.items()}
    end = min(("units", "whole"), key=lambda c: best[c])
    pairs = [a / b for a, b in zip(seconds["cheapest"], seconds[end], strict=True)]
    planner, shape = steps["cheapest"]._planner, (SIDE, SIDE)
    chosen_units = choose(target, units, None).spread()
    start = time.perf_counter()
    windows = len(planner.cover(3, shape, shape, chosen_units))
    planning = time.perf_counter() - start
    return {
        "units": count, "windows": windows, "seconds": best,
        "cheapest_over_best": {"median": statistics.median(pairs), "min": min(pairs), "max": max(pairs)},
        "planning_share": planning / best["cheapest"],
    }  # fmt: skip


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def draw(figures: dict[str, Any], path: Path) -> None:
    """Draw seconds against the share of units, for each network: plain SVG, logarithmic axes."""
    from math import log10

    colours = {"units": "#c05717", "whole": "#5a6675", "cheapest": "#1f5fa8"}
    lines: list[str] = []
    parts: list[str] = []
    for n, (name, found) in enumerate(figures.items()):
        cases = {
            float(k.split(":")[1]): v for k, v in found["cases"].items() if k.startswith("sampled")
        }
        values = [s for case in cases.values() for s in case["seconds"].values()]
        low, high = log10(min(values)), log10(max(values))
        left = 40 + n * 300

        def place(
            p: float, s: float, low: float = low, high: float = high, left: int = left
        ) -> str:
            x = left + 220 * (log10(p) - log10(SHARES[0])) / -log10(SHARES[0])
            return f"{x:.1f} {250 - 200 * (log10(s) - low) / (high - low):.1f}"

        x = place(0.164, 10**low).split()[0]
        parts.append(f'<path class="rule" d="M{x} 45V250"/><text x="{x}" y="42">p = 0.164</text>')
        parts.append(
            f'<text class="title" x="{left}" y="22">{name}, field {found["field"][0]} px</text>'
        )
        parts.append(f'<path class="axis" d="M{left} 45V250H{left + 220}"/>')
        for value in (low, high):
            y = 250 - 200 * (value - low) / (high - low)
            parts.append(
                f'<text x="{left + 4}" y="{y - 4:.0f}">{float(f"{10**value:.2g}"):g} s</text>'
            )
        parts += [
            f'<text x="{place(p, 10**low).split()[0]}" y="266">{p:g}</text>'
            for p in (0.0005, 0.01, 1)
        ]
        for cover, colour in colours.items():
            line = "L".join(place(p, case["seconds"][cover]) for p, case in sorted(cases.items()))
            lines.append(f'<path d="M{line}" stroke="{colour}"/>')
    keys = "".join(
        f'<text x="{40 + 150 * i}" y="292" style="fill:{colour}">{cover}</text>'
        for i, (cover, colour) in enumerate(colours.items())
    )
    style = (
        "path{fill:none;stroke-width:2}.rule{stroke:#bbb;stroke-width:1;stroke-dasharray:4 3}"
        ".axis{stroke:#888;stroke-width:1}"
        "text{font:11px sans-serif;fill:#5a6675;stroke:#fff;stroke-width:3px;paint-order:stroke}"
        ".title{font-weight:600;fill:#1b2430}"
    )
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 940 305"><style>{style}</style>'
        f'<rect width="940" height="305" fill="#fff"/>{"".join(lines + parts)}{keys}</svg>\n'
    )


def main() -> None:
    """Measure all networks and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trial", action="store_true")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    figures = {
        n: measure(n, net, options.device, trial=options.trial) for n, net in networks().items()
    }
    if options.trial:
        print(json.dumps(figures, indent=2))
        return
    if options.device == "cpu":
        draw(figures, Path(__file__).parents[1] / "docs" / "covers.svg")
    suffix = "" if options.device == "cpu" else f"_{options.device}"
    bench.write(f"covers{suffix}", METHOD, figures)


if __name__ == "__main__":
    main()
