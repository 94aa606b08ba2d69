"""What a report is made of: plain values, read once from the folder of a run.

A confusion matrix has the true class as row and the predicted class as column, in px. A number
that does not exist (the IU of a class that never occurs) is NaN; a part of the run that does not
exist (no evaluation yet) is None or empty. Sections decide what to say about it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fullconv.geometry import Geometry
from fullconv.images import ClassTable

Column = NDArray[np.float64]  # one value per row of a log


@dataclass(frozen=True, kw_only=True, slots=True)
class Metrics:
    """The four FCN metrics, each between 0 and 1, or NaN."""

    pixel_accuracy: float
    mean_accuracy: float
    mean_iu: float
    fw_iu: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageScore:
    """How well one held-out image was predicted."""

    name: str
    mean_iu: float
    pixel_accuracy: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The network on the held-out split.

    Attributes:
        split: Name of that split.
        metrics: Of the network.
        baseline: Of always answering the class that is most frequent in this split.
        iu: One per class.
        confusion: Counts (true, predicted), in px.
        images: One score per held-out image.
    """

    split: str
    metrics: Metrics
    baseline: Metrics
    iu: tuple[float, ...]
    confusion: NDArray[np.int64]
    images: tuple[ImageScore, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleFiles:
    """One sample of the data set: where its files lie and how large its image is, in px."""

    image: Path
    mask: Path | None
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Data:
    """What the run was trained and evaluated on.

    Attributes:
        path: The folder or table that was given.
        splits: Sample names by split.
        samples: Files by sample name.
        counts: Px of each class, by split.
        channels: Of every image.
        dtype: Of the pixel values.
    """

    path: str
    splits: Mapping[str, tuple[str, ...]]
    samples: Mapping[str, SampleFiles]
    counts: Mapping[str, tuple[int, ...]]
    channels: int
    dtype: str


@dataclass(frozen=True, kw_only=True)
class Network:
    """Which network was trained; `parameters` is None where nobody counted them."""

    name: str
    options: Mapping[str, Any]
    parameters: int | None


@dataclass(frozen=True, kw_only=True)
class Record:
    """Everything that a section may look at.

    Attributes:
        path: The folder of the run.
        network: What was trained.
        classes: What was told apart.
        data: On what.
        steps: Columns of the training log, by name; all of one length, perhaps 0.
        validation: Columns of the validation log, likewise.
        evaluation: None where the run ended before it.
        predictions: Folder of the label images predicted for the held-out images, by name.
        config: The resolved configuration.
        facts: Command, machine, versions and times, as the run wrote them.
        memory: Where it goes, as the run wrote it; None where it did not.
        geometry: Of the network; why it has none in words; None where it cannot be built here.
    """

    path: Path
    network: Network
    classes: ClassTable
    data: Data
    steps: Mapping[str, Column]
    validation: Mapping[str, Column]
    evaluation: Evaluation | None
    predictions: Path
    config: Mapping[str, Any]
    facts: Mapping[str, Any]
    memory: Mapping[str, Any] | None = None
    geometry: Geometry | str | None = None
