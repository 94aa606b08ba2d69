"""Images that are never in memory as a whole, as steps: read window by window, or sub-image by sub-image.

What would need the whole image is left out of augmentation: turning and scaling. Flips and shades remain.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from fullconv.errors import BadDataError
from fullconv.geometry import Box
from fullconv.images import ClassIndex, ClassTable, Sample, class_index, open_image, open_mask
from fullconv.regions import LazyArray, sharing
from fullconv.training._augment import Augment
from fullconv.training._order import Key

# While training, large images are validated on so many parts, of at most so many px per side.
PARTS, PART_PX = 64, 512
# Chunks that neighbouring windows share take this much at most.
SHARED_BYTES = 2**26
# To see along which axes images may be flipped, a mask is looked at in so many places per side.
LOOKS = 16


class Pixels:
    """An image of a step, `(channels, height, width)`, that gives parts of itself."""

    def __init__(self, array: LazyArray) -> None:
        self.array, self.shape = array, array.shape

    def __getitem__(self, place: Any) -> NDArray[Any]:
        """Return a part."""
        return self.array[place]


class Labels:
    """The labels of a step's image, `(height, width)`; blocks of it can be drawn from by class."""

    def __init__(
        self, array: LazyArray, flips: Sequence[int], index: Callable[[], ClassIndex]
    ) -> None:
        self.array, self.shape = array, array.shape
        self._flips, self._index = flips, index

    def __getitem__(self, place: Any) -> NDArray[Any]:
        """Return the labels of a part."""
        return self.array[place]

    def blocks(self) -> tuple[list[Box], NDArray[np.int64]]:
        """Return boxes that make up the map, and how often each class is in each."""
        index = self._index()
        boxes = [self._mirrored(index.box(place)) for place in np.ndindex(*index.counts.shape[:-1])]
        return boxes, index.counts.reshape(len(boxes), -1)

    def _mirrored(self, box: Box) -> Box:
        ends = zip(box.start, box.stop, self.shape, strict=True)
        spans = [(n - b, n - a) if k in self._flips else (a, b) for k, (a, b, n) in enumerate(ends)]
        return Box(start=tuple(a for a, _ in spans), stop=tuple(b for _, b in spans))


class LargeImages(TorchDataset[tuple[Any, Any]]):
    """Large images with masks: whole ones that are read in parts, or sub-images of them."""

    cached = False

    def __init__(
        self,
        samples: Sequence[Sample],
        classes: ClassTable,
        *,
        augment: Augment | None = None,
        shared_bytes: int = SHARED_BYTES,
    ) -> None:
        self.samples, self.classes, self.augment = samples, classes, augment
        self._pairs: dict[int, tuple[LazyArray, LazyArray]] = {}
        self._indices: dict[int, ClassIndex] = {}
        self._shared = shared_bytes // max(1, 2 * len(samples))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> tuple[Any, Any]:
        """Return a sub-image ``(C, H, W)`` with its mask ``(H, W)``, or a whole image in parts."""
        image, mask = self._pair(key.index)
        if key.box is None:
            return self._whole(key, image, mask)
        pixels, labels = image[(slice(None), *key.box.slices)], mask[key.box.slices]
        part = torch.from_numpy(pixels.astype(np.float32))
        target = torch.from_numpy(labels.astype(np.int64))
        if self.augment is None:
            return part, target
        return self.augment(part, target, epoch=key.epoch, place=(key.index, *key.box.start))

    def index(self, number: int, progress: Callable[[int, int], None] | None = None) -> ClassIndex:
        """Return where the classes of a mask are."""
        if number not in self._indices:
            mask = self.samples[number].mask
            assert mask is not None
            self._indices[number] = class_index(mask, self.classes, progress)
        return self._indices[number]

    def look(self) -> list[NDArray[np.integer]]:
        """Return the masks, each reduced to some places."""
        found: list[NDArray[np.integer]] = []
        for number in range(len(self.samples)):
            mask = self._pair(number)[1]
            rows, columns = (np.linspace(0, n - 1, min(n, LOOKS)).astype(int) for n in mask.shape)
            found.append(np.array([[mask[y, x] for x in columns] for y in rows]))
        return found

    def _pair(self, number: int) -> tuple[LazyArray, LazyArray]:
        if number not in self._pairs:
            sample = self.samples[number]
            if sample.mask is None:
                raise BadDataError(f"`{sample.image}` must have a mask to train on, got none")
            image, mask = open_image(sample.image), open_mask(sample.mask, self.classes)
            self._pairs[number] = sharing(image, self._shared), sharing(mask, self._shared)
        return self._pairs[number]

    def _whole(self, key: Key, image: LazyArray, mask: LazyArray) -> tuple[Pixels, Labels]:
        flips: tuple[int, ...] = ()
        if self.augment is not None:
            flips, shade = self.augment.of_parts(epoch=key.epoch, place=(key.index,))
            image = image.flipped(tuple(k + 1 for k in flips)).mapped(shade, dtype=np.float32)
        return Pixels(image), Labels(mask.flipped(flips), flips, lambda: self.index(key.index))


def parts_of(shapes: Sequence[tuple[int, ...]]) -> list[Key]:
    """Return parts of images to validate on: evenly spread, more of larger images."""
    total = sum(map(prod, shapes))
    keys: list[Key] = []
    for number, shape in enumerate(shapes):
        sides = [min(PART_PX, n) for n in shape]
        most = prod(-(-n // s) for n, s in zip(shape, sides, strict=True))
        count = max(1, min(most, round(PARTS * prod(shape) / total)))
        grid = -(-shape[0] // sides[0]), -(-shape[1] // sides[1])
        for k in range(count):
            place = divmod(k * most // count, grid[1])
            start = tuple(
                (n - s) * p // max(1, g - 1)
                for n, s, p, g in zip(shape, sides, place, grid, strict=True)
            )
            stop = tuple(a + s for a, s in zip(start, sides, strict=True))
            keys.append(Key(number, box=Box(start=start, stop=stop)))
    return keys


def stacked(items: Sequence[Any]) -> Any:
    """Return tensors as one, and what is read in parts as a list."""
    return torch.stack(list(items)) if isinstance(items[0], Tensor) else list(items)
