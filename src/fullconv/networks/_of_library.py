"""Names that lead to other projects: ``HEAD-LIBRARY:NAME``, ``LIBRARY:NAME`` and ``smp:NAME``."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from torch import nn

from fullconv.networks._efficientnet_lite import Size, efficientnet_lite_encoder
from fullconv.networks._encoded import FCN_STRIDES, Norms, fcn_on, unet_on
from fullconv.networks._fcn import Learned
from fullconv.networks._layers import NormName
from fullconv.networks._timm import smp_network, timm_encoder
from fullconv.networks._torchvision import torchvision_encoder

_ENCODERS = {"timm": timm_encoder, "torchvision": torchvision_encoder}
_NAME = re.compile(
    rf"(?:(?P<head>{'|'.join(FCN_STRIDES)}|unet)-)?(?P<library>{'|'.join(_ENCODERS)}):(?P<name>.+)"
)
USUAL_HEAD = "fcn8s"


def of_library(name: str) -> Callable[..., nn.Module] | None:
    """Return the factory of a network whose name leads to another project; None for other names."""
    if name.startswith("smp:"):
        return partial(_smp, name.removeprefix("smp:"))
    if not (found := _NAME.fullmatch(name)):
        return None
    head = found["head"] or USUAL_HEAD
    if head == "unet":
        return partial(_unet, found["library"], found["name"])
    return partial(_fcn, head, found["library"], found["name"])


def unet_lite(
    size: Size,
    /,
    classes: int,
    channels: int = 3,
    *,
    width: int = 16,
    norm: NormName = "batch",
    norms: Norms = "batch",
) -> nn.Module:
    """Return a U-Net's decoder on an EfficientNet-Lite; see `unet_on` for the options."""
    encoder = efficientnet_lite_encoder(size, channels)
    return unet_on(encoder, classes, channels, width=width, norm=norm, norms=norms)


def _fcn(
    head: str,
    library: str,
    name: str,
    /,
    classes: int,
    channels: int = 3,
    *,
    learned: Learned = "none",
    norms: Norms = "batch",
) -> nn.Module:
    encoder = _ENCODERS[library](name, channels, FCN_STRIDES[head])
    return fcn_on(encoder, classes, channels, learned=learned, norms=norms)


def _unet(
    library: str,
    name: str,
    /,
    classes: int,
    channels: int = 3,
    *,
    width: int = 16,
    norm: NormName = "batch",
    norms: Norms = "batch",
) -> nn.Module:
    encoder = _ENCODERS[library](name, channels, None)
    return unet_on(encoder, classes, channels, width=width, norm=norm, norms=norms)


def _smp(name: str, /, classes: int, channels: int = 3, **options: object) -> nn.Module:
    return smp_network(name, classes, channels, **options)
