"""The demo's network: a classifier of patches that is convolutional by construction.

It is a network of the demo's own, given to training as ``fullconv.demo:digit_net`` like any
``package.module:factory``. On a patch, the unit in the middle of its coarse map is the answer of a
classifier that has seen the whole patch. On an image of any size the same weights give that answer
at every place, and there is nothing to convert.

Shapes: ``N`` images, ``C`` channels, ``H`` and ``W`` px.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DigitNet(nn.Module):
    """Four stages at strides 4, 8, 16 and 32, a decoder back to stride 4, and two scores.

    The *coarse* score, at stride 16, says what is here; the *fine* one, at stride 4, corrects it
    along the rims. Their sum, as in FCN-8s, is enlarged bilinearly to the size of the image.

    Args:
        classes: Channels of the map.
        channels: Channels of the image.
        width: Channels at stride 4; twice and four times as many behind it.
    """

    def __init__(self, *, classes: int, channels: int = 3, width: int = 32) -> None:
        super().__init__()
        deepest = 6 * width
        self.to_4 = nn.Sequential(
            _convolution(channels, width, kernel=7, stride=4),
            _convolution(width, width),
            _convolution(width, width),
        )
        self.to_8 = _stage(width, 2 * width)
        self.to_16 = _stage(2 * width, 4 * width)
        self.to_32 = _stage(4 * width, deepest)
        self.up_16 = _convolution(deepest + 4 * width, 4 * width)
        self.up_8 = _convolution(6 * width, 2 * width)
        self.up_4 = _convolution(3 * width, width)
        self.coarse = nn.Conv2d(4 * width, classes, 1)
        self.fine = nn.Conv2d(width, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(N, classes, H, W)`` for images ``(N, channels, H, W)``."""
        fine, _ = self.scores(image)
        # Losses want whole planes of a class: turned over here, where the map is small.
        return _enlarge(fine.contiguous(), image, factor=4, mode="bilinear")

    def scores(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of both scores at stride 4, and the coarse score at stride 16."""
        at_4 = self.to_4(image)
        at_8 = self.to_8(at_4)
        at_16 = self.to_16(at_8)
        x = self.up_16(_beside(at_16, self.to_32(at_16)))
        coarse = self.coarse(x)
        x = self.up_4(_beside(at_4, self.up_8(_beside(at_8, x))))
        enlarged = _enlarge(coarse, at_8, factor=2, mode="bilinear")
        return self.fine(x) + _enlarge(enlarged, at_4, factor=2, mode="bilinear"), coarse


def digit_net(*, classes: int, channels: int = 3, width: int = 32) -> DigitNet:
    """Return the demo's network with fresh weights."""
    return DigitNet(classes=classes, channels=channels, width=width)


def _convolution(start: int, stop: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(start, stop, kernel, stride=stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(stop), nn.ReLU(inplace=True))


def _stage(start: int, stop: int) -> nn.Sequential:
    halve = nn.MaxPool2d(2, ceil_mode=True)
    return nn.Sequential(halve, _convolution(start, stop), _convolution(stop, stop))


def _beside(skip: Tensor, x: Tensor) -> Tensor:
    return torch.cat([skip, _enlarge(x, skip, factor=2, mode="nearest")], dim=1)


def _enlarge(x: Tensor, like: Tensor, *, factor: int, mode: str) -> Tensor:
    corners = False if mode == "bilinear" else None
    y = F.interpolate(x, scale_factor=factor, mode=mode, align_corners=corners)
    return y[..., : like.shape[-2], : like.shape[-1]]
