"""The trunks of the paper (Long, Shelhamer & Darrell 2015, Table 1), written from its tables.

On the meta device: they have a geometry without having weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")


def vgg16(stop: int | None = None, *, padding: int = 1, head: bool = False) -> nn.Module:
    """The convolutions of VGG16 up to pooling `stop`; with `head`, fc6 to the score as well."""
    layers: list[nn.Module] = []
    channels, pools = 3, 0
    for width in VGG16:
        if isinstance(width, str):
            pools += 1
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
            if pools == stop:
                return nn.Sequential(*layers)
        else:
            conv = nn.Conv2d(channels, width, 3, padding=padding if channels == 3 else 1)
            layers += [conv, nn.ReLU(inplace=True)]
            channels = width
    if head:
        layers += [nn.Conv2d(512, 4096, 7), nn.ReLU(inplace=True), nn.Dropout()]
        layers += [nn.Conv2d(4096, 4096, 1), nn.ReLU(inplace=True), nn.Dropout()]
        layers += [nn.Conv2d(4096, 21, 1)]
    return nn.Sequential(*layers)


def caffenet() -> nn.Module:
    """FCN-AlexNet without the padding of 100: one unit for 227 × 227 px."""
    pool = lambda: nn.MaxPool2d(3, 2, ceil_mode=True)
    return nn.Sequential(
        nn.Conv2d(3, 96, 11, 4), nn.ReLU(), pool(), nn.LocalResponseNorm(5),
        nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), pool(), nn.LocalResponseNorm(5),
        nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), pool(),
        nn.Conv2d(256, 4096, 6), nn.ReLU(), nn.Conv2d(4096, 4096, 1), nn.ReLU(),
        nn.Conv2d(4096, 21, 1),
    )  # fmt: skip


class Inception(nn.Module):
    """Four branches side by side: 1 × 1, 3 × 3, 5 × 5, and a pooling of 3 × 3."""

    def __init__(self, channels: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pooled = widths
        self.one = nn.Conv2d(channels, one, 1)
        self.three = nn.Sequential(
            nn.Conv2d(channels, reduce3, 1), nn.ReLU(), nn.Conv2d(reduce3, three, 3, padding=1)
        )
        self.five = nn.Sequential(
            nn.Conv2d(channels, reduce5, 1), nn.ReLU(), nn.Conv2d(reduce5, five, 5, padding=2)
        )
        self.pool = nn.Sequential(
            nn.MaxPool2d(3, 1, 1, ceil_mode=True), nn.Conv2d(channels, pooled, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1).relu()


def googlenet(*, average: bool) -> nn.Module:
    """GoogLeNet (Szegedy et al. 2015, Table 1) up to its last average pooling, or through it."""
    pool = lambda: nn.MaxPool2d(3, 2, ceil_mode=True)
    layers = [
        nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(), pool(), nn.LocalResponseNorm(5),
        nn.Conv2d(64, 64, 1), nn.ReLU(), nn.Conv2d(64, 192, 3, padding=1), nn.ReLU(),
        nn.LocalResponseNorm(5), pool(),
        Inception(192, (64, 96, 128, 16, 32, 32)), Inception(256, (128, 128, 192, 32, 96, 64)),
        pool(),
        Inception(480, (192, 96, 208, 16, 48, 64)), Inception(512, (160, 112, 224, 24, 64, 64)),
        Inception(512, (128, 128, 256, 24, 64, 64)), Inception(512, (112, 144, 288, 32, 64, 64)),
        Inception(528, (256, 160, 320, 32, 128, 128)),
        pool(),
        Inception(832, (256, 160, 320, 32, 128, 128)), Inception(832, (384, 192, 384, 48, 128, 128)),
    ]  # fmt: skip
    if average:
        layers.append(nn.AvgPool2d(7, 1))
    return nn.Sequential(*layers, nn.Conv2d(1024, 21, 1))


class Crop(nn.Module):
    """Crop a map to the size of the image, from a fixed offset (Caffe's Crop layer)."""

    def __init__(self, net: nn.Module, offset: int) -> None:
        super().__init__()
        self.net, self.offset = net, offset

    def forward(self, image: Tensor) -> Tensor:
        a = self.offset
        return self.net(image)[:, :, a : a + image.shape[2], a : a + image.shape[3]]
