"""The metrics of a network over images with masks."""

import csv
import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fullconv.errors import BadDataError
from fullconv.execution import parse_memory
from fullconv.images import (
    ClassTable,
    Sample,
    goes_by_pieces,
    open_image,
    open_mask,
    read_image,
    read_mask,
)
from fullconv.prediction import Answer, Predictor, Wanted, identity, key_of, predict_to_disk
from fullconv.regions import pieces
from fullconv.scoring import AbsentRule, Confusion, Scores, majority_baseline, score

METRICS = ("pixel_accuracy", "mean_accuracy", "mean_iu", "fw_iu")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageScore:
    """How one image did by itself (the classes that are in it or predicted in it)."""

    name: str
    mean_iu: float
    pixel_accuracy: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The metrics over one confusion matrix of all images.

    Attributes:
        classes: The classes.
        matrix: Counts ``(true, predicted)``.
        images: What each image has by itself.
    """

    classes: ClassTable
    matrix: NDArray[np.int64]
    images: tuple[ImageScore, ...]

    def scores(self, *, absent: AbsentRule = "reference") -> Scores:
        """Return the metrics."""
        return score(self.matrix, absent=absent)

    def baseline(self) -> Scores:
        """Return the metrics of always answering the most frequent class."""
        return majority_baseline(self.matrix)

    def to_json(self, split: str, *, absent: AbsentRule = "reference") -> dict[str, Any]:
        """Return everything as JSON values."""
        scores, baseline = self.scores(absent=absent), self.baseline()
        return {
            "split": split,
            **{name: getattr(scores, name) for name in METRICS},
            "iu": dict(zip(self.classes.names, scores.iu, strict=True)),
            "confusion": self.matrix.tolist(),
            "baseline": {name: getattr(baseline, name) for name in METRICS},
            "images": [asdict(image) for image in self.images],
        }

    def to_csv(self, *, absent: AbsentRule = "reference") -> str:
        """Return one row per class: name, units, accuracy, IU (``nan`` for a class that is left out)."""
        scores = self.scores(absent=absent)
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["class", "units", "accuracy", "iu"])
        rows = zip(self.classes.names, self.matrix.sum(1), scores.accuracy, scores.iu, strict=True)
        writer.writerows(rows)
        return text.getvalue()


def evaluate(
    net: nn.Module,
    samples: Sequence[Sample],
    classes: ClassTable,
    *,
    memory: int | str | None = None,
    progress: Callable[[int, int], None] | None = None,
    keep: Callable[[Sample, NDArray[Any]], None] | None = None,
    folder: Path | None = None,
) -> Evaluation:
    """Return the metrics of a network over images with masks, each predicted as a whole.

    Images that are never in memory as a whole are predicted from disk to disk.

    Args:
        net: Raw pixels in, logits out; it is used in eval mode and left as it was.
        samples: The images; each must have a mask.
        classes: The classes.
        memory: What a prediction may add, such as ``"2 GiB"``; None for the image at once.
        progress: Called with the number of images done and of all.
        keep: Called with each sample and its predicted labels ``(H, W)``, except for images that go
            from disk to disk.
        folder: Where the labels of those are left, as ``NAME.zarr``; None to leave none.

    Raises:
        BadDataError: If there are no samples, or one has no mask.
    """
    if not samples:
        raise BadDataError("`samples` must have at least one image with a mask, got none")
    predict = Predictor(net, memory)
    rows: list[tuple[ImageScore, NDArray[np.int64]]] = []
    for sample in samples:
        if goes_by_pieces(sample.image):
            rows.append(_large(net, sample, classes, memory, folder))
        else:
            rows.append(_one(predict, sample, classes, keep))
        if progress:
            progress(len(rows), len(samples))
    matrix = np.sum([counts for _, counts in rows], axis=0)
    return Evaluation(classes=classes, matrix=matrix, images=tuple(image for image, _ in rows))


def _one(
    predict: Predictor,
    sample: Sample,
    classes: ClassTable,
    keep: Callable[[Sample, NDArray[Any]], None] | None,
) -> tuple[ImageScore, NDArray[np.int64]]:
    if sample.mask is None:
        raise BadDataError(f"`{sample.image}` must have a mask to be scored, got none")
    image = read_image(sample.image)
    answer = Answer((classes.num_classes, *image.shape[1:]), dtype=classes.dtype)
    labels = predict(image, answer).labels
    mask = read_mask(sample.mask, classes)
    confusion = Confusion(classes.num_classes, ignore=classes.ignore)
    confusion.update(torch.from_numpy(labels), torch.from_numpy(mask))
    if keep:
        keep(sample, labels)
    return _scored(sample, confusion.matrix())


def _large(
    net: nn.Module,
    sample: Sample,
    classes: ClassTable,
    memory: int | str | None,
    folder: Path | None,
) -> tuple[ImageScore, NDArray[np.int64]]:
    """Predict from disk to disk, and compare label image and mask piece by piece."""
    if sample.mask is None:
        raise BadDataError(f"`{sample.image}` must have a mask to be scored, got none")
    mask = open_mask(sample.mask, classes)
    confusion = Confusion(classes.num_classes, ignore=classes.ignore)
    with tempfile.TemporaryDirectory() as temporary:
        path = (folder or Path(temporary)) / f"{sample.name}.zarr"
        wanted = Wanted(labels=path, classes=classes)
        budget = parse_memory("50%" if memory is None else memory)
        image = open_image(sample.image)
        key = key_of(identity(net, image.shape), sample.image, wanted)
        predict_to_disk(net, image, wanted, memory=budget, key=key, overwrite=True)
        labels = open_mask(path, classes)
        for box in pieces(mask):
            found, truth = labels[box.slices], mask[box.slices]
            confusion.update(torch.from_numpy(found), torch.from_numpy(truth.copy()))
    return _scored(sample, confusion.matrix())


def _scored(sample: Sample, counts: NDArray[np.int64]) -> tuple[ImageScore, NDArray[np.int64]]:
    scores = score(counts)
    return (
        ImageScore(name=sample.name, mean_iu=scores.mean_iu, pixel_accuracy=scores.pixel_accuracy),
        counts,
    )
