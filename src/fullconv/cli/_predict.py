"""`fullconv predict`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from fullconv.cli._show import output, progress_console

# A network that pads images of some sizes does so with these.
ODD_SIDES = (509, 509)

FileKind = Literal["zarr", "tiff", "ome-tiff"]


def predict(
    run: Path,
    /,
    *images: Annotated[Path, Parameter(required=True)],
    out: Path,
    memory: str | None = None,
    probabilities: Annotated[bool, Parameter(negative="")] = False,
    quantised: Annotated[bool, Parameter(negative="")] = False,
    overlay: Annotated[bool, Parameter(negative="")] = False,
    file: Annotated[FileKind | None, Parameter(name="--format")] = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Predict images of any size: label images of the same size, named by the image's stem.

    Labels are PNG with the colours of the classes as palette; TIFF, OME-TIFF, GeoTIFF and Zarr images
    stay what they are. What is larger than memory goes from disk to disk. If the program ends before
    it is done, however it does, the same command goes on. Nothing else that is there already is
    replaced without `--overwrite`.

    Args:
        run: Folder of a training run.
        images: Image files or Zarr folders, or folders of images; with `::` and a name for a level of
            a pyramid or an array inside, such as `slide.svs::1` or `scan.h5::raw`. Results of several
            arrays of one file are called `STEM_NAME`.
        out: Folder for the results.
        memory: What the whole process may take, such as `2GiB`, `500MB` or `80%`; images go
            through the network in exact windows that fit. Without it, whole images, and half of the
            free memory for those that go from disk to disk.
        probabilities: Write `STEM.probabilities.tif` (or in the labels' format), too: float16.
        quantised: Write probabilities as 8-bit numbers, 255 for certain.
        overlay: Write `STEM.overlay.png`, too: the image under its labels.
        file: Format of the results, from disk to disk: `zarr`, `tiff` or `ome-tiff`.
        overwrite: Replace results that are there already.
    """
    from fullconv.images import image_files
    from fullconv.prediction import best_device, identity, plan_files, predict_files
    from fullconv.runs import Run
    from fullconv.training import measuring

    trained = Run.open(run)
    net, channels = trained.network(), trained.recipe().channels
    jobs = plan_files(
        image_files(images),
        out,
        probabilities=probabilities or quantised,
        overlay=overlay,
        overwrite=overwrite,
        quantised=quantised,
        file=file,
        network=identity(net, (channels, *ODD_SIDES)),
    )
    before = sum(job.done for job in jobs)
    with measuring(progress_console(), "predicting") as (progress, units):
        predict_files(
            net.to(best_device()),
            jobs,
            trained.classes(),
            channels=channels,
            memory=memory,
            progress=progress,
            units=units,
            overwrite=overwrite,
        )
    told = f", {before} of them done before" if before else ""
    output().print(f"{len(jobs)} label images in {out}{told}")
