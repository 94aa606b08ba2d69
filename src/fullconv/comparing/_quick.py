"""Regimes compared without training: gradient signal, noise and seconds of their steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import seed_everything
from rich.console import Console

from fullconv.images import open_dataset, survey
from fullconv.training import Reading, TrainConfig, counting, read_regimes


def measure(
    config: TrainConfig, regimes: Sequence[str], *, console: Console | None = None
) -> tuple[Reading, ...]:
    """Return what some steps of each regime were found to be; nothing is written.

    Args:
        config: Settings of the runs that would be trained.
        regimes: Names as for `TrainConfig.sampling`.
        console: Where to show progress; None for the terminal.
    """
    console = console or Console(stderr=True)
    with counting(console, "reading") as progress:
        dataset = open_dataset(Path(config.data))
        facts = survey(dataset, progress=progress)
    seed_everything(config.seed, verbose=False)
    return read_regimes(config, dataset, facts, regimes)
