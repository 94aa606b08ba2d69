"""In which order images, or parts of them, make up the steps of an epoch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, prod

import numpy as np
from torch.utils.data import Sampler

from fullconv.geometry import Box
from fullconv.sampling import Patchwise, generator


@dataclass(frozen=True, slots=True)
class Key:
    """An image of a split, the epoch that it is drawn in (for augmentation), and what to cut out."""

    index: int
    epoch: int = 0
    box: Box | None = None


class Order(Sampler[list[Key]]):
    """The steps of an epoch: a permutation by seed and epoch, cut into batches.

    `set_epoch` is called by the trainer; `start_after` leaves out what a resumed run has seen.

    Args:
        images: Indices of the images to draw from.
        batch: Images per step.
        seed: Seed of the run.
        replacement: Draw each image for itself, so that some come twice in an epoch and some not.
    """

    def __init__(
        self, images: Sequence[int], *, batch: int, seed: int, replacement: bool = False
    ) -> None:
        self.images = images
        self.replacement = replacement
        self.batch = batch
        self.seed = seed
        self.epoch = 0
        self.sampler = self  # where the trainer looks for `set_epoch`
        self._skip = 0

    def __len__(self) -> int:
        return ceil(len(self.images) / self.batch)

    def set_epoch(self, epoch: int) -> None:
        """Draw the next permutation for this epoch."""
        self.epoch = epoch

    def start_after(self, step: int) -> None:
        """Begin at the epoch of this step, behind what it has seen."""
        self.epoch, self._skip = divmod(step, len(self))

    def __iter__(self) -> Iterator[list[Key]]:
        skip, self._skip = self._skip, 0
        draw, count = np.random.default_rng((self.seed, self.epoch)), len(self.images)
        order = draw.integers(count, size=count) if self.replacement else draw.permutation(count)
        keys = [Key(self.images[place], self.epoch) for place in order]
        for start in range(skip * self.batch, len(keys), self.batch):
            yield keys[start : start + self.batch]


class Anywhere(Sampler[list[Key]]):
    """The steps of an epoch, as many as the images fill, for places that lie anywhere in the images.

    What a step draws from its images together is as likely to be any place as any other: the first image
    of a step is drawn by its places, the others as they come (Midzuno 1952).

    Args:
        images: Indices of the images to draw from.
        places: How many places each of them has.
        batch: Images per step.
        seed: Seed of the run.
    """

    def __init__(
        self, images: Sequence[int], places: Sequence[int], *, batch: int, seed: int
    ) -> None:
        self.images, self.places = images, places
        self.batch, self.seed, self.epoch = batch, seed, 0
        self.sampler = self  # where the trainer looks for `set_epoch`
        self._skip = 0

    def __len__(self) -> int:
        return ceil(len(self.images) / self.batch)

    def set_epoch(self, epoch: int) -> None:
        """Draw other images for this epoch."""
        self.epoch = epoch

    def start_after(self, step: int) -> None:
        """Begin at the epoch of this step, behind what it has seen."""
        self.epoch, self._skip = divmod(step, len(self))

    def __iter__(self) -> Iterator[list[Key]]:
        skip, self._skip = self._skip, 0
        shares = np.array(self.places) / sum(self.places)
        for step in range(skip, len(self)):
            draw = np.random.default_rng((self.seed, self.epoch, step))
            first = draw.choice(len(shares), p=shares)
            others = np.delete(np.arange(len(shares)), first)
            rest = draw.choice(others, min(self.batch - 1, len(others)), replace=False)
            yield [Key(self.images[place], self.epoch) for place in (first, *rest)]


class Cuts(Sampler[list[Key]]):
    """The steps of an epoch: sub-images from anywhere, as many px as the images have.

    Args:
        shapes: Of the images, in px.
        count: Sub-images per step.
        size: Their side, in px.
        seed: Seed of the run.
        epoch: The epoch to begin with.

    Raises:
        FullconvError: If no image is as large as the sub-images.
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, ...]],
        *,
        count: int,
        size: int,
        seed: int,
        epoch: int = 0,
    ) -> None:
        self.shapes, self.seed, self.epoch = shapes, seed, epoch
        self.sampler = self  # where the trainer looks for `set_epoch`
        self._draw = Patchwise(count, size).draw
        self._draw(shapes, generator(seed))  # refuses what does not fit
        self._steps = ceil(sum(map(prod, shapes)) / (count * size**2))
        self._skip = 0

    def __len__(self) -> int:
        return self._steps

    def set_epoch(self, epoch: int) -> None:
        """Draw other sub-images for this epoch."""
        self.epoch = epoch

    def start_after(self, step: int) -> None:
        """Begin at the epoch of this step, behind what it has seen."""
        self.epoch, self._skip = divmod(step, len(self))

    def __iter__(self) -> Iterator[list[Key]]:
        skip, self._skip = self._skip, 0
        for step in range(skip, len(self)):
            drawn = self._draw(self.shapes, generator(self.seed, self.epoch, step))
            yield [Key(i, self.epoch, box) for i, boxes in enumerate(drawn) for box in boxes]


class Turning(Sampler[list[Key]]):
    """The steps of one order, and those of another one from some step on.

    An epoch stays as many steps as it has in the first order.
    """

    def __init__(self, first: Order | Anywhere | Cuts, second: Order) -> None:
        self.first, self.second = first, second
        self.turned_at: int | None = None
        self.sampler = self  # where the trainer looks for `set_epoch`

    def __len__(self) -> int:
        return len(self.first)

    def set_epoch(self, epoch: int) -> None:
        """Draw anew for this epoch, before the turn."""
        self.first.set_epoch(epoch)

    def turn(self, step: int) -> None:
        """Go on with the second order from this step of the run on."""
        if self.turned_at is None:
            self.turned_at = step
            self.second.start_after(0)

    def start_after(self, step: int) -> None:
        """Begin behind a step, on the side of the turn that it is on."""
        self.first.start_after(step)
        if self.turned_at is not None:
            self.second.start_after(step - self.turned_at)

    def __iter__(self) -> Iterator[list[Key]]:
        for keys in self.first:
            if self.turned_at is not None:
                break
            yield keys
        while self.turned_at is not None:
            yield from self.second
            self.second.set_epoch(self.second.epoch + 1)
