"""`fullconv evaluate`."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from fullconv.cli._show import METRICS, output, progress_console, show_scores
from fullconv.errors import BadConfigError

if TYPE_CHECKING:
    from fullconv.training import UpperBound

Split = Literal["train", "val", "test"]
Absent = Literal["reference", "paper"]


def evaluate(
    run: Path,
    data: Annotated[Path | None, Parameter(show_default=False)] = None,
    /,
    *,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    csv_file: Annotated[Path | None, Parameter(name="--csv")] = None,
    split: Split | None = None,
    memory: str | None = None,
    absent: Absent = "reference",
    upper_bound: Annotated[tuple[int, ...] | None, Parameter(consume_multiple=True)] = None,
) -> None:
    """Score a run on images with masks, over one confusion matrix: four metrics, and IU by class.

    On the data of the run itself the images held out from training are used; on other data `test`
    or `val`, or all images where the data make no split.

    Args:
        run: Folder of a training run; with `--upper-bound`, the data.
        data: Data as for `train`, with the classes of the run.
        json_file: Write everything to this JSON file.
        csv_file: Write a row per class to this CSV file; with `--upper-bound`, one per factor and class.
        split: Use this split.
        memory: What the whole process may take, such as `2GiB`, `500MB` or `80%`; not with
            `--upper-bound`.
        absent: A class that is nowhere true is left out, unless it is predicted somewhere
            (`reference`, as the authors of FCN count), or always (`paper`, as they print).
        upper_bound: Use no network: `fullconv evaluate DATA --upper-bound 4 8 16 32` says what the true
            masks would score after a way through maps that many times coarser.
    """
    from fullconv.images import check_file
    from fullconv.runs import Run, write_json, write_text

    for file in filter(None, (json_file, csv_file)):
        check_file(file)
    if upper_bound:
        _refuse_memory(memory)
        bounds = _upper_bound(data or run, upper_bound, split, absent)
        if json_file:
            write_json(json_file, {"upper_bounds": [bound.to_json() for bound in bounds]})
        if csv_file:
            write_text(csv_file, _csv_of(bounds))
        return
    if data is None:
        raise BadConfigError(
            "`data` must be given behind the run, got none; say `fullconv evaluate RUN DATA`, or "
            "`fullconv evaluate DATA --upper-bound 8 16 32` without a run"
        )
    from fullconv.training import score_run

    found = score_run(Run.open(run), data, split=split, memory=memory, console=progress_console())
    values = found.evaluation.to_json(found.split, absent=absent)
    if json_file:
        write_json(json_file, values)
    if csv_file:
        write_text(csv_file, found.evaluation.to_csv(absent=absent))
    show_scores(values)
    if found.num_trained_on:
        output().print(
            f"note: the network was trained on {found.num_trained_on} of these "
            f"{len(values['images'])} images, so this is not how it does on new ones"
        )


def _refuse_memory(memory: str | None) -> None:
    if memory is not None:
        raise BadConfigError(
            "`memory` must be left out with `upper-bound`, which reads whole masks and runs no network, "
            f"got {memory!r}; leave out one of them"
        )


def _upper_bound(
    data: Path, factors: tuple[int, ...], split: Split | None, absent: Absent
) -> "Sequence[UpperBound]":
    """Show what the masks of some data lose in coarser maps, and return it."""
    from fullconv.training import upper_bounds

    bounds = upper_bounds(data, factors, split=split, absent=absent, console=progress_console())
    values = [bound.to_json() for bound in bounds]
    table = Table("factor", *METRICS.values(), title="the true masks, through coarser maps")
    for row in values:
        table.add_row(str(row["factor"]), *(f"{row[key]:.3f}" for key in METRICS))
    classes = Table("IU", *(str(row["factor"]) for row in values))
    for name in bounds[0].classes:
        classes.add_row(name, *(f"{row['iu'][name]:.3f}" for row in values))
    output().print(table, classes)
    return bounds


def _csv_of(bounds: "Sequence[UpperBound]") -> str:
    """Return a row per factor and class: both, accuracy, IU."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["factor", "class", "accuracy", "iu"])
    for bound in bounds:
        scores = bound.scores
        for row in zip(bound.classes, scores.accuracy, scores.iu, strict=True):
            writer.writerow([bound.factor, *row])
    return text.getvalue()
