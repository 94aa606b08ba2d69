"""The networks of other projects that are traced: what they are called and how they are built.

Weights are random. Encoders return the last of their maps, whatever else they return beside it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

TIMM = """
resnet18 resnet18d resnext26ts resnet26t resnetv2_50 res2net50_14w_8s seresnet18 legacy_seresnet18
skresnet18 resnest14d eca_resnet33ts gernet_s nf_regnet_b0 regnetx_002 regnety_002 densenet121
rdnet_tiny dla34 dpn48b vgg11_bn inception_v3 xception41 xception71 xception65 cspresnet50
cspdarknet53 darknet53 hrnet_w18_small selecsls42 ese_vovnet19b_dw tresnet_m hgnetv2_b0
mobilenetv2_050 mobilenetv3_small_050 mobilenetv4_conv_small efficientnet_lite0 efficientnet_b0
tf_efficientnet_lite0 mnasnet_050 semnasnet_075 fbnetc_100 ghostnet_050 hardcorenas_a tinynet_e
lcnet_035 rexnet_100 repvgg_a0 mobileone_s0 repghostnet_050 repvit_m0_9 starnet_s1 fastvit_t8
convnext_atto convnextv2_atto inception_next_atto edgenext_xx_small mambaout_femto poolformer_s12
focalnet_tiny_srf efficientformerv2_s0 mobilevit_xxs resnetv2_50d_gn botnet26t_256 lambda_resnet26t
halonet26t swin_tiny_patch4_window7_224 coatnet_nano_rw_224 maxvit_nano_rw_256 pvt_v2_b0
""".split()  # noqa: SIM905 - a table of names is read more easily as one

SMP = """
Unet UnetPlusPlus MAnet Linknet FPN PSPNet PAN DeepLabV3 DeepLabV3Plus UPerNet Segformer DPT
""".split()  # noqa: SIM905 - a table of names is read more easily as one

TORCHVISION = """
fcn_resnet50 deeplabv3_resnet50 deeplabv3_mobilenet_v3_large lraspp_mobilenet_v3_large
""".split()  # noqa: SIM905 - a table of names is read more easily as one


@dataclass(frozen=True, kw_only=True)
class Member:
    """One network.

    Attributes:
        library: The project that it comes from.
        name: What it is called there, and with which settings where they matter.
        build: Returns it.
        channels: Channels of its image.
        ndim: Spatial axes.
    """

    library: str
    name: str
    build: Callable[[], nn.Module]
    channels: int = 3
    ndim: int = 2


class Last(nn.Module):
    """A network that returns several maps, as one that returns the last (or the one named "out").

    Some of timm's return maps with the channels last.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        found = self.net(image)
        if isinstance(found, dict):
            return found["out"]
        last = found[-1] if isinstance(found, list | tuple) else found
        return last.movedim(-1, 1) if getattr(self.net, "output_fmt", None) == "NHWC" else last


def _last(module: str, name: str, **options: Any) -> nn.Module:
    return Last(_made(module, name, **options))


def _made(module: str, name: str, *args: Any, **options: Any) -> nn.Module:
    return getattr(importlib.import_module(module), name)(*args, **options)


def _timm() -> Iterator[Member]:
    for name in TIMM:
        build = partial(
            _last, "timm", "create_model", model_name=name, features_only=True, pretrained=False
        )
        yield Member(library="timm", name=name, build=build)


def _smp() -> Iterator[Member]:
    for name in SMP:
        encoder = "tu-vit_tiny_patch16_224" if name == "DPT" else "resnet18"
        build = partial(
            _made, "segmentation_models_pytorch", name, encoder, encoder_weights=None, classes=3
        )
        yield Member(library="segmentation_models_pytorch", name=f"{name} ({encoder})", build=build)


def _torchvision() -> Iterator[Member]:
    for name in TORCHVISION:
        build = partial(
            _last, "torchvision.models.segmentation", name,
            weights=None, weights_backbone=None, num_classes=3,
        )  # fmt: skip
        yield Member(library="torchvision", name=name, build=build)


def _monai() -> Iterator[Member]:
    deep = (2, 3, 2, (8, 16, 32), (2, 2))
    basic = (2, 3, 2, (8, 8, 16, 16, 32, 8))
    dyn = (2, 3, 2, [3, 3, 3], [1, 2, 2], [2, 2])
    nets: list[tuple[str, str, tuple[Any, ...], dict[str, Any]]] = [
        ("UNet", "InstanceNorm, the default", deep, {"num_res_units": 1}),
        ("UNet", "BatchNorm", deep, {"num_res_units": 1, "norm": "batch"}),
        ("UNet", "BatchNorm, plain", deep, {"norm": "batch"}),
        ("BasicUNet", "InstanceNorm, the default", basic, {}),
        ("BasicUNet", "BatchNorm", basic, {"norm": "batch"}),
        ("BasicUNetPlusPlus", "BatchNorm", basic, {"norm": "batch"}),
        ("SegResNet", "GroupNorm, the default", (2, 8, 3, 2), {}),
        ("SegResNet", "BatchNorm", (2, 8, 3, 2), {"norm": "BATCH"}),
        ("DynUNet", "InstanceNorm, the default", dyn, {}),
        ("DynUNet", "BatchNorm", dyn, {"norm_name": "batch"}),
        ("AttentionUnet", "BatchNorm, the default", deep, {}),
        ("FlexibleUNet", "efficientnet-b0", (3, 2, "efficientnet-b0"), {"spatial_dims": 2}),
        ("VNet", "", (2, 1, 2), {}),
        ("HighResNet", "BatchNorm, the default", (2, 3, 2), {}),
        ("HighResNet", "InstanceNorm", (2, 3, 2), {"norm_type": "instance"}),
        ("UNETR", "", (3, 2, (64, 64)), {"spatial_dims": 2, "feature_size": 8}),
        ("SwinUNETR", "", (3, 2), {"feature_size": 12, "spatial_dims": 2}),
    ]
    for name, remark, args, options in nets:
        build = partial(_monai_net, name, args, options)
        yield Member(
            library="MONAI",
            name=f"{name} ({remark})" if remark else name,
            build=build,
            channels=1 if name == "VNet" else 3,
        )
    volume = partial(
        _monai_net, "UNet", (3, 1, 2, (4, 8, 16), (2, 2)), {"num_res_units": 1, "norm": "batch"}
    )
    yield Member(library="MONAI", name="UNet (3-D, BatchNorm)", build=volume, channels=1, ndim=3)
    thin = partial(_monai_net, "DynUNet", (1, 2, *dyn[2:]), {"norm_name": "batch"})
    yield Member(library="MONAI", name="DynUNet (1-D, BatchNorm)", build=thin, channels=2, ndim=1)


def _monai_net(name: str, args: tuple[Any, ...], options: dict[str, Any]) -> nn.Module:
    return Last(_made("monai.networks.nets", name, *args, **options))


def _braindecode() -> Iterator[Member]:
    common = {"n_chans": 22, "n_outputs": 4}
    nets: list[tuple[str, str, dict[str, Any]]] = [
        ("ShallowFBCSPNet", "final_conv_length=30", {"n_times": 1000, "final_conv_length": 30}),
        ("Deep4Net", "final_conv_length=2", {"n_times": 1000, "final_conv_length": 2}),
        ("EEGNet", "final_conv_length=8", {"n_times": 1000, "final_conv_length": 8}),
        ("EEGNet", "", {"n_times": 1000}),
        ("HybridNet", "", {"n_times": 1000}),
        ("TCN", "", {}),
        ("BDTCN", "", {"n_times": 1000}),
        ("USleep", "", {"n_chans": 2, "sfreq": 100, "n_outputs": 5, "n_times": 3000}),
    ]
    for name, remark, options in nets:
        settings = common | options
        yield Member(
            library="braindecode",
            name=f"{name} ({remark})" if remark else name,
            build=partial(_last, "braindecode.models", name, **settings),
            channels=settings["n_chans"],
            ndim=1,
        )


MEMBERS = (*_timm(), *_smp(), *_torchvision(), *_monai(), *_braindecode())
