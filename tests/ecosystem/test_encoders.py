"""Encoders of other projects under heads: sizes, alignment, and names that they do not have."""

from __future__ import annotations

import pytest
import torch

import fullconv as fc
from fullconv.errors import BadConfigError, NotLocalError
from fullconv.networks import build
from fullconv.surgery import crop_offset

NETWORKS = [
    ("timm:resnet18", {}),
    ("fcn32s-timm:resnet18", {"norms": "frozen"}),
    ("fcn16s-timm:convnext_atto", {"learned": "inner"}),
    ("unet-timm:resnet18", {"width": 4}),
    ("torchvision:resnet18", {}),
    ("fcn8s-torchvision:vgg11", {"learned": "all"}),
    ("fcn8s-torchvision:alexnet", {}),
    ("torchvision:densenet121", {}),
    ("torchvision:regnet_x_400mf", {}),
    ("unet-torchvision:mobilenet_v2", {"width": 4, "norm": "none"}),
    ("smp:Unet", {"encoder_name": "resnet18"}),
]


@pytest.mark.parametrize(("name", "options"), NETWORKS, ids=str)
def test_images_of_any_size_are_mapped_onto_themselves(
    name: str, options: dict[str, object]
) -> None:
    net = build(name, classes=3, channels=2, **options).eval()
    for height, width in ((1, 1), (33, 64), (70, 31)):
        assert net(torch.rand(1, 2, height, width)).shape == (1, 3, height, width)


@pytest.mark.parametrize(
    "name",
    ["timm:resnet18", "fcn32s-torchvision:resnet18", "timm:vgg11", "fcn8s-torchvision:alexnet"],
)
def test_maps_of_fcns_lie_on_the_image(name: str) -> None:
    geometry = fc.trace(build(name, classes=2).eval())
    assert geometry.smallest_shape == (1, 1)
    assert crop_offset(geometry, None) == (0, 0)


def test_windows_and_gradients_of_an_fcn_on_timm_are_certified() -> None:
    torch.manual_seed(0)
    found = fc.verify(build("fcn32s-timm:resnet10t", classes=2).eval(), shape=(3, 130, 40))
    assert found.passed, str(found)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:resnet43", "must name what timm has, got 'resnet43'; nearest are .*resnet"),
        (
            "torchvision:resnet43",
            "must name what torchvision has, got 'resnet43'; nearest are resnet",
        ),
        ("smp:Unett", "must name what smp has, got 'Unett'; nearest are Unet"),
        (
            "timm:vit_tiny_patch16_224",
            "must have maps at strides 8, 16, 32 px, got 16; take another",
        ),
        ("torchvision:vit_b_16", r"must run its layers one after another, on maps .*, got another"),
        (
            "unet-torchvision:alexnet",
            "a whole number of times smaller than .*, got .* px at stride .* that pads",
        ),
        ("torchvision:squeezenet1_0", "must have maps at strides 8, 16, 32 px, got 2, 4, 8, 16"),
        ("unet-timm:mixer_b16_224", "must have maps at strides 2 to 32 px, got 16; take another"),
    ],
)
def test_what_cannot_be_an_encoder_is_refused(name: str, message: str) -> None:
    with pytest.raises(BadConfigError, match=message):
        build(name, classes=2)


def test_options_that_smp_does_not_take_are_refused() -> None:
    with pytest.raises(
        BadConfigError, match="`smp:Unet` has no option 'encoder_nam'; it takes activation"
    ):
        build("smp:Unet", classes=2, encoder_nam="resnet18")


def test_an_encoder_that_looks_at_the_whole_image_is_refused_by_fcn_and_taken_by_the_unet() -> None:
    with pytest.raises(NotLocalError, match="is not local"):
        build("timm:efficientnet_b0", classes=2)
    assert (
        build("unet-timm:efficientnet_b0", classes=2).eval()(torch.rand(1, 3, 40, 40)).shape[1] == 2
    )
