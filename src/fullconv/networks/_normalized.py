"""The normalisation of pixel values as part of the network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fullconv.errors import BadConfigError, FullconvError


class Normalized(nn.Module):
    """A network on raw pixel values: each channel is centred and scaled before `net` sees it.

    Args:
        net: The network behind the normalisation.
        mean: Mean of each channel over the training images, in raw pixel values.
        std: Standard deviation of each channel; a constant channel (0) is only centred.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std):
            raise BadConfigError(
                f"`mean` and `std` must have one value per channel, got {len(mean)} and {len(std)}"
            )
        self.net = net
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        scale = [value if value > 0 else 1.0 for value in std]
        self.register_buffer("std", torch.tensor(scale, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Return what `net` makes of the normalised images ``(N, channels, H, W)``.

        Raises:
            FullconvError: If they have other channels: one would be stretched to all without a word.
        """
        # What surgery follows through a network stands for a tensor, and is none.
        if isinstance(image, Tensor) and image.shape[1] != len(self.mean):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise FullconvError(
                f"`image` must have the channels that the network was trained with, "
                f"{len(self.mean)}, got {image.shape[1]}"
            )
        return self.net((image - self.mean) / self.std)
