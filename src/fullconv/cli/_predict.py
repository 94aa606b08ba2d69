"""`fullconv predict`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fullconv.cli._show import output, progress_console


def predict(
    run: Path,
    /,
    *images: Annotated[Path, Parameter(required=True)],
    out: Path,
    memory: str | None = None,
    probabilities: Annotated[bool, Parameter(negative="")] = False,
    overlay: Annotated[bool, Parameter(negative="")] = False,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Predict images: label images of the same size, named by the image's stem.

    Labels are PNG, for TIFF images TIFF, with the colours of the classes as palette. Nothing that
    is there already is replaced without `--overwrite`.

    Args:
        run: Folder of a training run.
        images: Image files, or folders of images.
        out: Folder for the results.
        memory: What the whole process may take, such as `2GiB`, `500MB` or `80%`; images go
            through the network in exact windows that fit. Without it, whole images.
        probabilities: Write `STEM.probabilities.tif`, too: float16, a page per class.
        overlay: Write `STEM.overlay.png`, too: the image under its labels.
        overwrite: Replace results that are there already.
    """
    from fullconv.images import image_files
    from fullconv.prediction import best_device, plan_files, predict_files
    from fullconv.runs import Run
    from fullconv.training import counting

    trained = Run.open(run)
    jobs = plan_files(
        image_files(images), out, probabilities=probabilities, overlay=overlay, overwrite=overwrite
    )
    with counting(progress_console(), "predicting") as progress:
        predict_files(
            trained.network().to(best_device()),
            jobs,
            trained.classes(),
            channels=trained.recipe().channels,
            memory=memory,
            progress=progress,
        )
    output().print(f"{len(jobs)} label images in {out}")
