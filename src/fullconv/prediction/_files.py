"""Image files → label images, probabilities and overlays, one set per image.

Pictures, and plain TIFF files that are not large, are predicted as one array in memory each. All other
images go from disk to disk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt
from torch import nn

from fullconv.errors import BadDataError, BadOutputError
from fullconv.images import (
    ClassTable,
    check_folder,
    names_of,
    open_image,
    read_image,
    reads_boxes,
    stem,
    write_labels,
    write_overlay,
    write_probabilities,
)
from fullconv.prediction._answer import Answer
from fullconv.prediction._disk import MARGIN, key_of, predict_to_disk
from fullconv.prediction._predict import Predictor
from fullconv.prediction._process import left_for_windows, process_memory
from fullconv.prediction._products import SUFFIXES, FileKind, Wanted
from fullconv.regions import check_output, is_finished, note_finished, split_name

TIFF_SUFFIXES = (".tif", ".tiff")
# Plain TIFF files of so many bytes in memory and more go from disk to disk.
LARGE_BYTES = 2**26
NUM_LISTED = 20
OVERLAY_BYTES_PER_PX = 7  # red, green and blue, and Pillow's copy of four bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """An image, and the files that are made of it (None: not wanted).

    Attributes:
        image: The image.
        labels: The label image.
        probabilities: Those of all classes.
        overlay: A picture of the image under its labels.
        disk: Whether the image goes from disk to disk, and is never in memory as a whole.
        quantised: Whether probabilities are 8-bit numbers.
        key: Says of what the files are made; empty if that is not known.
    """

    image: Path
    labels: Path
    probabilities: Path | None
    overlay: Path | None
    disk: bool = False
    quantised: bool = False
    key: str = ""

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The files that will be written."""
        wanted = (self.labels, self.probabilities, self.overlay)
        return tuple(path for path in wanted if path is not None)

    @property
    def done(self) -> bool:
        """Whether all files are there, made of the same by the same network."""
        return all(map(self.has, self.outputs))

    def has(self, output: Path) -> bool:
        """Return whether a file is there, made of the same by the same network."""
        return bool(self.key) and is_finished(output, self.key)


def plan_files(
    images: Sequence[Path],
    out: Path,
    *,
    probabilities: bool = False,
    overlay: bool = False,
    overwrite: bool = False,
    quantised: bool = False,
    file: FileKind | None = None,
    network: str = "",
) -> tuple[Job, ...]:
    """Return what will be written for each image.

    Labels are `STEM.png` for pictures; TIFF, OME-TIFF and Zarr stay what they are, rasters become
    `STEM.tif`, slides `STEM.ome.tif`, all others `STEM.zarr`. Probabilities are
    `STEM.probabilities.tif` and so on, overlays `STEM.overlay.png`. Where several arrays of one file
    are predicted, the name of each stands behind the stem: `STEM_NAME.zarr`.

    Args:
        images: Image files of different names, as `names_of` has them.
        out: Folder for the results.
        probabilities: Whether the probabilities of all classes are wanted.
        overlay: Whether pictures of the image under its labels are wanted.
        overwrite: Whether files that are there already may be replaced. Images never are.
        quantised: Whether probabilities are 8-bit numbers, `round(255 p)`.
        file: The format of all outputs; None for that which goes with the image.
        network: What stands for the network, from `identity`; then results of the same network and
            image are known again, and not made twice.

    Raises:
        BadOutputError: If a result would replace an image, another result, or a file that is there;
            or an overlay is wanted of an image that is never in memory as a whole; or `out` cannot be
            written.
    """
    check_output(out)
    jobs = tuple(
        _job(
            image, name, out, file or disk_format(image), probabilities, overlay, quantised, network
        )
        for image, name in names_of(images).items()
    )
    _refuse_collisions(jobs, overwrite=overwrite)
    return jobs


def _job(
    image: Path,
    name: str,
    out: Path,
    file: FileKind | None,
    probabilities: bool,
    overlay: bool,
    quantised: bool,
    network: str,
) -> Job:
    if file is None:
        labels = out / f"{name}{_labels_suffix(image)}"
        shares = out / f"{name}.probabilities.tif"
    else:
        own = split_name(image)[0].name  # a.ome.zarr stays that
        kept = file == "zarr" and own.lower().endswith(".zarr") and name == stem(image)
        labels = out / (own if kept else f"{name}{SUFFIXES[file]}")
        shares = out / f"{name}.probabilities{SUFFIXES[file]}"
    if file is not None and overlay:
        raise BadOutputError(
            f"`overlay` must be of images that are read whole, got {image}, which is not; look at the "
            "label image in a viewer of large images"
        )
    job = Job(
        image=image,
        labels=labels,
        probabilities=shares if probabilities else None,
        overlay=out / f"{name}.overlay.png" if overlay else None,
        disk=file is not None,
        quantised=quantised,
    )
    wanted = Wanted(labels=labels, probabilities=job.probabilities, quantised=quantised)
    return replace(job, key=key_of(network, image, wanted)) if network else job


def disk_format(image: Path) -> FileKind | None:
    """Return the format of what goes with an image on disk; None if it is predicted in memory."""
    if not reads_boxes(image):
        return None
    try:
        stored = open_image(image)
    except BadDataError:  # told when it is its turn
        tiff = split_name(image)[0].suffix.lower() in TIFF_SUFFIXES
        return None if tiff else "zarr"
    kind = stored.facts.get("tiff")
    if kind == "plain" and stored.nbytes < LARGE_BYTES and stored.ndim == 3:
        return None
    if kind == "ome" or stored.facts.get("slide"):
        return "ome-tiff"
    return "tiff" if kind or "transform" in stored.facts else "zarr"


def predict_files(
    net: nn.Module,
    jobs: Sequence[Job],
    classes: ClassTable,
    *,
    channels: int,
    memory: str | int | None = None,
    progress: Callable[[int, int], None] | None = None,
    units: Callable[[int, int], None] | None = None,
    overwrite: bool = False,
) -> None:
    """Predict images and write what `plan_files` names.

    An image that cannot be used, or whose results have no place, does not keep the others from being
    predicted.

    Args:
        net: Raw pixels in, logits of the image's size out.
        jobs: As `plan_files` returns them.
        classes: The network's classes.
        channels: Channels of the images that it takes.
        memory: For the whole process: "2 GiB", "500MB", "80%" or bytes. None for whole images.
        progress: Called with the number of images done and of all.
        units: Called with the units done of an image that goes from disk to disk, and all of them.
        overwrite: Whether what is there already, or unfinished, may be replaced.

    Raises:
        BadDataError: At the end, if there were such images; it names each.
        FullconvError: If an image does not fit the memory.
        BadOutputError: If the disk refuses.
    """
    limit = None if memory is None else process_memory(memory)
    faults: list[str] = []
    answers = _Answers(net, classes, channels=channels, limit=limit)
    for done, job in enumerate(jobs, start=1):
        try:
            if job.disk and not job.done:
                answers.to_disk(job, units, overwrite=overwrite)
            elif not job.done:
                image = answers.read(job.image)
                _write(job, image, answers(image, job), classes)
        except BadDataError as error:
            faults.append(str(error))
        except BadOutputError as error:
            if isinstance(error.__cause__, OSError):  # the disk refuses, as it would for the others
                raise
            faults.append(str(error))
        if progress:
            progress(done, len(jobs))
    if faults:
        raise BadDataError(_told(faults, num_done=len(jobs) - len(faults)))


def _told(faults: Sequence[str], *, num_done: int) -> str:
    """Return what is wrong with which images: the first 20 by name, then a count."""
    others = "1 other is" if num_done == 1 else f"{num_done} others are"
    first = f"`images` must all be predicted, got {len(faults)} that are not; {others} done:"
    more = len(faults) - NUM_LISTED
    rest = [f"… and {more} more"] if more > 0 else []
    return "\n  ".join([first, *faults[:NUM_LISTED], *rest])


class _Answers:
    """Predicts images of a run; images of one size share a plan of windows."""

    def __init__(
        self, net: nn.Module, classes: ClassTable, *, channels: int, limit: int | None
    ) -> None:
        self._net, self._classes, self._channels = net, classes, channels
        self._limit = limit
        self._predictors: dict[tuple[int, ...], Predictor] = {}

    def read(self, path: Path) -> npt.NDArray[Any]:
        """Return an image that the network takes."""
        image = read_image(path)
        self._check(path, image.shape[0])
        return image

    def to_disk(
        self, job: Job, units: Callable[[int, int], None] | None, *, overwrite: bool
    ) -> None:
        """Predict an image from disk to disk."""
        image = open_image(job.image)
        self._check(job.image, image.shape[0])
        wanted = Wanted(
            labels=job.labels,
            probabilities=job.probabilities,
            quantised=job.quantised,
            classes=self._classes,
        )
        limit = process_memory("50%") if self._limit is None else self._limit
        memory = left_for_windows(limit, self._net, held_bytes=0)
        predict_to_disk(
            self._net,
            image,
            wanted,
            memory=memory,
            key=job.key,
            overwrite=overwrite,
            progress=units,
            margin=MARGIN,
        )

    def _check(self, path: Path, channels: int) -> None:
        if channels != self._channels:
            raise BadDataError(
                f"{path}: as the network was trained, images must have {_channels(self._channels)}, "
                f"got {_channels(channels)}"
            )

    def __call__(self, image: npt.NDArray[Any], job: Job) -> Answer:
        """Return what is wanted of the map of an image."""
        answer = Answer(
            (self._classes.num_classes, *image.shape[1:]),
            dtype=self._classes.dtype,
            probabilities=job.probabilities is not None,
            quantised=job.quantised,
        )
        self._predictor(image, answer, overlay=job.overlay is not None)(image, answer)
        return answer

    def _predictor(self, image: npt.NDArray[Any], answer: Answer, *, overlay: bool) -> Predictor:
        key = (*answer.shape, image.itemsize)
        if key not in self._predictors:
            budget = self._budget(answer, overlay=overlay)
            self._predictors[key] = Predictor(self._net, budget)
        return self._predictors[key]

    def _budget(self, answer: Answer, *, overlay: bool) -> int | None:
        """Return what windows may add: pages of the answer are taken only as they are written."""
        if self._limit is None:
            return None
        kept = 0 if answer.probabilities is None else answer.probabilities.nbytes
        drawn = OVERLAY_BYTES_PER_PX * answer.labels.size if overlay else 0
        held = answer.labels.nbytes + kept + drawn
        return left_for_windows(self._limit, self._net, held_bytes=held)


def _write(job: Job, image: npt.NDArray[Any], answer: Answer, classes: ClassTable) -> None:
    write_labels(job.labels, answer.labels, classes)
    if job.probabilities and answer.probabilities is not None:
        write_probabilities(job.probabilities, answer.probabilities)
    if job.overlay:
        write_overlay(job.overlay, image, answer.labels, classes)
    for output in job.outputs if job.key else ():
        note_finished(output, job.key)


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"


def _labels_suffix(image: Path) -> str:
    return ".tif" if image.suffix.lower() in TIFF_SUFFIXES else ".png"


def _refuse_collisions(jobs: Sequence[Job], *, overwrite: bool) -> None:
    for folder in {path.parent for job in jobs for path in job.outputs}:
        if folder.exists() and not folder.is_dir():
            raise BadOutputError(
                f"`out` must be a folder, got the file {folder}; choose another name"
            )
        check_folder(folder)
    inputs = {split_name(job.image)[0].resolve() for job in jobs}
    outputs = [path for job in jobs for path in job.outputs]
    for path in outputs:
        if path.resolve() in inputs:
            raise BadOutputError(
                f"`out` must be another folder than that of the images, got {path.parent}, where "
                f"{path.name} would be replaced"
            )
    twice = [path for path, times in Counter(outputs).items() if times > 1]
    if twice:
        raise BadOutputError(
            f"`images` must have stems that give different names, got two results called "
            f"{twice[0].name}; predict them into different folders"
        )
    there = [path for job in jobs for path in job.outputs if path.exists() and not job.has(path)]
    if there and not overwrite:
        raise BadOutputError(
            f"`out` must not hold results yet, got {len(there)} that are there already, such as "
            f"{there[0]}; choose another folder, or give `--overwrite`"
        )
