"""`fullconv evaluate`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from fullconv.cli._show import output, progress_console, show_scores

Split = Literal["train", "val", "test"]


def evaluate(
    run: Path,
    data: Path,
    /,
    *,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    csv_file: Annotated[Path | None, Parameter(name="--csv")] = None,
    split: Split | None = None,
    memory: str | None = None,
) -> None:
    """Score a run on images with masks, over one confusion matrix: four metrics, and IU by class.

    On the data of the run itself the images held out from training are used; on other data `test`
    or `val`, or all images where the data make no split.

    Args:
        run: Folder of a training run.
        data: Data as for `train`, with the classes of the run.
        json_file: Write everything to this JSON file.
        csv_file: Write a row per class to this CSV file.
        split: Use this split.
        memory: What the whole process may take, such as `2GiB`, `500MB` or `80%`.
    """
    from fullconv.runs import Run, write_json, write_text
    from fullconv.training import score_run

    found = score_run(Run.open(run), data, split=split, memory=memory, console=progress_console())
    values = found.evaluation.to_json(found.split)
    if json_file:
        write_json(json_file, values)
    if csv_file:
        write_text(csv_file, found.evaluation.to_csv())
    show_scores(values)
    if found.num_trained_on:
        output().print(
            f"note: the network was trained on {found.num_trained_on} of these "
            f"{len(values['images'])} images, so this is not how it does on new ones"
        )
