"""Reading every file of a data set once: what is in it, and everything that is wrong with it.

Files are read in threads: decoders and NumPy let go of the interpreter's lock (two threads took half
the time of one; two processes took longer, for their start). Large files are read one at a time, so
that their memory does not add up. What was learnt of a file is cached until its size or time of
change differs.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass
from math import prod
from os import cpu_count
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np

from fullconv.errors import BadDataError
from fullconv.images import _rules
from fullconv.images._cache import load, save
from fullconv.images._classes import ClassTable
from fullconv.images._dataset import Dataset
from fullconv.images._facts import ImageFacts, image_facts, mask_facts
from fullconv.images._faults import BrokenRuleError, Fault, bad_data
from fullconv.images._files import decoded_bytes
from fullconv.images._lazy import goes_by_pieces
from fullconv.images._rules import Facts
from fullconv.images._sample import Sample

T = TypeVar("T")

LARGE_BYTES = 2**27


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What is in a data set.

    Attributes:
        classes: The data set's class table; without one, every index found in the masks is a class.
        channels: Channels of every image.
        dtype: Type of every image, as NumPy names it.
        shapes: (height, width) by sample name.
        counts: Pixels of each class, by split.
        ignored: Ignored pixels, by split.
        mean: Of each channel over the pixels of the training images, in the files' own values.
        std: Standard deviation likewise; 1 for a constant channel, so that it can be divided by.
    """

    classes: ClassTable
    channels: int
    dtype: str
    shapes: dict[str, tuple[int, ...]]
    counts: dict[str, tuple[int, ...]]
    ignored: dict[str, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def survey(
    dataset: Dataset,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Survey:
    """Return what is in a data set, after reading every file that the cache does not know.

    Args:
        dataset: As `open_dataset` returns it.
        workers: Files that are read at the same time; as many as there are processors if left out.
        progress: Called with (files read, files in all) after each pair.

    Raises:
        BadDataError: If any file breaks a rule; the message lists all of them.
    """
    facts, faults = _read_all(dataset, workers or cpu_count() or 1, progress)
    classes = dataset.classes or _rules.found_classes(facts)
    faults += [*dataset.faults, *_rules.faults_in(dataset, facts, classes)]
    if faults:
        raise bad_data(dataset.root, faults)
    if problem := _rules.general_fault(dataset, facts, classes):
        raise BadDataError(f"`data` cannot be used ({dataset.root}): {problem}")
    by_split = {s: _rules.count(some, facts, classes) for s, some in dataset.splits.items()}
    train = dataset.splits.get("train") or dataset.samples
    mean, std = _statistics([facts.images[sample.image] for sample in train])
    first = facts.images[train[0].image]
    return Survey(
        classes=classes,
        channels=first.channels,
        dtype=first.dtype,
        shapes={sample.name: facts.images[sample.image].shape for sample in dataset.samples},
        counts={split: counts for split, (counts, _) in by_split.items()},
        ignored={split: ignored for split, (_, ignored) in by_split.items()},
        mean=mean,
        std=std,
    )


def _read_all(
    dataset: Dataset, workers: int, progress: Callable[[int, int], None] | None
) -> tuple[Facts, list[Fault]]:
    """Read every pair, several at a time; return what is known and what cannot be read."""
    facts, faults = Facts(images={}, masks={}), list[Fault]()
    known, alone = load(dataset.root), Lock()
    samples = dataset.samples
    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(_read_pair, sample, known, alone) for sample in samples]
        try:
            for done, job in enumerate(as_completed(jobs), start=1):
                some, wrong = job.result()
                facts.images.update(some.images)
                facts.masks.update(some.masks)
                faults += wrong
                if progress:
                    progress(done, len(samples))
        finally:  # an interruption must not wait for what is still queued
            pool.shutdown(wait=False, cancel_futures=True)
    save(dataset.root, facts)
    return facts, faults


def _read_pair(sample: Sample, known: Facts, alone: Lock) -> tuple[Facts, list[Fault]]:
    facts, faults = Facts(images={}, masks={}), list[Fault]()
    image, mask = sample.image, sample.mask
    try:
        facts.images[image] = known.images.get(image) or _read(image, image_facts, alone)
    except BrokenRuleError as error:
        faults.append(Fault(path=image, rule=str(error)))
    if mask is None:
        return facts, faults
    try:
        facts.masks[mask] = known.masks.get(mask) or _read(mask, mask_facts, alone)
    except BrokenRuleError as error:
        faults.append(Fault(path=mask, rule=str(error)))
    return facts, faults


def _read(path: Path, facts_of: Callable[[Path], T], alone: Lock) -> T:
    large = not goes_by_pieces(path) and decoded_bytes(path) > LARGE_BYTES
    with alone if large else nullcontext():
        return facts_of(path)


def _statistics(images: list[ImageFacts]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel over all pixels of some images."""
    num_px = np.array([prod(image.shape) for image in images], dtype=np.float64)
    means = np.array([image.mean for image in images])
    variances = np.array([image.variance for image in images])
    mean = np.average(means, axis=0, weights=num_px)
    variance = np.average(variances + (means - mean) ** 2, axis=0, weights=num_px)
    std = np.where(variance > 0, np.sqrt(variance), 1.0)
    return tuple(mean.tolist()), tuple(std.tolist())
