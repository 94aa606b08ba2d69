"""Whether a refusal is true: what the blamed module does, measured without the tracer.

The network runs in float64 on a tall strip, and again on a changed one. The module's inputs and outputs
are written down. It is not local if positions far from the change come in as they were and go out
changed: because of far pixels, of the image's size, or of where in the image they lie.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

SHAPES = ((1024, 64), (2048, 64), (2048, 256))
SHARE = 10  # a tenth of the positions, at the end that is far from the change
CHANGED = 1e-9

Run = tuple[list[Tensor], list[Tensor]]


def evidence(net: nn.Module, module: str, channels: int, ndim: int) -> str:
    """Return in words what shows that a module is not local; empty if nothing does."""
    net = copy.deepcopy(net).double()
    torch.manual_seed(1)
    for parameter in net.parameters():
        if not parameter.detach().any():  # a branch that starts at zero would show nothing
            nn.init.normal_(parameter, std=0.1)
    for length, width in SHAPES:
        image = torch.randn(1, channels, length, *[width] * (ndim - 1), dtype=torch.float64)
        try:
            found = _seen_on(net, module, image)
            if found:
                return found
        except (RuntimeError, ValueError, AssertionError):
            continue  # it does not take images of that length
    return ""


def takes_one_size(net: nn.Module, channels: int, ndim: int, size: int) -> bool:
    """Return whether a network takes images of one size, and none that are longer."""
    net = net.float()
    if not _takes(net, torch.randn(1, channels, *[size] * ndim)):
        return False
    return not any(
        _takes(net, torch.randn(1, channels, size * times + more, *[size] * (ndim - 1)))
        for times in (1, 2, 3, 8)
        for more in (0, 32, 64)
        if times * size + more != size
    )


def _takes(net: nn.Module, image: Tensor) -> bool:
    try:
        with torch.no_grad():
            net(image)
    except (RuntimeError, ValueError, AssertionError):
        return False
    return True


def _far(image: Tensor) -> Tensor:
    changed = image.clone()
    changed[:, :, :8] = 3 * torch.randn_like(changed[:, :, :8])
    return changed


def _longer(image: Tensor) -> Tensor:
    return torch.cat([image, torch.randn_like(image[:, :, : image.shape[2] // 2])], 2)


def _window(image: Tensor) -> Tensor:
    return image[:, :, image.shape[2] // 2 :]


# What is done to the image, what it shows, and which end of the strip is far from it.
CHANGES: tuple[tuple[Callable[[Tensor], Tensor], str, str], ...] = (
    (_far, "changing pixels at one end of the image changes its output at the other", "end"),
    (_longer, "lengthening the image at one end changes its output at the other", "start"),
    (_window, "cutting a window out of the image changes its output far from the cut", "end"),
)


def _seen_on(net: nn.Module, module: str, image: Tensor) -> str:
    """Return in words what shows on one image that a module is not local; empty if nothing does."""
    whole = _run(net, module, image)
    longer = _run(net, module, torch.cat([image, image[:, :, : image.shape[2] // 2]], 2))
    # For each input and output of the module, the axis that grows with the image; 0 for none.
    axes = _grown(whole[0], longer[0]), _grown(whole[1], longer[1])
    if any(axes[0]) and not any(axes[1]):
        ends = (_far(image), _far(image.flip(2)).flip(2))
        if all(_differ(whole[1], _run(net, module, other)[1]) for other in ends):
            return "its output has one size for all images, and changes with pixels at either end"
    for change, words, end in CHANGES:
        if _shows(whole, _run(net, module, change(image)), axes, end):
            return words
    return ""


def _differ(ones: list[Tensor], others: list[Tensor]) -> bool:
    return any(float((a - b).abs().max()) > CHANGED for a, b in zip(ones, others, strict=True))


def _shows(whole: Run, other: Run, axes: tuple[list[int], list[int]], end: str) -> bool:
    """Return whether far from a change a module gets the same, and returns something else."""
    pairs = zip(whole[0], other[0], axes[0], strict=False)
    if any(_difference(a, b, axis, end) > CHANGED for a, b, axis in pairs if axis):
        return False
    pairs = zip(whole[1], other[1], axes[1], strict=False)
    return any(_difference(a, b, axis, end) > CHANGED for a, b, axis in pairs if axis)


def _grown(ones: list[Tensor], others: list[Tensor]) -> list[int]:
    return [
        next((n for n, (a, b) in enumerate(zip(x.shape, y.shape, strict=False)) if a != b), 0)
        for x, y in zip(ones, others, strict=False)
    ]


def _difference(one: Tensor, other: Tensor, axis: int, end: str) -> float:
    """Return by how much two tensors differ at one end of an axis, relative to their values there."""
    count = max(1, min(one.shape[axis], other.shape[axis]) // SHARE)
    a, b = (
        x.narrow(axis, x.shape[axis] - count if end == "end" else 0, count) for x in (one, other)
    )
    if a.shape != b.shape:
        return 0.0
    return float((a - b).abs().max() / a.abs().max().clamp_min(1e-300))


class _Seen(Exception):
    """Carries inputs and outputs of a module out of the network."""


def _run(net: nn.Module, module: str, image: Tensor) -> Run:
    """Return inputs and outputs of the first run of a module on an image."""

    def stop(_module: nn.Module, args: Any, options: Any, output: Any) -> None:
        raise _Seen(list(_tensors((args, options))), list(_tensors(output)))

    handle = net.get_submodule(module).register_forward_hook(stop, with_kwargs=True)
    try:
        with torch.no_grad():
            net(image)
    except _Seen as seen:
        ins, outs = seen.args
        return ins, outs
    finally:
        handle.remove()
    raise AssertionError(f"`{module}` is not run")


def _tensors(values: Any) -> Iterator[Tensor]:
    for leaf in tree_leaves(values):
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            yield leaf.clone()
