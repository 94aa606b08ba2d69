"""Images and masks as steps: reading, caching, order, batching."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from math import ceil, prod
from typing import Any

import lightning.pytorch as pl
import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from fullconv.errors import BadDataError
from fullconv.geometry import Box
from fullconv.images import ClassTable, Dataset, Sample, Survey, read_image, read_mask
from fullconv.sampling import Patchwise, generator
from fullconv.training._augment import Augment, mirror_axes
from fullconv.training._step import Group

CACHE_SHARE = 0.25  # of the memory that is free: room is left for the network and other programs
ORIENTATION_MASKS = 64  # looked at to see along which axes images may be flipped
VALIDATION_IMAGES = 64  # looked at in each validation while training; the final evaluation sees all


@dataclass(frozen=True, slots=True)
class Key:
    """An image of a split, the epoch that it is drawn in (for augmentation), and what to cut out."""

    index: int
    epoch: int = 0
    box: Box | None = None


class ImageData(pl.LightningDataModule):
    """The images of a data set as steps for a `Trainer`.

    A batch is a list of groups ``(images (N, C, H, W) float32, masks (N, H, W))``, one for each
    size among the images of the step. The order depends on seed and epoch alone.

    Args:
        dataset: The images and their masks.
        survey: What `fullconv.images.survey` found in them.
        batch: Images per step; sub-images, if they are cut.
        cut: Side in px of the sub-images that are cut out of the training images, anywhere; None for
            whole images.
        memory: Bytes that the process may take, of which a quarter at most goes to cached images; None
            for what is free.
        seed: Seed of order and augmentation.
        workers: Processes that read and augment; None for none if the images fit into memory and
            training runs on the CPU, otherwise as many as there are cores, at most 8.
        augment: Whether to augment the training images.
    """

    def __init__(
        self,
        dataset: Dataset,
        survey: Survey,
        *,
        batch: int = 1,
        cut: int | None = None,
        memory: int | None = None,
        seed: int = 0,
        workers: int | None = None,
        augment: bool = True,
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self.survey = survey
        self.batch = batch
        self.seed = seed
        self.workers = workers
        self.augment = augment
        self.memory = memory
        shapes = [survey.shapes[sample.name] for sample in dataset.splits["train"]]
        self._order: Order | Cuts = (
            Cuts(shapes, count=batch, size=cut, seed=seed)
            if cut
            else Order(len(shapes), batch=batch, seed=seed)
        )
        self.step_px = batch * (cut**2 if cut else sum(map(prod, shapes)) / len(shapes))
        self._train: Images | None = None
        self._val: Images | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps in which every training image is seen once."""
        return len(self._order)

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
        change = _augment(train, self.survey, self.seed) if self.augment else None
        self._train = Images(train, self.survey.classes, augment=change, cached=fits)
        self._val = Images(val, self.survey.classes, cached=fits)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the steps of an epoch."""
        assert self._train is not None
        return self._loader(self._train, self._order)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """Return the validation images, one by one; no loader where there are none."""
        assert self._val is not None
        if not len(self._val):
            return []
        return [self._loader(self._val, [[Key(i)] for i in range(len(self._val))])]

    def state_dict(self) -> dict[str, Any]:
        """Return how far training has come."""
        assert self.trainer is not None
        return {"step": self.trainer.global_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on behind the step of the checkpoint."""
        self._order.start_after(state_dict["step"])

    def _loader(self, images: "Images", order: Any) -> DataLoader[Any]:
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

    def _num_workers(self, images: "Images") -> int:
        if self.workers is not None:
            return self.workers
        if images.cached and not self._on_gpu():
            return 0
        return min(8, torch.multiprocessing.cpu_count())

    def _on_gpu(self) -> bool:
        trainer = self.trainer
        return trainer is not None and trainer.strategy.root_device.type == "cuda"

    @cached_property
    def cached_bytes(self) -> int:
        """Bytes of the images and masks that are kept in memory; 0 where they don't fit."""
        # A mask has two bytes per unit at most.
        itemsize = np.dtype(self.survey.dtype).itemsize * self.survey.channels + 2
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


class Order(Sampler[list[Key]]):
    """The steps of an epoch: a permutation by seed and epoch, cut into batches.

    `set_epoch` is called by the trainer; `start_after` leaves out what a resumed run has seen.
    """

    def __init__(self, size: int, *, batch: int, seed: int) -> None:
        self.size = size
        self.batch = batch
        self.seed = seed
        self.epoch = 0
        self.sampler = self  # where the trainer looks for `set_epoch`
        self._skip = 0

    def __len__(self) -> int:
        return ceil(self.size / self.batch)

    def set_epoch(self, epoch: int) -> None:
        """Draw the next permutation for this epoch."""
        self.epoch = epoch

    def start_after(self, step: int) -> None:
        """Begin at the epoch of this step, behind what it has seen."""
        self.epoch, self._skip = divmod(step, len(self))

    def __iter__(self) -> Iterator[list[Key]]:
        skip, self._skip = self._skip, 0
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.size)
        keys = [Key(int(index), self.epoch) for index in order]
        for start in range(skip * self.batch, self.size, self.batch):
            yield keys[start : start + self.batch]


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


def stack_by_size(items: Sequence[tuple[Tensor, Tensor]]) -> list[Group]:
    """Return the images of a step as one group per size, in order of first appearance."""
    groups: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
    for image, mask in items:
        groups.setdefault(image.shape, []).append((image, mask))
    return [
        (torch.stack([i for i, _ in pairs]), torch.stack([m for _, m in pairs]))
        for pairs in groups.values()
    ]


def spread(items: Sequence[Sample], most: int) -> Sequence[Sample]:
    """Return at most `most` items, evenly spread over all."""
    if len(items) <= most:
        return items
    return [items[i * len(items) // most] for i in range(most)]


def _augment(samples: Sequence[Sample], survey: Survey, seed: int) -> Augment:
    some = [s.mask for s in spread(samples, ORIENTATION_MASKS) if s.mask is not None]
    masks = [read_mask(path, survey.classes) for path in some]
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
