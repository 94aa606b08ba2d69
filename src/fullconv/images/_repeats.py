"""Images that a network would be tested on after having learned them."""

from collections import defaultdict
from collections.abc import Hashable, Iterable
from math import sqrt
from typing import TypeVar

from fullconv.images._cache import load
from fullconv.images._dataset import Dataset
from fullconv.images._facts import ImageFacts, image_facts
from fullconv.images._files import naming, stem
from fullconv.images._sample import Sample

T = TypeVar("T")

# Sums in another order differ in their last digits.
DIGITS = 9
# Images of one name are one where means and deviations differ by less than this share of the deviation:
# saved again with loss, or in another size. Other images come nowhere near in all channels.
NEAR = 0.02


def repeated(dataset: Dataset) -> tuple[tuple[Sample, Sample], ...]:
    """Return the held-out samples whose images are those of training ones, by content or by name.

    By content: size, type, and mean and variance of each channel are equal, so that the pixels are,
    whatever the files are called and however they store them (or one is the other, mirrored). By name: the
    stems are equal, and means and variances nearly so. Nothing is read that `survey` knows already.

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
    by_name = _grouped((stem(sample.image), (sample, one)) for sample, one in train)
    found: list[tuple[Sample, Sample]] = []
    for split in ("val", "test"):
        for held in dataset.splits.get(split, ()):
            own = facts(held)
            alike = by_content.get(_content(own), [])
            same_stem = by_name.get(stem(held.image), [])
            named = [one for one, other in same_stem if _near(own, other)]
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
