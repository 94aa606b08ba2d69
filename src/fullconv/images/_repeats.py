"""Images that a network would be tested on after having learned them."""

from collections import defaultdict
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

from fullconv.images._dataset import Dataset, Sample


def repeated(dataset: Dataset) -> tuple[tuple[Sample, Sample], ...]:
    """Return the held-out samples whose image files are, byte for byte, those of training ones.

    Only files of equal size are read. An image that was saved again in another way is not found.

    Returns:
        Pairs of a sample of ``val`` or ``test`` and one of ``train``.
    """
    train = _by_size(dataset.splits.get("train", ()))
    found: list[tuple[Sample, Sample]] = []
    for split in ("val", "test"):
        for sample in dataset.splits.get(split, ()):
            alike = train.get(_size(sample.image), []) if sample.image.is_file() else []
            digest = _digest(sample.image) if alike else b""
            found += [(sample, one) for one in alike if _digest(one.image) == digest][:1]
    return tuple(found)


def _by_size(samples: Iterable[Sample]) -> dict[int, list[Sample]]:
    sizes: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.image.is_file():
            sizes[_size(sample.image)].append(sample)
    return sizes


def _size(path: Path) -> int:
    return path.stat().st_size


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        digest = blake2b(digest_size=16)
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.digest()
