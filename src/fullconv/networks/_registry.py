"""The table of networks, and networks of the user's own by ``package.module:factory``."""

import importlib
import inspect
import sys
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from fullconv.errors import BadConfigError
from fullconv.networks._family import (
    fcn8s_atonce_vgg16,
    fcn8s_vgg16,
    fcn16s_vgg16,
    fcn32s_vgg16,
    fcn_alexnet,
    fcn_googlenet,
)
from fullconv.networks._fcn8s import FCN8s
from fullconv.networks._layers import check_counts
from fullconv.networks._of_library import of_library, unet_lite
from fullconv.networks._unet import UNet

_TABLE: dict[str, Callable[..., nn.Module]] = {
    "unet": UNet,
    "fcn8s": FCN8s,
    "fcn32s-vgg16": fcn32s_vgg16,
    "fcn16s-vgg16": fcn16s_vgg16,
    "fcn8s-vgg16": fcn8s_vgg16,
    "fcn8s-atonce-vgg16": fcn8s_atonce_vgg16,
    "fcn-alexnet": fcn_alexnet,
    "fcn-googlenet": fcn_googlenet,
    "unet:efficientnet-lite0": partial(unet_lite, 0),
    "unet:efficientnet-lite1": partial(unet_lite, 1),
    "unet:efficientnet-lite2": partial(unet_lite, 2),
}

NAMES = tuple(_TABLE)
_GET_MODULE = "install it, or run from the folder that holds it"


def build(name: str, classes: int, channels: int = 3, **options: Any) -> nn.Module:
    """Build a network by name, with fresh weights.

    Args:
        name: A name of the registry; or ``timm:NAME`` and ``torchvision:NAME``, encoders of these
            projects under FCN-8s, or under another head, as in ``fcn32s-timm:resnet34`` and
            ``unet-timm:resnet34``; or ``smp:NAME``, a network of segmentation_models_pytorch; or
            ``package.module:factory``, which is called with the keywords `classes`, `channels` and
            the options, as far as it takes them.
        classes: Channels of the map, at least 1.
        channels: Channels of the image, at least 1.
        **options: What the network takes besides, such as ``width=32``.

    Returns:
        The network, in training mode.

    Raises:
        BadConfigError: If the name, an option or what the factory returns is none that works.

    Examples:
        >>> import torch
        >>> net = build("unet", classes=3, width=8, depth=2)
        >>> net(torch.zeros(1, 3, 33, 47)).shape
        torch.Size([1, 3, 33, 47])
    """
    check_counts(classes=classes, channels=channels)
    factory = _TABLE.get(name) or of_library(name) or _imported(name)
    net = _call(name, factory, {"classes": classes, "channels": channels}, options)
    if not isinstance(net, nn.Module):
        raise BadConfigError(f"`{name}` must return a torch.nn.Module, got {type(net).__name__}")
    return net


def check_builds_networks(name: str) -> None:
    """Raise unless calling `name`, which a run's files state, can be meant to build a network.

    A run may come from anywhere, and its network's name and options with it: what is called must be
    a class of networks, or name `classes` or `channels` among its parameters, or be no part of what
    is installed, but of the user's own code. The standard library builds none.

    Args:
        name: A name of the registry, or ``package.module:factory``.

    Raises:
        BadConfigError: If it is something else, which is not called.
    """
    if name in _TABLE or of_library(name):
        return
    factory = _imported(name)
    if isinstance(factory, type) and issubclass(factory, nn.Module):
        return
    homes = {name.partition(":")[0], getattr(factory, "__module__", None) or "builtins"}
    standard = any(home.partition(".")[0] in sys.stdlib_module_names for home in homes)
    if not standard and (_asks_for_classes(factory) or not any(map(_is_installed, homes))):
        return
    raise BadConfigError(
        f"`net` = {name!r} must be a factory of networks, a class of them or a function that takes "
        "`classes` and `channels`, got another, which was not called; wrap it in one that does"
    )


def _asks_for_classes(factory: Callable[..., Any]) -> bool:
    return bool({"classes", "channels"} & inspect.signature(factory).parameters.keys())


def _is_installed(module_name: str) -> bool:
    file = getattr(sys.modules.get(module_name), "__file__", None)
    return file is None or bool({"site-packages", "dist-packages"} & set(Path(file).parts))


def _imported(name: str) -> Callable[..., Any]:
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        near = get_close_matches(name, NAMES, n=1) or NAMES
        raise BadConfigError(
            f"`net` must be one of {', '.join(NAMES)}, timm:NAME, torchvision:NAME, smp:NAME or "
            f"package.module:factory, got {name!r}; nearest is {near[0]!r}"
        )
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except ImportError as error:
        near = get_close_matches(name, NAMES, n=1)
        remedy = f"the nearest network is {near[0]!r}" if near else _GET_MODULE
        raise BadConfigError(
            f"`net` = {name!r}: module {module_name!r} cannot be imported ({error}); {remedy}"
        ) from error
    except AttributeError as error:
        raise BadConfigError(
            f"`net` = {name!r}: module {module_name!r} has no {attribute!r}"
        ) from error
    if not callable(factory):
        raise BadConfigError(f"`net` = {name!r} must be callable, got {type(factory).__name__}")
    return factory


def _call(
    name: str, factory: Callable[..., Any], given: dict[str, int], options: dict[str, Any]
) -> Any:
    parameters = inspect.signature(factory).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    unknown = [key for key in options if key not in parameters and not takes_all]
    if unknown:
        known = [key for key in parameters if key not in given]
        raise BadConfigError(
            f"`{name}` has no option {unknown[0]!r}; it takes {', '.join(known) or 'none'}"
        )
    arguments = {k: v for k, v in given.items() if takes_all or k in parameters} | options
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        raise BadConfigError(
            f"`{name}` must take what it is given, {', '.join(arguments) or 'nothing'}, got: {error}"
        ) from error
    return factory(**arguments)
