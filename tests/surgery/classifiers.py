"""Small classifiers of patches, written in the ways in which people write them.

None of them pads, so a unit of the map must equal the classifier on the sub-image cropped there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm
from torch.nn.utils.parametrizations import weight_norm


@dataclass(frozen=True, kw_only=True)
class Case:
    """A classifier: how to build it, its patch, its channels, and the stride at which patches lie."""

    build: Callable[[], nn.Module]
    patch: tuple[int, ...]
    stride: tuple[int, ...]
    channels: int = 3


class Of(nn.Module):
    """A network from its layers and a function that calls them."""

    def __init__(self, run: Callable[[nn.Module, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def trunk(channels: int = 3, width: int = 6) -> nn.Sequential:
    """Two convolutions and a pooling: 16 px become 6, at a stride of 2."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3), nn.ReLU(inplace=True), nn.Conv2d(width, width, 3),
        nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.MaxPool2d(2),
    )  # fmt: skip


def alexnet() -> nn.Module:
    features = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
    )  # fmt: skip
    classifier = nn.Sequential(
        nn.Dropout(),
        nn.Linear(8 * 2 * 2, 12),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        nn.Linear(12, 5),
    )

    def run(net: Of, x: Tensor) -> Tensor:
        x = net.avgpool(net.features(x))
        return net.classifier(torch.flatten(x, 1))

    return Of(run, features=features, avgpool=nn.AdaptiveAvgPool2d((2, 2)), classifier=classifier)


class Residual(nn.Module):
    """A residual block without padding: the shortcut is cropped by a pixel and strided."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.shortcut = nn.Conv2d(channels, width, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(x)) + self.shortcut(x[:, :, 1:-1, 1:-1]))


def resnet() -> nn.Module:
    layers = nn.Sequential(nn.Conv2d(3, 6, 3), Residual(6, 8), Residual(8, 8))

    def run(net: Of, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(net.layers(x), (1, 1))
        return net.fc(x.view(x.size(0), -1))

    return Of(run, layers=layers, fc=nn.Linear(8, 5))


def googlenet() -> nn.Module:
    def run(net: Of, x: Tensor) -> Tensor:
        x = net.stem(x)
        x = torch.cat([net.one(x), F.max_pool2d(x, 1, 1)], 1)
        x = net.dropout(net.pool(x).flatten(start_dim=1))
        return net.fc(x)

    layers = {"one": nn.Conv2d(6, 4, 1), "pool": nn.AvgPool2d(6, stride=1), "fc": nn.Linear(10, 5)}
    return Of(run, stem=trunk(), dropout=nn.Dropout(0.4), **layers)


def convnext() -> nn.Module:
    """Channels last inside, and a norm between pooling and the Linear."""

    def run(net: Of, x: Tensor) -> Tensor:
        x = net.stem(x).permute(0, 2, 3, 1)
        x = x + net.scale(net.wide(net.norm(x)).relu())
        x = x.permute(0, 3, 1, 2).mean([-2, -1], keepdim=True)
        x = net.head_norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return net.fc(torch.flatten(x, 1))

    layers = {"norm": nn.LayerNorm(6), "wide": nn.Linear(6, 12), "scale": nn.Linear(12, 6)}
    return Of(run, stem=trunk(), head_norm=nn.LayerNorm(6), fc=nn.Linear(6, 5), **layers)


def pooled(run: Callable[[Tensor], Tensor]) -> Callable[[], nn.Module]:
    """A classifier that pools its map of 6 x 6 in some way of its own."""

    def build() -> nn.Module:
        return Of(lambda net, x: net.fc(run(net.stem(x))), stem=trunk(), fc=nn.Linear(6, 5))

    return build


def headed(*head: nn.Module) -> Callable[[], nn.Module]:
    """A classifier with a head of its own on its flattened map of 6 x 6."""
    return lambda: nn.Sequential(trunk(), nn.Flatten(), *head)


def on_units(run: Callable[[Tensor], Tensor]) -> Callable[[], nn.Module]:
    """A classifier that does something of its own to its vector of 12."""

    def build() -> nn.Module:
        head = nn.Sequential(nn.Flatten(), nn.Linear(216, 12))
        return Of(lambda net, x: run(net.head(net.stem(x))), stem=trunk(), head=head)

    return build


def halves(x: Tensor) -> Tensor:
    one, two = x.chunk(2, dim=-1)
    return one * two


def map_and_vector() -> nn.Module:
    def run(net: Of, x: Tensor) -> Tensor:
        x = net.stem(x)
        return x.sum(1).flatten(1) + net.fc(x.mean((2, 3)))

    return Of(run, stem=trunk(), fc=nn.Linear(6, 36))


class Raw(nn.Module):
    """A Linear as a function, with a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 216) / 10)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class Scaled(nn.Module):
    """A factor of its own for each number of a flattened map."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.linspace(0.5, 2, 216))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Cosine(nn.Module):
    """Cosines between the vector of a patch and those of classes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 216))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x) @ F.normalize(self.weight).t()


class Branching(nn.Module):
    """Its `forward` branches on a size, which cannot be followed symbolically."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if x.shape[1] > 3 else x


class Thinned(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5, training=self.training)


def again() -> nn.Module:
    """A Linear that is called twice, first on a flattened map."""

    def run(net: Of, x: Tensor) -> Tensor:
        return net.fc(net.same(net.same(net.stem(x).flatten(1)).relu()).relu())

    return Of(run, stem=trunk(), same=nn.Linear(216, 216), fc=nn.Linear(216, 5))


def tied() -> nn.Module:
    """Two Linear layers of one weight, which is used as a matrix, too."""

    def run(net: Of, x: Tensor) -> Tensor:
        x = net.two(net.one(net.stem(x).flatten(1)).relu())
        return F.linear(x, net.two.weight.t())

    net = Of(run, stem=trunk(), one=nn.Linear(216, 216), two=nn.Linear(216, 216))
    net.two.weight = net.one.weight
    return net


def doubled(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda _module, _inputs, output: output * 2)
    return layer


def halved_before(layer: nn.Module) -> nn.Module:
    layer.register_forward_pre_hook(lambda _module, inputs: inputs[0] / 2)
    return layer


def eeg() -> nn.Module:
    """Convolutions along time, across electrodes; squared, averaged, logarithm."""

    def run(net: Of, x: Tensor) -> Tensor:
        x = net.across(net.time(x.unsqueeze(1)))
        x = net.pool(net.norm(x).square())
        return net.fc(x.clamp(min=1e-6).log().flatten(1))

    layers = {"time": nn.Conv2d(1, 4, (1, 7)), "across": nn.Conv2d(4, 6, (5, 1), bias=False)}
    norm, pool = nn.BatchNorm2d(6), nn.AvgPool2d((1, 15), (1, 5))
    return Of(run, norm=norm, pool=pool, fc=nn.Linear(6 * 4, 3), **layers)


def signal() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(3, 6, 5, stride=2), nn.ReLU(), nn.Conv1d(6, 6, 3), nn.AdaptiveAvgPool1d(1),
        nn.Flatten(), nn.Linear(6, 4), nn.BatchNorm1d(4),
    )  # fmt: skip


def volume() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 4, 3), nn.MaxPool3d(2), nn.Flatten(), nn.Linear(4 * 3 * 2 * 4, 6), nn.ELU(),
        nn.BatchNorm1d(6), nn.Linear(6, 3),
    )  # fmt: skip


def at_16(build: Callable[[], nn.Module]) -> Case:
    return Case(build=build, patch=(16, 16), stride=(2, 2))


CASES = {
    "alexnet": Case(build=alexnet, patch=(39, 39), stride=(8, 8)),
    "resnet": Case(build=resnet, patch=(21, 25), stride=(4, 4)),
    "googlenet": at_16(googlenet),
    "convnext": at_16(convnext),
    "eeg": Case(build=eeg, patch=(5, 36), stride=(1, 5), channels=0),
    "signal": Case(build=signal, patch=(30,), stride=(2,)),
    "volume": Case(build=volume, patch=(8, 6, 10), stride=(2, 2, 2), channels=1),
    "mean over the last two axes": at_16(pooled(lambda x: x.mean((-2, -1)))),
    "mean, squeezed": at_16(pooled(lambda x: x.mean(3, keepdim=True).mean(2, True).squeeze())),
    "maximum": at_16(pooled(lambda x: x.amax((2, 3)))),
    "adaptive maximum": at_16(pooled(lambda x: F.adaptive_max_pool2d(x, 1)[:, :, 0, 0])),
    "mean of the folded axes": at_16(pooled(lambda x: x.flatten(2).mean(-1))),
    "pooled by the size of the map": at_16(
        pooled(lambda x: F.avg_pool2d(x, x.shape[2:]).reshape(x.shape[0], -1))
    ),
    "channels last": at_16(pooled(lambda x: x.permute(0, 2, 3, 1).mean(dim=(1, 2)))),
    "twice": Case(
        patch=(16, 16),
        stride=(4, 4),
        build=pooled(lambda x: F.adaptive_avg_pool2d(F.adaptive_avg_pool2d(x, 3), 1).flatten(1)),
    ),
    "bins": Case(
        patch=(16, 16),
        stride=(6, 6),
        build=lambda: nn.Sequential(
            trunk(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 5)
        ),
    ),
    "average and maximum": at_16(
        pooled(lambda x: torch.cat([x[:, :3].mean((2, 3)), x[:, 3:].amax((2, 3))], dim=-1))
    ),
    "a sum that is called an average": Case(
        patch=(16, 16),
        stride=(12, 12),
        build=pooled(lambda x: F.avg_pool2d(x, 6, divisor_override=1).flatten(1)),
    ),
    "norm after Linear": at_16(
        headed(nn.Linear(216, 9), nn.BatchNorm1d(9), nn.GELU(), nn.Linear(9, 5))
    ),
    "norm over the flattened map": at_16(headed(nn.LayerNorm(216), nn.Linear(216, 5))),
    "norm over the vector": at_16(headed(nn.Linear(216, 9), nn.LayerNorm(9), nn.Linear(9, 5))),
    "no bias": at_16(headed(nn.Linear(216, 9, bias=False), nn.PReLU(9), nn.Linear(9, 5))),
    "Linear as a function": at_16(headed(Raw())),
    "weight norm": at_16(headed(weight_norm(nn.Linear(216, 5)))),
    "weights normed by a hook": at_16(
        lambda: nn.Sequential(trunk(), nn.Flatten(), spectral_norm(nn.Linear(216, 9)))
    ),
    "the same Linear again": at_16(again),
    "tied weights": at_16(tied),
    "hooks": at_16(
        lambda: nn.Sequential(
            trunk(),
            nn.Flatten(),
            doubled(nn.Linear(216, 9)),
            doubled(nn.BatchNorm1d(9)),
            halved_before(nn.Linear(9, 5)),
        )
    ),
    "cosines": at_16(headed(Cosine())),
    "softmax": at_16(headed(nn.Linear(216, 5), nn.Softmax(dim=-1))),
    "log softmax": at_16(on_units(lambda x: F.log_softmax(x, 1))),
    "gated": at_16(on_units(lambda x: F.glu(x, dim=1))),
    "halves": at_16(on_units(halves)),
    "in groups": at_16(on_units(lambda x: x.view(x.size(0), 3, 4).softmax(-1).flatten(1))),
    "a number for a patch": at_16(on_units(lambda x: x.sum(1))),
    "one class of all": at_16(on_units(lambda x: x[:, 3])),
    "some classes": at_16(on_units(lambda x: x[:, 2:7])),
    "a weight for each number of the flattened map": at_16(headed(Scaled(), nn.Linear(216, 5))),
    "its own `forward`": at_16(
        lambda: nn.Sequential(trunk(), Branching(), nn.Flatten(), Thinned(), nn.Linear(216, 5))
    ),
    "map and vector": at_16(map_and_vector),
    "nothing flattened": at_16(lambda: nn.Sequential(trunk(), nn.AvgPool2d(6), nn.Conv2d(6, 5, 1))),
}
