"""Images that a network would be tested on after having learned them."""

from collections import defaultdict
from collections.abc import Hashable, Iterable
from math import prod, sqrt
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fullconv.images._cache import load
from fullconv.images._dataset import Dataset
from fullconv.images._facts import ImageFacts, image_facts
from fullconv.images._files import long_stem, naming, read_image
from fullconv.images._sample import Sample

T = TypeVar("T")

# Sums in another order differ in their last digits.
DIGITS = 9
# Images of one name are looked at where means and deviations differ by less than this share of the
# deviation; they are one, saved again with loss or in another size, where the means of their parts are
# alike as well.
NEAR, PARTS, ALIKE = 0.02, 12, 0.1
# Larger ones are not read for it.
MOST_PX = 2**26


def repeated(dataset: Dataset) -> tuple[tuple[Sample, Sample], ...]:
    """Return the held-out samples whose images are those of training ones, by content or by name.

    By content: size, type, and mean and variance of each channel are equal, so that the pixels are,
    whatever the files are called and however they store them (or one is the other, mirrored). By name: the
    stems are equal, and the pictures look alike: means and variances, and the means of their parts. Only
    for the last are images read again.

    Returns:
        Pairs of a sample of ``val`` or ``test`` and one of ``train``.

    Raises:
        BadDataError: If an image cannot be read.
    """
    known = load(dataset.root).images

    def facts(sample: Sample) -> ImageFacts:
        return known.get(sample.image) or naming(sample.image, image_facts)

    train = [(sample, facts(sample)) for sample in dataset.splits.get("train", ())]
    by_content = _grouped((_content(one), sample) for sample, one in train)
    by_name = _grouped((long_stem(sample.image), (sample, one)) for sample, one in train)
    found: list[tuple[Sample, Sample]] = []
    for split in ("val", "test"):
        for held in dataset.splits.get(split, ()):
            own = facts(held)
            alike = by_content.get(_content(own), [])
            same_stem = by_name.get(long_stem(held.image), [])
            named = [
                one
                for one, other in same_stem
                if _near(own, other) and _look_alike(held.image, one.image, own, other)
            ]
            found += [(held, one) for one in [*alike, *named][:1]]
    return tuple(found)


def _grouped(pairs: Iterable[tuple[Hashable, T]]) -> dict[Hashable, list[T]]:
    groups: dict[Hashable, list[T]] = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return groups


def _content(facts: ImageFacts) -> Hashable:
    numbers = tuple(f"{value:.{DIGITS}g}" for value in (*facts.mean, *facts.variance))
    return (facts.shape, facts.dtype, numbers)


def _near(one: ImageFacts, other: ImageFacts) -> bool:
    channels = list(zip(one.mean, other.mean, one.variance, other.variance, strict=False))
    return len(one.mean) == len(other.mean) and all(
        max(abs(a - b), abs(sqrt(v) - sqrt(w))) <= NEAR * sqrt(max(v, w)) for a, b, v, w in channels
    )


def _look_alike(one: Path, other: Path, *facts: ImageFacts) -> bool:
    """Return whether the means of the parts of two images are alike."""
    if max(prod(known.shape) for known in facts) > MOST_PX:
        return False
    a, b = (_parts(read_image(path)) for path in (one, other))
    return float(np.abs(a - b).mean()) <= ALIKE * float(
        np.abs(a - a.mean((1, 2), keepdims=True)).mean()
    )


def _parts(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the means of the parts of an image `(channels, height, width)`, `PARTS` along each side."""
    found = pixels.astype(np.float64)
    for axis in (1, 2):
        cuts = np.arange(PARTS) * found.shape[axis] // PARTS
        sizes = np.maximum(np.diff([*cuts, found.shape[axis]]), 1)
        sums = np.add.reduceat(found, cuts, axis)
        found = np.moveaxis(np.moveaxis(sums, axis, -1) / sizes, -1, axis)
    return found
