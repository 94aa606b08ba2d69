"""Images and masks as steps: reading, caching, order, batching."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import count, islice
from math import ceil, prod
from typing import Any

import lightning.pytorch as pl
import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from fullconv.errors import BadConfigError, BadDataError
from fullconv.images import ClassTable, Dataset, Sample, Survey, read_image, read_mask, reads_boxes
from fullconv.sampling import Balanced, Patchwise
from fullconv.training._augment import Augment, mirror_axes
from fullconv.training._large import LargeImages, parts_of, stacked
from fullconv.training._order import Anywhere, Cuts, Key, Order, Turning
from fullconv.training._regime import Regime
from fullconv.training._step import Group

CACHE_SHARE = 0.25  # of the memory that is free: room is left for the network and other programs
ORIENTATION_MASKS = 64  # looked at to see along which axes images may be flipped
VALIDATION_IMAGES = 64  # looked at in each validation while training; the final evaluation sees all


class ImageData(pl.LightningDataModule):
    """The images of a data set as steps for a `Trainer`.

    A batch is a list of groups ``(images (N, C, H, W) float32, masks (N, H, W))``, one for each
    size among the images of the step. The order depends on seed and epoch alone.

    Args:
        dataset: The images and their masks.
        survey: What `fullconv.images.survey` found in them.
        batch: Images per step.
        memory: Bytes that the process may take, of which a quarter at most goes to cached images; None
            for what is free.
        seed: Seed of order and augmentation.
        workers: Processes that read and augment, each with memory of its own besides `memory`; None for
            none if training runs on the CPU and the images fit into memory or `memory` is given,
            otherwise as many as there are cores, at most 8.
        augment: Whether to augment the training images.
        replacement: Draw whole images with replacement.
    """

    def __init__(
        self,
        dataset: Dataset,
        survey: Survey,
        *,
        batch: int = 1,
        memory: int | None = None,
        seed: int = 0,
        workers: int | None = None,
        augment: bool = True,
        replacement: bool = False,
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self.survey = survey
        self.seed = seed
        self.workers = workers
        self.augment = augment
        self.replacement = replacement
        self.memory = memory
        self.regime = Regime(name="whole", images=batch)
        self.regimes: tuple[Regime, ...] = (self.regime,)
        self._order: Order | Anywhere | Cuts | Turning = self._drawn(self.regime)
        self._train: Images | LargeImages | None = None
        self._val: Images | LargeImages | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps in which every training image is seen once."""
        return len(self._order)

    def step_px(self, regime: Regime) -> float:
        """Return the px of a step, on average."""
        if regime.cut:
            return regime.images * regime.cut**2
        shapes = self._shapes()
        return regime.images * sum(map(prod, shapes)) / len(shapes)

    def follow(self, regime: Regime, ending: Regime | None = None) -> None:
        """Make steps of a regime, and after `turn` of another one, of whole images."""
        first = self._drawn(regime)
        self.regime = regime
        self.regimes = (regime,) if ending is None else (regime, ending)
        second = None if ending is None else self._drawn(ending)
        self._order = Turning(first, second) if isinstance(second, Order) else first

    def check(self, regime: Regime) -> None:
        """Refuse a regime of which these images cannot make steps.

        Raises:
            BadConfigError: If there are none of them, or too few.
        """
        self._drawn(regime)

    @property
    def turns(self) -> bool:
        """Whether steps are of another regime at the end."""
        return isinstance(self._order, Turning)

    @property
    def turned(self) -> bool:
        """Whether steps are of that regime by now."""
        return isinstance(self._order, Turning) and self._order.turned_at is not None

    def turn(self, step: int) -> None:
        """Go on with the regime of the end, from this step of the run on."""
        assert isinstance(self._order, Turning)
        self._order.turn(step)

    @property
    def validation(self) -> Sequence[Sample]:
        """The images of a validation while training: at most 64, spread over the split."""
        return spread(self.dataset.splits.get("val", ()), VALIDATION_IMAGES)

    def setup(self, stage: str | None = None) -> None:
        """Read the images into memory where they fit."""
        del stage
        if self._train is not None:
            return
        train, val = self.dataset.splits["train"], self.validation
        fits = self.cached_bytes > 0
        if self.large:
            self._set_up_large(train, val)
            return
        change = _augment(train, self.survey, self.seed) if self.augment else None
        self._train = Images(train, self.survey.classes, augment=change, cached=fits)
        self._val = Images(val, self.survey.classes, cached=fits)

    def _set_up_large(self, train: Sequence[Sample], val: Sequence[Sample]) -> None:
        classes = self.survey.classes
        self._train, self._val = LargeImages(train, classes), LargeImages(val, classes)
        if self.augment:
            self._train.augment = _augment_for(self._train.look(), self.survey, self.seed)

    @cached_property
    def large(self) -> bool:
        """Whether images are too large to be read whole, and can be read in parts."""
        samples = [*self.dataset.splits["train"], *self.validation]
        largest = max(prod(self.survey.shapes[s.name]) for s in samples)
        bytes_per_px = 2 * (4 * self.survey.channels + 8)  # as floats, and on their way
        limit = psutil.virtual_memory().available if self.memory is None else self.memory
        if largest * bytes_per_px <= CACHE_SHARE * limit:
            return False
        return any(reads_boxes(sample.image) for sample in samples)

    @property
    def validation_px(self) -> int:
        """Pixels of a validation while training."""
        if self.large:
            return sum(key.box.size for key in self._parts() if key.box)
        return sum(prod(self.survey.shapes[sample.name]) for sample in self.validation)

    def count_classes(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Make an index of the classes of large images, where steps are drawn by class."""
        if not self.large or not isinstance(self.regime.sampler, Balanced):
            return
        self.setup()
        assert isinstance(self._train, LargeImages)
        for number in range(len(self._train)):
            self._train.index(number, progress)

    def _parts(self) -> list[Key]:
        return parts_of([self.survey.shapes[sample.name] for sample in self.validation])

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the steps of an epoch."""
        assert self._train is not None
        return self._loader(self._train, self._order)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """Return the validation images, one by one; no loader where there are none."""
        assert self._val is not None
        if not len(self._val):
            return []
        keys = self._parts() if self.large else [Key(i) for i in range(len(self._val))]
        return [self._loader(self._val, [[key] for key in keys])]

    def state_dict(self) -> dict[str, Any]:
        """Return how far training has come."""
        assert self.trainer is not None
        turned_at = self._order.turned_at if isinstance(self._order, Turning) else None
        return {"step": self.trainer.global_step, "turned_at": turned_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on behind the step of the checkpoint."""
        if isinstance(self._order, Turning):
            self._order.turned_at = state_dict["turned_at"]
        self._order.start_after(state_dict["step"])

    def draw(self, regime: Regime, steps: int) -> list[list[Group]]:
        """Return some first steps of a regime, read in this process; for measuring."""
        assert self._train is not None
        images, drawn = self._train, islice(_epochs(self._drawn(regime)), steps)
        return [stack_by_size([images[key] for key in keys]) for keys in drawn]

    def _drawn(self, regime: Regime) -> Order | Anywhere | Cuts:
        shapes = self._shapes()
        among = self._among(regime, shapes)
        if regime.cut:
            return Cuts(shapes, count=regime.images, size=regime.cut, seed=self.seed)
        if isinstance(regime.sampler, Patchwise):
            places = [regime.sampler.places(shapes[i]) for i in among]
            if len(set(places)) > 1:  # otherwise each image may come once an epoch
                return Anywhere(among, places, batch=regime.images, seed=self.seed)
        return Order(
            among,
            batch=regime.images,
            seed=self.seed,
            replacement=self.replacement,
        )

    def _among(self, regime: Regime, shapes: Sequence[tuple[int, ...]]) -> list[int]:
        """Return the images that steps are drawn from: those that hold what a regime takes of them."""
        found = [i for i, shape in enumerate(shapes) if min(shape) >= regime.least]
        if not found:
            largest = max(shapes, key=min)
            raise BadConfigError(
                f"`sampling` = {regime.name} needs images of at least {regime.least} px per side, got "
                f"none: the largest is {' x '.join(map(str, largest))}; "
                f"{regime.name.rpartition('x')[0]}x{min(largest)} is the largest that fits"
            )
        if regime.share < 1 and regime.images > len(found):
            least = ceil(1000 * regime.images * regime.share / len(found)) / 1000
            raise BadConfigError(
                f"`sampling` = {regime.name} takes {regime.images} images per step, to count as many "
                f"units as whole images have, got {len(found)}; "
                f"{regime.name.split(':')[0]}:{least:g} is the least"
            )
        return found

    def _shapes(self) -> list[tuple[int, ...]]:
        return [self.survey.shapes[sample.name] for sample in self.dataset.splits["train"]]

    def _loader(self, images: "Images | LargeImages", order: Any) -> DataLoader[Any]:
        workers = self._num_workers(images)
        return DataLoader(
            images,
            batch_sampler=order,
            num_workers=workers,
            collate_fn=stack_by_size,
            pin_memory=self._on_gpu(),
            persistent_workers=workers > 0,
            multiprocessing_context=_fork() if workers else None,
            generator=torch.Generator().manual_seed(self.seed),
        )

    def _num_workers(self, images: "Images | LargeImages") -> int:
        if self.large and not self.regime.cut:
            return 0  # each window is read by the step itself
        if self.workers is not None:
            return self.workers
        if not self._on_gpu() and (images.cached or self.memory is not None):
            return 0  # other processes would take memory that no budget knows of
        return min(8, torch.multiprocessing.cpu_count())

    def _on_gpu(self) -> bool:
        trainer = self.trainer
        return trainer is not None and trainer.strategy.root_device.type == "cuda"

    @cached_property
    def cached_bytes(self) -> int:
        """Bytes of the images and masks that are kept in memory; 0 where they don't fit."""
        # A mask has two bytes per unit at most.
        itemsize = np.dtype(self.survey.dtype).itemsize * self.survey.channels + 2
        if self.large:
            return 0
        samples = [*self.dataset.splits["train"], *self.validation]
        size = sum(prod(self.survey.shapes[s.name]) * itemsize for s in samples)
        limit = psutil.virtual_memory().available if self.memory is None else self.memory
        return size if size <= CACHE_SHARE * limit else 0


class Images(TorchDataset[tuple[Tensor, Tensor]]):
    """Images with masks, read when asked for, or once and kept."""

    def __init__(
        self,
        samples: Sequence[Sample],
        classes: ClassTable,
        *,
        augment: Augment | None = None,
        cached: bool = False,
    ) -> None:
        self.samples = samples
        self.classes = classes
        self.augment = augment
        self.cached = cached
        self._pairs: list[tuple[NDArray[Any], NDArray[Any]]] = []
        if cached:
            with ThreadPoolExecutor() as pool:
                self._pairs = list(pool.map(self._read, samples))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        """Return the image ``(C, H, W)`` as float32 and its mask ``(H, W)``."""
        pixels, labels = (
            self._pairs[key.index] if self.cached else self._read(self.samples[key.index])
        )
        if key.box is not None:
            pixels, labels = pixels[(slice(None), *key.box.slices)], labels[key.box.slices]
        image = torch.from_numpy(pixels.astype(np.float32))
        mask = torch.from_numpy(labels.astype(np.int64))
        if self.augment is None:
            return image, mask
        place = (key.index, *key.box.start) if key.box else (key.index,)
        return self.augment(image, mask, epoch=key.epoch, place=place)

    def _read(self, sample: Sample) -> tuple[NDArray[Any], NDArray[Any]]:
        if sample.mask is None:
            raise BadDataError(f"`{sample.image}` must have a mask to train on, got none")
        return read_image(sample.image), read_mask(sample.mask, self.classes)


def stack_by_size(items: Sequence[tuple[Any, Any]]) -> list[Group]:
    """Return the images of a step as one group per size, in order of first appearance."""
    groups: dict[tuple[int, ...], list[tuple[Any, Any]]] = {}
    for image, mask in items:
        groups.setdefault(image.shape, []).append((image, mask))
    return [
        (stacked([i for i, _ in pairs]), stacked([m for _, m in pairs]))
        for pairs in groups.values()
    ]


def spread(items: Sequence[Sample], most: int) -> Sequence[Sample]:
    """Return at most `most` items, evenly spread over all."""
    if len(items) <= most:
        return items
    return [items[i * len(items) // most] for i in range(most)]


def _epochs(order: Order | Anywhere | Cuts) -> Iterator[list[Key]]:
    """Yield the steps of one epoch after the other."""
    for epoch in count():
        order.set_epoch(epoch)
        yield from order


def _augment(samples: Sequence[Sample], survey: Survey, seed: int) -> Augment:
    some = [s.mask for s in spread(samples, ORIENTATION_MASKS) if s.mask is not None]
    return _augment_for([read_mask(path, survey.classes) for path in some], survey, seed)


def _augment_for(masks: Sequence[NDArray[Any]], survey: Survey, seed: int) -> Augment:
    kind = np.dtype(survey.dtype)
    return Augment(
        seed=seed,
        mean=survey.mean,
        std=survey.std,
        largest=float(np.iinfo(kind).max) if kind.kind in "ui" else None,
        flips=mirror_axes(masks, survey.classes.num_classes),
    )


def _fork() -> Any:
    """Return the way to start workers that shares the cached images with them, where there is."""
    methods = multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("fork" if "fork" in methods else None)
