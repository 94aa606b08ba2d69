"""The trunk of FCN-GoogLeNet: Szegedy et al. (2015), Table 1, without its side classifiers."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fullconv.networks._trunk import PAD, Trunk, conv, thinned

# 1 × 1; 3 × 3 and what reduces its input; 5 × 5 and what reduces its input; behind the pooling.
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
POOLED_BEFORE = ("4a", "5a")
STEM = (64, 64, 192)
DROPOUT = 0.4
# The average pooling of 7 × 7 needs 192 px more to stand on; this is the least padding that lets an
# image of a single px through.
PAD_FOR_AVERAGE = 114


def googlenet(channels: int, *, thin: int = 1, average: bool = False) -> Trunk:
    """Return the trunk: stride 32, a field of 715 px, or 907 px through the average pooling.

    Args:
        channels: Channels of the image.
        thin: All widths are divided by this.
        average: Keep the classifier's average pooling, of 7 × 7; the paper found it to do harm.
    """
    w1, w2, w3 = thinned(STEM, thin)
    pad = PAD_FOR_AVERAGE if average else PAD
    layers: dict[str, nn.Module] = {
        "conv1": _named({"7x7_s2": conv(channels, w1, 7, stride=2, padding=pad)}),
        "pool1": _pool(),
        "norm1": nn.LocalResponseNorm(5),
        "conv2": _named({"3x3_reduce": conv(w1, w2, 1), "3x3": conv(w2, w3, 3, padding=1)}),
        "norm2": nn.LocalResponseNorm(5),
        "pool2": _pool(),
    }
    start = w3
    for name, widths in INCEPTIONS.items():
        if name in POOLED_BEFORE:
            layers[f"pool{int(name[0]) - 1}"] = _pool()
        layers[f"inception_{name}"] = block = Inception(start, thinned(widths, thin))
        start = block.width
    if average:
        layers["pool5"] = nn.AvgPool2d(7, 1)
    layers["drop"] = nn.Dropout(DROPOUT)
    return Trunk(layers, {"drop": start})


class Inception(nn.Module):
    """Four branches side by side: 1 × 1, 3 × 3, 5 × 5, and a pooling of 3 × 3."""

    def __init__(self, start: int, widths: list[int]) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pooled = widths
        self.width = one + three + five + pooled
        self.add_module("1x1", conv(start, one, 1))
        self.add_module("3x3_reduce", conv(start, reduce3, 1))
        self.add_module("3x3", conv(reduce3, three, 3, padding=1))
        self.add_module("5x5_reduce", conv(start, reduce5, 1))
        self.add_module("5x5", conv(reduce5, five, 5, padding=2))
        self.pool = nn.MaxPool2d(3, 1, 1)
        self.add_module("pool_proj", conv(start, pooled, 1))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return the maps of the branches, one behind the other."""

        def through(x: Tensor, *names: str) -> Tensor:
            for name in names:
                x = F.relu(self.get_submodule(name)(x))
            return x

        branches = [
            through(x_NCHW, "1x1"),
            through(x_NCHW, "3x3_reduce", "3x3"),
            through(x_NCHW, "5x5_reduce", "5x5"),
            through(self.pool(x_NCHW), "pool_proj"),
        ]
        return torch.cat(branches, 1)


def _named(convolutions: dict[str, nn.Conv2d]) -> nn.Sequential:
    """Return convolutions with a ReLU behind each."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in convolutions.items():
        layers[name] = layer
        layers[f"relu_{name}"] = nn.ReLU(inplace=True)
    return nn.Sequential(layers)


def _pool() -> nn.Module:
    return nn.MaxPool2d(3, 2, ceil_mode=True)
