"""Classifiers of other projects as fully convolutional and as dense networks, window by window.

A padded classifier is not what its fully convolutional network says of a cropped patch, which is padded
where the map sees image. So the witness is the classifier's own trunk on the whole image, and its own head
on each window of the trunk's map that has the size of a patch's.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fullconv as fc

pytestmark = pytest.mark.filterwarnings("ignore")
CLOSE = {"atol": 1e-10, "rtol": 1e-10}


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A classifier, cut in two.

    Attributes:
        build: Returns it.
        patch: Px along both axes.
        trunk: Path of the last module that sees a map.
        head: What follows: from the classifier and a patch's map to its answer.
        window: Positions of a patch's map along both axes; 0 where it looks at all of the patch before.
    """

    build: Callable[[], nn.Module]
    patch: int = 96
    trunk: str = ""
    head: Callable[[Any, Tensor], Tensor] = lambda net, x: net.forward_head(x)
    window: int = 3


def made(module: str, name: str, *args: Any, **settings: Any) -> nn.Module:
    """Import late: some warn when they are imported, which is an error before a test begins."""
    return getattr(importlib.import_module(module), name)(*args, **settings)


def torchvisions(name: str, **settings: Any) -> Callable[[], nn.Module]:
    return partial(made, "torchvision.models", name, weights=None, num_classes=10, **settings)


def timms(name: str, **settings: Any) -> Callable[[], nn.Module]:
    options = {"num_classes": 10} | settings
    return partial(made, "timm", "create_model", name, pretrained=False, **options)


def pooled(layer: str) -> Callable[[Any, Tensor], Tensor]:
    return lambda net, x: net.get_submodule(layer)(net.avgpool(x).flatten(1))


CLASSIFIERS = {
    "torchvision: alexnet": Classifier(
        build=torchvisions("alexnet"), patch=224, trunk="features", head=pooled("classifier"), window=6
    ),
    "torchvision: vgg11": Classifier(
        build=torchvisions("vgg11"), patch=224, trunk="features", head=pooled("classifier"), window=7
    ),
    "torchvision: googlenet": Classifier(
        build=torchvisions("googlenet", aux_logits=False, init_weights=False),
        trunk="inception5b", head=pooled("fc"),
    ),
    "torchvision: resnet18": Classifier(
        build=torchvisions("resnet18"), trunk="layer4", head=pooled("fc")
    ),
    "torchvision: mobilenet_v2": Classifier(
        build=torchvisions("mobilenet_v2"), trunk="features",
        head=lambda net, x: net.classifier(x.mean((2, 3))),
    ),
    "torchvision: efficientnet_b0": Classifier(build=torchvisions("efficientnet_b0"), window=0),
    "torchvision: convnext_tiny": Classifier(
        build=torchvisions("convnext_tiny"), trunk="features",
        head=lambda net, x: net.classifier(net.avgpool(x)),
    ),
    "timm: resnet18": Classifier(build=timms("resnet18"), trunk="layer4"),
    "timm: vgg11_bn": Classifier(
        build=timms("vgg11_bn"), patch=224, trunk="features", window=7
    ),
    "timm: mobilenetv2_050": Classifier(build=timms("mobilenetv2_050"), trunk="bn2"),
    "timm: mobilenetv3_small_050": Classifier(build=timms("mobilenetv3_small_050"), window=0),
    "timm: efficientnet_lite0": Classifier(build=timms("efficientnet_lite0"), trunk="bn2"),
    "timm: efficientnet_b0": Classifier(build=timms("efficientnet_b0"), window=0),
    "timm: convnext_atto": Classifier(build=timms("convnext_atto"), trunk="stages"),
}  # fmt: skip


def built(make: Callable[[], nn.Module]) -> nn.Module:
    """In float64, with running statistics of its own, in evaluation."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = make().double()
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean, std=0.1)  # pyright: ignore[reportArgumentType]
            nn.init.uniform_(module.running_var, 0.5, 2)  # pyright: ignore[reportArgumentType]
    return net.eval()


def noise(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, *shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("name", CLASSIFIERS)
@torch.no_grad()
def test_a_classifier_says_the_same_of_a_patch_and_of_every_window(name: str) -> None:
    case = CLASSIFIERS[name]
    net = built(case.build)
    fcn = fc.convolutionalize(net, (case.patch, case.patch))
    patch = noise(3, case.patch, case.patch)
    answer = net(patch)
    torch.testing.assert_close(fcn(patch)[..., 0, 0], answer, **CLOSE)
    assert answer.std() > 0
    if not case.window:
        return
    image = noise(3, case.patch + 32, case.patch + 64)
    maps: list[Tensor] = []
    handle = net.get_submodule(case.trunk).register_forward_hook(lambda *a: maps.append(a[2]))
    net(image)
    handle.remove()
    found = fcn(image)
    assert found.shape[2:] == (2, 3)
    for i, j in product(range(2), range(3)):
        window = maps[0][..., i : i + case.window, j : j + case.window]
        torch.testing.assert_close(found[..., i, j], case.head(net, window), **CLOSE)


@pytest.mark.parametrize("name", ["ShallowFBCSPNet", "Deep4Net"])
@torch.no_grad()
def test_a_classifier_of_signals_says_the_same_of_every_sub_signal(name: str) -> None:
    """Nothing is padded, so each unit is the classifier on the signal cropped there; dense ones too."""
    net = built(partial(made, "braindecode.models", name, 22, 4, n_times=600))
    fcn = fc.convolutionalize(net, (600,), channels=22)
    dense = fc.densify(fcn, channels=22, ndim=1)
    signal = noise(22, 700)
    geometry = fc.trace(fcn, 22, 1)
    stride = geometry.stride[0]
    found, every = fcn(signal), dense(signal)
    # Poolings leave a rest of the patch unseen, so a field is shorter.
    assert every.shape[-1] == 700 - geometry.field[0] + 1 >= 101
    for unit in range(100 // stride + 1):
        expected = net(signal[..., unit * stride : unit * stride + 600])
        torch.testing.assert_close(found[..., unit].reshape(expected.shape), expected, **CLOSE)
    for start in (1, 2, 50, 97, 100):
        expected = net(signal[..., start : start + 600])
        torch.testing.assert_close(every[..., start].reshape(expected.shape), expected, **CLOSE)


@torch.no_grad()
def test_a_dense_resnet_is_the_network_on_images_cropped_by_every_phase() -> None:
    """Where a unit's field holds no padding, neither of the image's nor of the cropped image's."""
    net = built(timms("resnet18", num_classes=0, global_pool=""))
    geometry = fc.trace(net)
    dense = fc.densify(net, stride=8)
    image = noise(3, 500, 500)
    every = dense(image)
    count = 0
    for a, b in ((0, 0), (8, 24), (16, 16), (24, 8)):
        cropped = image[..., a:, b:]
        found = net(cropped)
        for unit in product(*map(range, found.shape[2:])):
            if geometry.sees_padding(unit, tuple(cropped.shape[2:])):
                continue
            i, j = (shift // 8 + 4 * n for shift, n in zip((a, b), unit, strict=True))
            torch.testing.assert_close(every[..., i, j], found[(..., *unit)], **CLOSE)
            count += 1
    assert count >= 8
