"""Regimes compared without training: gradient signal, noise and seconds of their steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from lightning.pytorch import seed_everything
from rich.console import Console

from fullconv.comparing._batch import check_batch
from fullconv.errors import BadConfigError
from fullconv.images import Dataset, Survey, open_dataset, survey
from fullconv.training import Reading, TrainConfig, counting, fitting_regimes, read_regimes


def fitting(config: TrainConfig, *, console: Console | None = None) -> list[str]:
    """Return the names of regimes worth comparing on these data.

    Args:
        config: Settings of the runs.
        console: Where to show progress; None for the terminal.
    """
    return fitting_regimes(config, *opened(config, console))


def measure(
    config: TrainConfig,
    regimes: Sequence[str],
    *,
    seeds: int = 1,
    console: Console | None = None,
) -> tuple[Reading, ...]:
    """Return what some steps of each regime were found to be, on average; nothing is written.

    Args:
        config: Settings of the runs that would be trained, `seed` the first seed.
        regimes: Names as for `TrainConfig.sampling`.
        seeds: How often to measure, each with weights and images of another seed.
        console: Where to show progress; None for the terminal.

    Raises:
        BadConfigError: If `seeds` is below 1, or the images cannot make steps of a regime.
        FullconvError: If there is no time to measure one, or no memory.
    """
    if seeds < 1:
        raise BadConfigError(f"`seeds` must be at least 1 to measure, got {seeds}; the usual is 1")
    dataset, facts = opened(config, console)
    found: list[tuple[Reading, ...]] = []
    for seed in range(config.seed, config.seed + seeds):
        seed_everything(seed, verbose=False)
        found.append(read_regimes(replace(config, seed=seed), dataset, facts, regimes))
    return tuple(_mean(readings) for readings in zip(*found, strict=True))


def _mean(readings: Sequence[Reading]) -> Reading:
    """Return the reading of a regime from those of several seeds."""
    return Reading(
        regime=readings[0].regime,
        seconds=fmean(one.seconds for one in readings),
        signal=fmean(one.signal for one in readings),
        noise=fmean(one.noise for one in readings),
        steps=sum(one.steps for one in readings),
    )


def opened(config: TrainConfig, console: Console | None) -> tuple[Dataset, Survey]:
    """Return the images of a comparison, and what is in them.

    Args:
        config: Settings of the runs.
        console: Where to show progress; None for the terminal.

    Raises:
        BadConfigError: If `batch` is auto.
    """
    check_batch(config)
    dataset = open_dataset(config.data)
    with counting(console or Console(stderr=True), "reading") as progress:
        return dataset, survey(dataset, progress=progress)
