"""Regimes compared without training: gradient signal, noise and seconds of their steps."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch import seed_everything
from rich.console import Console

from fullconv.comparing._batch import check_batch
from fullconv.images import Dataset, Survey, open_dataset, survey
from fullconv.training import Reading, TrainConfig, counting, fitting_regimes, read_regimes


def fitting(config: TrainConfig, *, console: Console | None = None) -> list[str]:
    """Return the names of regimes worth comparing on these data.

    Args:
        config: Settings of the runs.
        console: Where to show progress; None for the terminal.
    """
    return fitting_regimes(config, *_opened(config, console))


def measure(
    config: TrainConfig, regimes: Sequence[str], *, console: Console | None = None
) -> tuple[Reading, ...]:
    """Return what some steps of each regime were found to be; nothing is written.

    Args:
        config: Settings of the runs that would be trained.
        regimes: Names as for `TrainConfig.sampling`.
        console: Where to show progress; None for the terminal.
    """
    dataset, facts = _opened(config, console)
    seed_everything(config.seed, verbose=False)
    return read_regimes(config, dataset, facts, regimes)


def _opened(config: TrainConfig, console: Console | None) -> tuple[Dataset, Survey]:
    check_batch(config)
    dataset = open_dataset(config.data)
    with counting(console or Console(stderr=True), "reading") as progress:
        return dataset, survey(dataset, progress=progress)
