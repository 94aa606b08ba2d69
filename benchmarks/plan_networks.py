"""The networks whose plans are held against real steps; other projects' where they are installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

import fullconv as fc


@dataclass(frozen=True, kw_only=True)
class Member:
    """A network, and the images that its steps are measured on.

    Attributes:
        build: Returns it.
        sides: Shapes of an image, without channels, the smaller one first.
        channels: Of an image.
        module: That must be installed.
    """

    build: Callable[[], nn.Module]
    sides: tuple[tuple[int, ...], tuple[int, ...]] = ((256, 256), (480, 480))
    channels: int = 3
    module: str = "torch"


class Residual(nn.Module):
    """Blocks with shortcuts, at three strides, and their maps enlarged and added."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, padding=1)
        self.blocks = nn.ModuleList(_Block(24 * 2 ** max(0, i - 1), 24 * 2**i) for i in range(3))
        self.scores = nn.ModuleList(nn.Conv2d(24 * 2**i, 4, 1) for i in range(3))

    def forward(self, image: Tensor) -> Tensor:
        """Return logits at the size of the image."""
        found, x = None, self.stem(image)
        for block, score in zip(self.blocks, self.scores, strict=True):
            x = block(x)
            part = nn.functional.interpolate(score(x), size=image.shape[-2:], mode="bilinear")
            found = part if found is None else found + part
        assert found is not None
        return found


class _Block(nn.Module):
    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        stride = 1 if start == stop else 2
        self.first = nn.Sequential(
            nn.Conv2d(start, stop, 3, stride, 1, bias=False), nn.BatchNorm2d(stop)
        )
        self.second = nn.Sequential(
            nn.Conv2d(stop, stop, 3, padding=1, bias=False), nn.BatchNorm2d(stop)
        )
        self.shortcut = nn.Conv2d(start, stop, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return (self.second(self.first(x).relu()) + self.shortcut(x)).relu()


class Out(nn.Module):
    """A network of torchvision that returns a dictionary, as one that returns its map."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        """Return the map named "out"."""
        return self.net(image)["out"]


def _named(name: str, **options: Any) -> Callable[[], nn.Module]:
    return partial(fc.networks.build, name, classes=4, **options)


def _torchvision(name: str) -> nn.Module:
    models = importlib.import_module("torchvision.models.segmentation")
    return Out(getattr(models, name)(weights=None, weights_backbone=None, num_classes=4))


def _monai(name: str, *args: Any, **options: Any) -> nn.Module:
    return getattr(importlib.import_module("monai.networks.nets"), name)(*args, **options)


VOLUMES = ((48, 48, 48), (72, 72, 72))
MEMBERS: dict[str, Member] = {
    "unet": Member(build=_named("unet")),
    "unet, no norm, full resolution": Member(build=_named("unet", norm="none", stem=1)),
    "unet, layer norm, narrow": Member(build=_named("unet", norm="layer", width=8, depth=3)),
    "fcn8s": Member(build=_named("fcn8s")),
    "residual": Member(build=Residual),
    "timm resnet18 with FCN-8s": Member(build=_named("timm:resnet18"), module="timm"),
    "timm mobilenetv3 with U-Net": Member(
        build=_named("unet-timm:mobilenetv3_small_050"), module="timm"
    ),
    "torchvision lraspp_mobilenet": Member(
        build=partial(_torchvision, "lraspp_mobilenet_v3_large"), module="torchvision"
    ),
    "smp Unet resnet18": Member(
        build=_named("smp:Unet", encoder_name="resnet18", encoder_weights=None),
        module="segmentation_models_pytorch",
    ),
    "smp FPN efficientnet-b0": Member(
        build=_named("smp:FPN", encoder_name="efficientnet-b0", encoder_weights=None),
        module="segmentation_models_pytorch",
    ),
    "monai UNet": Member(
        build=partial(_monai, "UNet", 2, 3, 4, (16, 32, 64, 128), (2, 2, 2), num_res_units=2),
        module="monai",
    ),
    "monai BasicUNet": Member(
        build=partial(_monai, "BasicUNet", 2, 3, 4, (16, 16, 32, 64, 128, 16)), module="monai"
    ),
    "monai SegResNet, volumes": Member(
        build=partial(_monai, "SegResNet", 3, 8, 1, 4), sides=VOLUMES, channels=1, module="monai"
    ),
}


def members() -> dict[str, Member]:
    """Return the networks that can be built here."""
    return {name: m for name, m in MEMBERS.items() if importlib.util.find_spec(m.module)}
