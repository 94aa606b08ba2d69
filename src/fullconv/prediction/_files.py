"""Image files → label images, probabilities and overlays, one set per image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
from torch import nn

from fullconv.errors import BadDataError, BadOutputError
from fullconv.images import (
    ClassTable,
    read_image,
    write_labels,
    write_overlay,
    write_probabilities,
)
from fullconv.prediction._answer import Answer
from fullconv.prediction._predict import Predictor
from fullconv.prediction._process import left_for_windows, process_memory

TIFF_SUFFIXES = (".tif", ".tiff")
NUM_LISTED = 20
OVERLAY_BYTES_PER_PX = 7  # red, green and blue, and Pillow's copy of four bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """An image, and the files that are made of it (None: not wanted)."""

    image: Path
    labels: Path
    probabilities: Path | None
    overlay: Path | None

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The files that will be written."""
        wanted = (self.labels, self.probabilities, self.overlay)
        return tuple(path for path in wanted if path is not None)


def plan_files(
    images: Sequence[Path],
    out: Path,
    *,
    probabilities: bool = False,
    overlay: bool = False,
    overwrite: bool = False,
) -> tuple[Job, ...]:
    """Return what will be written for each image.

    Labels are `STEM.png`, or `STEM.tif` for a TIFF; probabilities `STEM.probabilities.tif`,
    overlays `STEM.overlay.png`.

    Args:
        images: Image files with different stems.
        out: Folder for the results.
        probabilities: Whether the probabilities of all classes are wanted.
        overlay: Whether pictures of the image under its labels are wanted.
        overwrite: Whether files that are there already may be replaced. Images never are.

    Raises:
        BadOutputError: If a result would replace an image, another result, or a file that is there.
    """
    jobs = tuple(
        Job(
            image=image,
            labels=out / f"{image.stem}{_labels_suffix(image)}",
            probabilities=out / f"{image.stem}.probabilities.tif" if probabilities else None,
            overlay=out / f"{image.stem}.overlay.png" if overlay else None,
        )
        for image in images
    )
    _refuse_collisions(jobs, overwrite=overwrite)
    return jobs


def predict_files(
    net: nn.Module,
    jobs: Sequence[Job],
    classes: ClassTable,
    *,
    channels: int,
    memory: str | int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Predict images and write what `plan_files` names.

    An image that cannot be used does not keep the others from being predicted.

    Args:
        net: Raw pixels in, logits of the image's size out.
        jobs: As `plan_files` returns them.
        classes: The network's classes.
        channels: Channels of the images that it takes.
        memory: For the whole process: "2 GiB", "500MB", "80%" or bytes. None for whole images.
        progress: Called with the number of images done and of all.

    Raises:
        BadDataError: At the end, if there were images that cannot be used; it names each.
        FullconvError: If an image does not fit the memory.
        BadOutputError: If a file cannot be written.
    """
    limit = None if memory is None else process_memory(memory)
    faults: list[str] = []
    answers = _Answers(net, classes, channels=channels, limit=limit)
    for done, job in enumerate(jobs, start=1):
        try:
            image = answers.read(job.image)
        except BadDataError as error:
            faults.append(str(error))
        else:
            _write(job, image, answers(image, job), classes)
        if progress:
            progress(done, len(jobs))
    if faults:
        raise BadDataError(_told(faults, num_done=len(jobs) - len(faults)))


def _told(faults: Sequence[str], *, num_done: int) -> str:
    """Return what is wrong with which images: the first 20 by name, then a count."""
    others = "1 other is" if num_done == 1 else f"{num_done} others are"
    first = f"`images` must all be usable, got {len(faults)} that are not; {others} done:"
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
        if image.shape[0] != self._channels:
            raise BadDataError(
                f"{path}: as the network was trained, images must have {_channels(self._channels)}, "
                f"got {_channels(image.shape[0])}"
            )
        return image

    def __call__(self, image: npt.NDArray[Any], job: Job) -> Answer:
        """Return what is wanted of the map of an image."""
        answer = Answer(
            (self._classes.num_classes, *image.shape[1:]),
            dtype=self._classes.dtype,
            probabilities=job.probabilities is not None,
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


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"


def _labels_suffix(image: Path) -> str:
    return ".tif" if image.suffix.lower() in TIFF_SUFFIXES else ".png"


def _refuse_collisions(jobs: Sequence[Job], *, overwrite: bool) -> None:
    inputs = {job.image.resolve() for job in jobs}
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
    there = [path for path in outputs if path.exists()]
    if there and not overwrite:
        raise BadOutputError(
            f"`out` must not hold results yet, got {len(there)} that are there already, such as "
            f"{there[0]}; choose another folder, or give `--overwrite`"
        )
