"""A chain of named layers that hands out the maps behind some of them.

The layers have the names that the reference's Caffe files give them, so that weights are found by
name and messages speak of the layers that the papers speak of.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from fullconv.errors import BadConfigError

# Zeros around the image before the first convolution, as in the authors' networks.
PAD = 100


class Trunk(nn.Sequential):
    """Layers in a row; its result are the maps behind the layers named as taps, fine to coarse.

    Args:
        layers: Name → layer, in the order in which they run.
        taps: Name of a layer whose map is handed out → channels of that map; the last layer is the
            last of them.
    """

    def __init__(self, layers: Mapping[str, nn.Module], taps: Mapping[str, int]) -> None:
        super().__init__(OrderedDict(layers))
        self.taps = tuple(taps)
        self.widths = tuple(taps.values())

    def forward(self, input: Tensor) -> list[Tensor]:
        """Return the maps behind the taps for images ``(N, channels, H, W)``."""
        maps: list[Tensor] = []
        x = input
        for name, layer in self.named_children():
            x = layer(x)
            if name in self.taps:
                maps.append(x)
        return maps


def thinned(widths: Iterable[int], thin: int, *, groups: int = 1) -> list[int]:
    """Return numbers of channels divided by `thin`.

    Args:
        widths: The numbers.
        thin: What they are divided by.
        groups: Of a layer's channels, which stay equally many.

    Raises:
        BadConfigError: If that leaves a fraction of a channel in a group.
    """
    widths = list(widths)
    if type(thin) is not int or thin < 1 or any(width % (thin * groups) for width in widths):
        powers = (64, 32, 16, 8, 4, 2, 1)
        most = next(t for t in powers if not any(w % (t * groups) for w in widths))
        whole = f", into {groups} equal groups each" if groups > 1 else ""
        raise BadConfigError(
            f"`thin` must be a power of 2 up to {most}, which divides all widths{whole}, got {thin!r}"
        )
    return [width // thin for width in widths]


def conv(
    start: int, stop: int, kernel: int, *, stride: int = 1, padding: int = 0, groups: int = 1
) -> nn.Conv2d:
    """Return a convolution with fresh weights for the ReLU behind it, and biases of 0.

    They are drawn once, not by PyTorch's rule first: VGG16 has 134 million of them.
    """
    layer = nn.Conv2d(start, stop, kernel, stride, padding, groups=groups, device="meta")
    layer = layer.to_empty(device=torch.get_default_device())
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
