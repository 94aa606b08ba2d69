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

# All strides up to 32 divide this: a map is longer by a stride's share of it where the image is longer by it.
PROBE_PX = 352
# A side that all these networks take, of which layers are run one after another.
CHECK_PX = 96
# A layer that makes its map so many times smaller than the one before hides no map that a head may want.
MOST_SMALLER = 2


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
    """One of a network's layers: its path there, and what its map is."""

    path: str
    module: nn.Module
    stride: int
    width: int

    @property
    def name(self) -> str:
        """Its name in a trunk."""
        return self.path.replace(".", "_")


def _in_a_row(net: nn.Module, channels: int, asked: str) -> list[_Layer]:
    """Return the layers of a classifier that run one after another on maps, in their order.

    Rows of layers that hide maps between them are opened.

    Raises:
        BadConfigError: If they do something else than that.
    """
    prefix = "features." if isinstance(getattr(net, "features", None), nn.Sequential) else ""
    empty = hollow(net).eval()
    names = [prefix + name for name, _ in net.get_submodule(prefix[:-1]).named_children()]
    rows = _rows(net, empty, names, channels)
    while hiding := _hiding(rows):
        place = names.index(hiding.path)
        inner = [f"{hiding.path}.{name}" for name, _ in hiding.module.named_children()]
        names[place : place + 1] = inner
        rows = _rows(net, empty, names, channels)
    _check_row(net, rows, channels, asked)
    return rows


def _hiding(rows: Sequence[_Layer]) -> _Layer | None:
    """Return the first row of layers that makes its map more than a little smaller."""
    before = [1, *(layer.stride for layer in rows)]
    for stride, layer in zip(before, rows, strict=False):
        if layer.stride > MOST_SMALLER * stride and isinstance(layer.module, nn.Sequential):
            return layer
    return None


def _rows(net: nn.Module, empty: nn.Module, names: Sequence[str], channels: int) -> list[_Layer]:
    """Return the layers that return maps: by how much these are longer for a longer image."""
    short, long = (_sizes(empty, names, channels, side) for side in (PROBE_PX, 2 * PROBE_PX))
    return [
        _Layer(
            path=name,
            module=net.get_submodule(name),
            stride=PROBE_PX // (long[name][1] - size),
            width=width,
        )
        for name, (width, size) in short.items()
        if long.get(name, (0, size))[1] > size
    ]


def _sizes(
    empty: nn.Module, names: Sequence[str], channels: int, side: int
) -> dict[str, tuple[int, int]]:
    """Return channels and side of what layers return for an image, in the order in which they run."""
    found: dict[str, tuple[int, int]] = {}

    def note(name: str, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            found[name] = output.shape[1], output.shape[-1]

    handles = [
        empty.get_submodule(name).register_forward_hook(
            lambda _m, _i, output, name=name: note(name, output)
        )
        for name in names
    ]
    with suppress(
        Exception
    ):  # of a network that takes one size only; it has no layers in a row then
        empty(torch.empty(1, channels, side, side, device="meta"))
    for handle in handles:
        handle.remove()
    return found


def _check_row(net: nn.Module, rows: list[_Layer], channels: int, asked: str) -> None:
    """Refuse a classifier whose layers, one after another, are not what it runs."""
    image = torch.rand(1, channels, CHECK_PX, CHECK_PX, generator=torch.Generator().manual_seed(0))
    seen: list[Tensor] = []

    def note(_module: nn.Module, _given: Any, output: Any) -> None:
        seen.append(output.clone())  # what comes behind it may write into it

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
            f"`net` = {asked!r} must run its layers one after another, on maps (batch, channels, "
            "*map), got another classifier; take one of timm, or a function of your own that returns a map"
        )
