"""Encoders of timm, and networks of segmentation_models_pytorch, which builds on it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from fullconv.errors import BadConfigError
from fullconv.networks._encoder import Encoder, Maps, chosen, from_unit, shapes
from fullconv.networks._multiple import OnMultiples
from fullconv.networks._packages import package, unknown


def timm_encoder(name: str, channels: int, strides: Sequence[int] | None) -> Encoder:
    """Return an encoder of timm, with fresh weights.

    Args:
        name: As timm calls it, such as ``resnet34``.
        channels: Channels of the image.
        strides: Of the maps that it is to hand out; None for all from 2 to 32 px.

    Raises:
        BadConfigError: If timm is not there, knows no such network, or it has no maps at these strides.
    """
    timm = package("timm", f"timm:{name}")
    if not timm.is_model(name):
        raise unknown(f"timm:{name}", name, timm.list_models())
    given: dict[str, Any] = {"pretrained": False, "in_chans": channels}
    net = timm.create_model(name, features_only=True, **given)
    info = net.feature_info
    wanted, places = chosen(info.reduction(), strides, f"timm:{name}")
    with torch.device("meta"):
        whole = timm.create_model(name, **given)
    config = whole.pretrained_cfg
    return Encoder(
        Maps(net, places, last=str(getattr(net, "output_fmt", "")).endswith("NHWC")),
        strides=wanted,
        widths=[info.channels()[place] for place in places],
        whole=shapes(whole),
        pixels=from_unit(config["mean"], config["std"]) if channels == 3 else None,
    )


def smp_network(name: str, classes: int, channels: int, **options: Any) -> nn.Module:
    """Return a network of segmentation_models_pytorch, with fresh weights, for images of any size.

    Args:
        name: Architecture, such as ``Unet``.
        classes: Channels of the map.
        channels: Channels of the image.
        **options: What that architecture takes, such as ``encoder_name="resnet18"``.

    Raises:
        BadConfigError: If the package is not there, or knows no such architecture or option.
    """
    smp = package("segmentation_models_pytorch", f"smp:{name}")
    known = {
        key.lower(): (key, made)
        for key, made in vars(smp).items()
        if isinstance(made, type) and issubclass(made, nn.Module)
    }
    if name.lower() not in known:
        raise unknown(f"smp:{name}", name, [key for key, _ in known.values()])
    takes = inspect.signature(known[name.lower()][1]).parameters.keys() - {"kwargs"}
    if strange := sorted(options.keys() - takes):
        raise BadConfigError(
            f"`smp:{name}` has no option {strange[0]!r}; it takes {', '.join(sorted(takes))}"
        )
    given = {"encoder_weights": None, "in_channels": channels, "classes": classes}
    net = smp.create_model(name, **given | options)
    return OnMultiples(net, 32)
