"""Where a window first goes wrong: the outputs of every module, windowed against whole."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fullconv.errors import named
from fullconv.geometry import Window
from fullconv.verifying._trial import TOLERANCE, Trial


def first_difference(trial: Trial, window: Window) -> str:
    """Return in words which module's output first differs among the pixels that a window owns."""
    whole = _outputs(trial.net, trial.image)
    part = _outputs(trial.net, trial.image[(slice(None), *window.reads.slices)])
    for name, (kind, expected) in whole.items():
        found = part.get(name)
        error = _error(expected, found[1], trial, window) if found else None
        if error is not None and error > TOLERANCE:
            return f"the first to differ is {named(name, kind)}, by {error:.1e}"
    return "no module's output differs before the network's own"


def _outputs(net: nn.Module, image: Tensor) -> dict[str, tuple[str, Tensor]]:
    """Return the first output of every module that has no modules inside, in order."""
    found: dict[str, tuple[str, Tensor]] = {}

    def keep(name: str, module: nn.Module, _args: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            found.setdefault(name, (type(module).__name__, output[0]))

    handles = [
        module.register_forward_hook(partial(keep, name))
        for name, module in net.named_modules()
        if not list(module.children())
    ]
    try:
        with torch.no_grad():
            net(image[None])
    finally:
        for handle in handles:
            handle.remove()
    return found


def _error(expected: Tensor, found: Tensor, trial: Trial, window: Window) -> float | None:
    """Return the relative difference where the owned pixels lie; None if that cannot be told."""
    if expected.ndim != trial.image.ndim or found.ndim != expected.ndim:
        return None
    here: list[slice] = [slice(None)]
    there: list[slice] = [slice(None)]
    for axis, size in enumerate(trial.shape):
        whole_size, part_size = expected.shape[axis + 1], found.shape[axis + 1]
        map_size = trial.map_shape[axis]
        start = -(-window.units.start[axis] * whole_size // map_size)
        stop = window.units.stop[axis] * whole_size // map_size
        offset = window.reads.start[axis] * whole_size // size
        if start >= stop or start < offset or stop - offset > part_size:
            return None
        there.append(slice(start, stop))
        here.append(slice(start - offset, stop - offset))
    difference = (found[tuple(here)] - expected[tuple(there)]).abs().max()
    return float(difference / expected.abs().max().clamp_min(1e-12))
