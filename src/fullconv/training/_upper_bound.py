"""How well a network of some stride can do at best on a data set, by its masks alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from fullconv.errors import BadConfigError
from fullconv.images import open_dataset, read_mask, survey
from fullconv.scoring import AbsentRule, Confusion, Scores, coarsened, score
from fullconv.training._counting import counting


@dataclass(frozen=True, kw_only=True, slots=True)
class UpperBound:
    """The metrics of the true masks themselves, made coarser and enlarged again.

    Attributes:
        factor: Px of a unit's side.
        scores: The metrics.
        classes: Names of the classes.
    """

    factor: int
    scores: Scores
    classes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the metrics as JSON values."""
        found = self.scores
        return {
            "factor": self.factor,
            "pixel_accuracy": found.pixel_accuracy,
            "mean_accuracy": found.mean_accuracy,
            "mean_iu": found.mean_iu,
            "fw_iu": found.fw_iu,
            "iu": dict(zip(self.classes, found.iu, strict=True)),
        }


def upper_bounds(
    data: Path,
    factors: Sequence[int],
    *,
    split: str | None = None,
    absent: AbsentRule = "reference",
    console: Console | None = None,
) -> tuple[UpperBound, ...]:
    """Return what the masks of a data set lose on the way through coarser maps.

    Args:
        data: A data set with masks.
        factors: Px of a unit's side, such as 8, 16 and 32.
        split: ``train``, ``val`` or ``test``; None for all masks.
        absent: What becomes of a class that is nowhere true; see `fullconv.scoring.score`.
        console: Where to show progress; None for the terminal.

    Raises:
        BadDataError: If the data cannot be used.
        BadConfigError: If there is no such split, or a factor is not a whole number of at least 1.
    """
    dataset = open_dataset(data, training=False)
    if split is not None and split not in dataset.splits:
        raise BadConfigError(
            f"`split` must be one that the data have, {', '.join(dataset.splits)}, got {split!r}"
        )
    console = console or Console(stderr=True)
    with counting(console, "reading") as progress:
        classes = survey(dataset, progress=progress).classes
    samples = dataset.splits[split] if split else dataset.samples
    masks = [sample.mask for sample in samples if sample.mask is not None]
    counts = [Confusion(classes.num_classes, ignore=classes.ignore) for _ in factors]
    with counting(console, "coarsening") as progress:
        for done, path in enumerate(masks, start=1):
            true = read_mask(path, classes)
            for factor, confusion in zip(factors, counts, strict=True):
                found = coarsened(true, factor, classes=classes.num_classes, ignore=classes.ignore)
                confusion.update(
                    torch.from_numpy(found.astype(np.int64)),
                    torch.from_numpy(true.astype(np.int64)),
                )
            progress(done, len(masks))
    return tuple(
        UpperBound(
            factor=factor, scores=score(confusion.matrix(), absent=absent), classes=classes.names
        )
        for factor, confusion in zip(factors, counts, strict=True)
    )
