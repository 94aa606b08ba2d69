"""Augmentation of an image and its mask together, on raw pixel values.

Flips cost nothing and are drawn for each image; a small rotation and scaling, by kornia, is drawn
for some, so that the work stays at about a hundredth of a step's. What it brings in from outside the
image is mirrored, in image and mask alike, so every label stays true. Gain and offset are the same
for all channels, and values stay in the range of their type.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from kornia.geometry.transform import get_affine_matrix2d, warp_affine
from numpy.typing import NDArray
from torch import Tensor

WARP_SHARE = 0.25  # of the images
MOST_DEGREES = 10.0
MOST_SCALE = 1.15
MOST_SHADE = 0.2  # largest logarithm of the gain, and offset in standard deviations
ALIKE = 0.3  # halves of masks whose class shares differ by less may change places


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random flips, rotation and scaling, gain and offset.

    What is drawn depends on seed, epoch and place (image, corner) alone, not on the process that draws it.

    Attributes:
        seed: Seed of the run.
        mean: Mean of each channel, in raw pixel values.
        std: Standard deviation of each channel.
        largest: Largest pixel value of the type that the images are stored in; None for floats.
        flips: Axes of the mask along which to flip half of the images: 0 vertical, 1 horizontal.
    """

    seed: int
    mean: Sequence[float]
    std: Sequence[float]
    largest: float | None
    flips: tuple[int, ...] = (0, 1)

    def __call__(
        self, image: Tensor, mask: Tensor, *, epoch: int, place: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        """Return the image ``(C, H, W)`` and its mask ``(H, W)``, changed in the same way."""
        draw = np.random.default_rng((self.seed, epoch, *place))
        flipped = [axis for axis in self.flips if draw.random() < 0.5]
        if flipped:
            image = image.flip([axis + 1 for axis in flipped])
            mask = mask.flip(flipped)
        if draw.random() < WARP_SHARE:
            image, mask = _warp(image, mask, draw)
        return self._shade(image, *_contrast(draw)), mask

    def of_parts(
        self, *, epoch: int, place: tuple[int, ...]
    ) -> tuple[tuple[int, ...], Callable[[NDArray[Any]], NDArray[Any]]]:
        """Return the axes along which an image is flipped that is read in parts, and what shades each."""
        draw = np.random.default_rng((self.seed, epoch, *place))
        flipped = tuple(axis for axis in self.flips if draw.random() < 0.5)
        gain, offset = _contrast(draw)

        def shade(part: NDArray[Any]) -> NDArray[Any]:
            pixels = torch.from_numpy(part.astype(np.float32))
            return self._shade(pixels, gain, offset).numpy()

        return flipped, shade

    def _shade(self, image: Tensor, gain: float, offset: float) -> Tensor:
        """Return the image with another contrast around its channels' means, and brightness."""
        mean, std = (torch.tensor(v, dtype=torch.float32) for v in (self.mean, self.std))
        shift = mean * (1 - gain) + offset * std
        shaded = torch.addcmul(shift.view(-1, 1, 1), image, torch.tensor(gain))
        return shaded if self.largest is None else shaded.clamp_(0, self.largest)


def _contrast(draw: np.random.Generator) -> tuple[float, float]:
    """Return a gain, and an offset in standard deviations."""
    gain = float(np.exp(draw.uniform(-MOST_SHADE, MOST_SHADE)))
    return gain, float(draw.uniform(-MOST_SHADE, MOST_SHADE))


def mirror_axes(masks: Sequence[NDArray[np.integer]], classes: int) -> tuple[int, ...]:
    """Return the axes along which masks may be flipped: 0 vertical, 1 horizontal.

    An axis along which the halves of the masks hold clearly different classes, such as sky above
    and road below, has a direction that is part of what there is to learn.

    Args:
        masks: Some training masks, ``(H, W)``.
        classes: Number of classes; other labels do not count.
    """
    return tuple(axis for axis in (0, 1) if _unlikeness(masks, axis, classes) < ALIKE)


def _unlikeness(masks: Sequence[NDArray[np.integer]], axis: int, classes: int) -> float:
    """Return the total variation distance of the class shares of both halves, 0 to 1."""
    counts = np.zeros((2, classes))
    for mask in masks:
        half = mask.shape[axis] // 2
        lines = np.moveaxis(mask, axis, 0)
        for row, part in zip(counts, (lines[:half], lines[mask.shape[axis] - half :]), strict=True):
            row += np.bincount(part[part < classes], minlength=classes)
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def _warp(image: Tensor, mask: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return both, turned and scaled around the middle; the mask keeps its labels."""
    height, width = mask.shape
    degrees = float(draw.uniform(-MOST_DEGREES, MOST_DEGREES))
    scale = float(MOST_SCALE ** draw.uniform(-1, 1))
    matrix = get_affine_matrix2d(
        torch.zeros(1, 2),
        torch.tensor([[(width - 1) / 2, (height - 1) / 2]]),
        torch.tensor([[scale, scale]]),
        torch.tensor([degrees]),
    )[:, :2]
    warped, labels = (
        warp_affine(x, matrix, (height, width), mode=mode, padding_mode="reflection")
        for x, mode in ((image[None], "bilinear"), (mask[None, None].float(), "nearest"))
    )
    return warped[0], labels[0, 0].to(mask.dtype)
