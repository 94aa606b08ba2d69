"""The metrics of a run's network on a data set."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from fullconv.errors import BadConfigError, BadDataError
from fullconv.images import (
    ClassTable,
    Dataset,
    Sample,
    Survey,
    goes_by_pieces,
    open_dataset,
    survey,
)
from fullconv.prediction import best_device, left_for_windows, process_memory
from fullconv.runs import Run
from fullconv.training._counting import counting
from fullconv.training._evaluation import Evaluation, evaluate

# Per pixel of an image, besides its own bytes: labels, mask and their int64 copies.
SCORING_BYTES_PER_PX = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class RunScore:
    """How a run did on a split.

    Attributes:
        split: The split that was used.
        evaluation: The metrics.
        num_trained_on: How many of the images the network was trained on.
    """

    split: str
    evaluation: Evaluation
    num_trained_on: int


def score_run(
    run: Run,
    data: Path,
    *,
    split: str | None = None,
    memory: str | int | None = None,
    console: Console | None = None,
) -> RunScore:
    """Return the metrics of a run's best weights on a data set.

    On the data that the run was trained on, the same images are held out as then. Other data are
    used as they are: their ``test`` or ``val``, or all of them where they make no split.

    Args:
        run: A run with weights.
        data: A data set with masks, and the classes of the run.
        split: ``train``, ``val`` or ``test``; None for the held-out one.
        memory: For the whole process: "2 GiB", "500MB", "80%" or bytes. None for whole images.
        console: Where to show progress; None for the terminal.

    Raises:
        BadDataError: If the data cannot be used, or have other classes or channels than the run.
        BadConfigError: If there is no such split.
        FullconvError: If an image does not fit the memory.
    """
    console = console or Console(stderr=True)
    limit = None if memory is None else process_memory(memory)
    dataset = _opened(run, data)
    with counting(console, "reading") as progress:
        facts = survey(dataset, progress=progress)
    channels = run.recipe().channels
    if facts.channels != channels:
        raise BadDataError(
            f"`data` must have images of {channels} channels as those that the network was trained "
            f"on, got {facts.channels} in {data}"
        )
    name, samples = _chosen(dataset, split)
    net = run.network().to(best_device())
    held = held_bytes(samples, facts)
    budget = None if limit is None else left_for_windows(limit, net, held_bytes=held)
    with counting(console, "evaluating") as progress:
        found = evaluate(net, samples, run.classes(), memory=budget, progress=progress)
    return RunScore(
        split=name, evaluation=found, num_trained_on=_num_trained_on(run, samples, facts)
    )


def _opened(run: Run, data: Path) -> Dataset:
    """Return the data set with the classes of the run, split as then if the run is of these data."""
    same = Path(run.data()["data"]).resolve() == data.resolve()
    dataset = open_dataset(data, training=same)
    classes = run.classes()
    if dataset.classes is not None and _meaning(dataset.classes) != _meaning(classes):
        raise BadDataError(
            f"`data` must have the classes of the run, {', '.join(classes.names)}, got "
            f"{', '.join(dataset.classes.names)} in {data}; evaluate a run that was trained on them"
        )
    return replace(dataset, classes=dataset.classes or classes)


def _meaning(classes: ClassTable) -> tuple[object, ...]:
    return classes.names, classes.indices


def _chosen(dataset: Dataset, split: str | None) -> tuple[str, Sequence[Sample]]:
    name = split or dataset.held_out
    if name not in dataset.splits:
        raise BadConfigError(
            f"`split` must be one that the data have, {', '.join(dataset.splits)}, got {name!r}"
        )
    return name, dataset.splits[name]


def held_bytes(samples: Sequence[Sample], facts: Survey) -> int:
    """Return what the largest image takes besides the windows: itself, labels and mask."""
    itemsize = np.dtype(facts.dtype).itemsize
    per_px = facts.channels * itemsize + SCORING_BYTES_PER_PX
    small = [s for s in samples if not goes_by_pieces(s.image)]
    return per_px * max((prod(facts.shapes[sample.name]) for sample in small), default=0)


def _num_trained_on(run: Run, samples: Sequence[Sample], facts: Survey) -> int:
    """Return how many of the images the network was trained on, also if they lie elsewhere now."""
    rows = run.data()["splits"]["train"]
    if _fingerprint(run.data()["survey"]) == _fingerprint(asdict(facts)):
        names = {row["name"] for row in rows}
        return sum(sample.name in names for sample in samples)
    paths = {Path(row["image"]).resolve() for row in rows}
    return sum(sample.image.resolve() in paths for sample in samples)


def _fingerprint(facts: Mapping[str, Any]) -> tuple[object, ...]:
    """Return what a copy of a data set has in common with it: names, sizes, pixels of each class."""
    shapes = {name: tuple(shape) for name, shape in facts["shapes"].items()}
    return shapes, [sum(px) for px in zip(*facts["counts"].values(), strict=True)]
