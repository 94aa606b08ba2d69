"""Regimes trained from the same weights on the same data, and a page about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from fullconv.comparing._batch import check_batch
from fullconv.comparing._curve import Across, Figure, curve
from fullconv.comparing._quick import opened
from fullconv.comparing._verdict import Verdict, verdict
from fullconv.errors import BadConfigError, BadRunError
from fullconv.reporting import Race, write_race
from fullconv.runs import Run, write_json
from fullconv.training import TrainConfig, check_regimes, train

FIGURES: tuple[Figure, ...] = ("mean_iu", "loss")
ACROSS: tuple[Across, ...] = ("seconds", "step", "images")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The runs of a comparison.

    Attributes:
        runs: For each regime one run per seed.
        verdict: What they say.
        report: Path of the page.
    """

    runs: dict[str, tuple[Run, ...]]
    verdict: Verdict
    report: Path


def compare(
    config: TrainConfig,
    regimes: Sequence[str],
    *,
    seeds: int = 1,
    console: Console | None = None,
) -> Comparison:
    """Train regimes from the same weights, each for the same budget, and compare them.

    Runs lie in ``OUT/REGIME-SEED``. Those that are finished already are not trained again, so a
    comparison that was interrupted goes on, and one may be widened by regimes and seeds.

    Args:
        config: Settings of every run; `out` is the folder of the comparison, `seed` the first seed.
        regimes: Names as for `TrainConfig.sampling`; two at least.
        seeds: Runs of each regime; all regimes share their weights at the start.
        console: Where to show progress; None for the terminal.

    Raises:
        BadConfigError: If there is nothing to compare, or the images cannot make steps of a regime.
        BadRunError: If a run is in the way that had other settings, or was interrupted.
        FullconvError: As `fullconv.training.train`.
    """
    if len(set(regimes)) < 2 or seeds < 1:
        raise BadConfigError(
            f"`regimes` must be two different ones at least, each with a seed, got "
            f"{', '.join(regimes) or 'none'} and {seeds} seeds; try whole,crop:4x256"
        )
    check_batch(config)
    console = console or Console(stderr=True)
    for name in regimes:
        replace(config, sampling=name)  # refuses what is no regime, before hours are spent
    runs: dict[str, list[Run]] = {name: [] for name in regimes}
    numbers = range(config.seed, config.seed + seeds)
    new = [name for name in runs if not all(_is_run(_one(config, name, n)) for n in numbers)]
    if new:
        check_regimes(config, *opened(config, console), new)
    for seed in numbers:
        for name, each in runs.items():
            console.print(f"{name}, seed {seed}")
            one = _one(config, name, seed)
            run = _earlier(one, console) or train(one, console=console)
            if not run.about()["finished"]:
                raise KeyboardInterrupt
            each.append(run)
    return _told(config.out, {name: tuple(each) for name, each in runs.items()})


def _one(config: TrainConfig, name: str, seed: int) -> TrainConfig:
    """Return the settings of one run."""
    out = config.out / f"{name.replace(':', '-')}-{seed}"
    return replace(config, out=out, sampling=name, seed=seed)


def _is_run(config: TrainConfig) -> bool:
    return (config.out / "run.json").is_file()


def _earlier(config: TrainConfig, console: Console) -> Run | None:
    """Return the run of an earlier comparison with the same settings, gone on with if need be."""
    if not _is_run(config):
        return None
    run = Run.open(config.out)
    earlier = TrainConfig.from_dict(run.config())
    # Neither where the data lies now nor how many processes read it changes a run.
    alike = replace(earlier, out=config.out, data=config.data, workers=config.workers)
    if alike.to_dict() != config.to_dict() or earlier.data.resolve() != config.data.resolve():
        raise BadRunError(
            f"`out` must hold runs with these settings alone, got {config.out}, which had others; "
            "remove that folder, or choose another `out`"
        )
    return run if run.about()["finished"] else train(resume=config.out, console=console)


def _told(out: Path, runs: dict[str, tuple[Run, ...]]) -> Comparison:
    found = verdict(runs)
    races = [
        Race(figure=figure, across=across, curves={n: c for n, c in curves.items() if c})
        for figure in FIGURES
        for across in ACROSS
        for curves in [{name: curve(each, figure, across) for name, each in runs.items()}]
    ]
    report = out / "report.html"
    rows = [(e.name, e.final, e.steps, e.reached) for e in found.entries]
    write_race(report, words=found.words, level=found.level, rows=rows, races=races)
    write_json(out / "comparison.json", found.to_json())
    return Comparison(runs=runs, verdict=found, report=report)
