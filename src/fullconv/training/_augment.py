"""Augmentation of an image and its mask together, on raw pixel values."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random flips, and a random gain and offset of all channels.

    What is drawn depends on seed, epoch and image alone, not on the process that draws it.

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
        self, image: Tensor, mask: Tensor, *, epoch: int, index: int
    ) -> tuple[Tensor, Tensor]:
        """Return the image ``(C, H, W)`` and its mask ``(H, W)``, changed in the same way."""
        draw = np.random.default_rng((self.seed, epoch, index))
        flipped = [axis for axis in self.flips if draw.random() < 0.5]
        if flipped:
            image = image.flip([axis + 1 for axis in flipped])
            mask = mask.flip(flipped)
        return self._shade(image, draw), mask

    def _shade(self, image: Tensor, draw: np.random.Generator) -> Tensor:
        gain = float(np.exp(draw.uniform(-0.2, 0.2)))
        offset = float(draw.uniform(-0.2, 0.2))
        mean, std = (torch.tensor(v, dtype=torch.float32) for v in (self.mean, self.std))
        shift = mean * (1 - gain) + offset * std
        shaded = torch.addcmul(shift.view(-1, 1, 1), image, torch.tensor(gain))
        return shaded if self.largest is None else shaded.clamp_(0, self.largest)
