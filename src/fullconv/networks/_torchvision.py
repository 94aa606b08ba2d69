"""Encoders of torchvision: classifiers whose layers run one after another, up to some stride."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fullconv.errors import BadConfigError
from fullconv.networks._encoder import Encoder, chosen, from_unit, shapes
from fullconv.networks._packages import package, unknown
from fullconv.networks._trunk import Trunk
from fullconv.tracing import hollow

# A side that all strides up to 32 divide, and that no pooling to 7 × 7 or so gives.
PROBE_PX = 352


def torchvision_encoder(name: str, channels: int, strides: Sequence[int] | None) -> Encoder:
    """Return an encoder of torchvision, with fresh weights; arguments and errors as for `timm_encoder`.

    Its maps are those behind the last of its layers at each stride.
    """
    models = package("torchvision", f"torchvision:{name}", "torchvision.models")
    known = models.list_models(module=models)
    if name not in known:
        raise unknown(f"torchvision:{name}", name, known)
    whole = _with_channels(models.get_model(name, weights=None), channels)
    layers = _in_a_row(whole, channels, f"torchvision:{name}")
    found = [layer.stride for layer in layers]
    wanted, places = chosen(found, strides, f"torchvision:{name}")
    taps = {layers[place].name: layers[place].width for place in places}
    chain = {layer.name: layer.module for layer in layers[: places[-1] + 1]}
    return Encoder(
        Trunk(chain, taps),
        strides=wanted,
        widths=list(taps.values()),
        whole=shapes(whole),
        pixels=from_unit((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if channels == 3 else None,
    )


def _with_channels(net: nn.Module, channels: int) -> nn.Module:
    """Return a network whose first convolution takes so many channels."""
    name, first = next((n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d))
    if first.in_channels == channels:
        return net
    new = nn.Conv2d(
        channels,
        first.out_channels,
        first.kernel_size,  # pyright: ignore[reportArgumentType] (two numbers)
        first.stride,  # pyright: ignore[reportArgumentType]
        first.padding,  # pyright: ignore[reportArgumentType]
        bias=first.bias is not None,
    )
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, new)
    return net


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layer:
    """One of a network's layers: its name with `_` for dots, and what its map is."""

    name: str
    module: nn.Module
    stride: int
    width: int


def _in_a_row(net: nn.Module, channels: int, asked: str) -> list[_Layer]:
    """Return the layers of a classifier that run one after another on maps, in their order.

    Raises:
        BadConfigError: If they do something else than that.
    """
    prefix = "features." if isinstance(getattr(net, "features", None), nn.Sequential) else ""
    names = [prefix + name for name, _ in net.get_submodule(prefix[:-1]).named_children()]
    sizes = _sizes(net, names, channels)
    rows = [
        _Layer(
            name=name.replace(".", "_"),
            module=net.get_submodule(name),
            stride=PROBE_PX // size,
            width=width,
        )
        for name, width, size in sizes
        if size > 1 and not PROBE_PX % size
    ]
    _check_sizes(sizes, asked)
    _check_row(net, rows, channels, asked)
    return rows


def _sizes(net: nn.Module, names: Sequence[str], channels: int) -> list[tuple[str, int, int]]:
    """Return the layers that return maps for the probe, with channels and side of these."""
    found: list[tuple[str, int, int]] = []

    def note(name: str, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            found.append((name, output.shape[1], output.shape[-1]))

    empty = hollow(net).eval()
    for name in names:
        layer = empty.get_submodule(name)
        layer.register_forward_hook(lambda _m, _i, output, name=name: note(name, output))
    with suppress(
        Exception
    ):  # of a network that takes one size only; it has no layers in a row then
        empty(torch.empty(1, channels, PROBE_PX, PROBE_PX, device="meta"))
    return found


def _check_sizes(sizes: Sequence[tuple[str, int, int]], asked: str) -> None:
    """Refuse a classifier that begins with a map that is no whole times smaller than the image."""
    name, _, size = next(iter(sizes), ("", 0, 1))
    if PROBE_PX % size:
        raise BadConfigError(
            f"`net` = {asked!r} must have maps that are a whole number of times smaller than the "
            f"image, got {size} px behind {name} for an image of {PROBE_PX} px; take an encoder "
            "that pads, such as vgg11 or resnet18"
        )


def _check_row(net: nn.Module, rows: list[_Layer], channels: int, asked: str) -> None:
    """Refuse a classifier whose layers, one after another, are not what it runs."""
    image = torch.rand(1, channels, 64, 64, generator=torch.Generator().manual_seed(0))
    seen: list[Tensor] = []

    def note(_module: nn.Module, _given: Any, output: Any) -> None:
        seen.append(output)

    handles = [row.module.register_forward_hook(note) for row in rows[-1:]]
    try:
        with torch.no_grad():
            net.eval()(image)
            nn.Sequential(*(row.module for row in rows))(image)
    except Exception:  # noqa: BLE001 - whatever a network says that does something else
        seen.clear()
    finally:
        for handle in handles:
            handle.remove()
        net.train()
    if len(seen) < 2 or seen[0].shape != seen[1].shape or not torch.allclose(seen[0], seen[1]):
        raise BadConfigError(
            f"`net` = {asked!r} must run its layers one after another, got another classifier; "
            "take one of timm, or a function of your own that returns a map"
        )
