"""Networks that halve sizes as they come, on images of any size."""

import torch.nn.functional as F
from torch import Tensor, nn


class OnMultiples(nn.Module):
    """A network on images padded with zeros, at the bottom and right, to a multiple; its map cropped.

    Args:
        net: Takes images whose sides are multiples, and returns maps of their size.
        multiple: In px: the stride of the coarsest map.
    """

    def __init__(self, net: nn.Module, multiple: int) -> None:
        super().__init__()
        self.net, self.multiple = net, multiple

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(N, classes, H, W)`` for images ``(N, channels, H, W)``."""
        height, width = image.shape[-2:]
        more = (0, -width % self.multiple, 0, -height % self.multiple)
        return self.net(F.pad(image, more))[..., :height, :width]
