"""Pooling over the whole patch, and flattening: where a patch classifier leaves its map.

A map keeps its axes in the new network, whatever the classifier does with them: global pooling becomes
pooling over a window of the size that the map has on a patch, and a flattened map stays a map.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fullconv.surgery._layers import MeanPool3d, WindowMean
from fullconv.surgery._operators import MAXIMA, MEANS, VIEWS
from fullconv.surgery._rewriting import BATCH, Call, Rewriting, Value

MEAN_POOLS: dict[int, Any] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: MeanPool3d}
MAX_POOLS: dict[int, Any] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
# Above this a window is summed by doubling: a pooling adds up n * n numbers for each window.
LARGEST_POOL = 16
ONE_SIZE = "choose a patch on which the map is a multiple of the bins"


def viewed(rewriting: Rewriting, call: Call, x: Value) -> Value:
    """Return a map of which the classifier takes another view of the same numbers."""
    if call.old.ndim == 2 and call.old.shape[0] == BATCH:
        return as_flat_or_unit(rewriting, call, x)
    same = call.old.shape == x.new[0].shape
    return replace(x, old=call.old, kind="map" if same else "folded")


def as_flat_or_unit(rewriting: Rewriting, call: Call, x: Value) -> Value:
    """Return a map that the classifier flattens: as units where it has one position per patch."""
    if all(x.new[0].shape[d] == 1 for d in x.axis_of):
        return as_unit(rewriting, call, x)
    return replace(x, old=call.old, kind="flat")


def as_unit(rewriting: Rewriting, call: Call, x: Value) -> Value:
    """Return a map with one position per patch as ``(batch, features, *grid)``, axes in order."""
    growing = sorted(x.axis_of, key=lambda d: x.axis_of[d])
    features = [d for d in range(1, x.ndim) if d not in growing]
    order = [0, *features, *growing]
    if order != list(range(x.ndim)):
        x = rewriting.emit(call, torch.permute, (x, order))
    if not features:
        x = rewriting.emit(call, torch.unsqueeze, (x, 1))
    elif len(features) > 1:
        x = rewriting.emit(call, torch.flatten, (x, 1, len(features)))
    return replace(x, old=call.old, kind="unit")


def pooling(rewriting: Rewriting, call: Call) -> Value | None:
    """Rule: pooling over all of the patch, or into a fixed number of bins."""
    core = [o for o in call.ops if o.op not in VIEWS]
    if len(call.inputs) != 1 or len(core) != 1 or core[0].op not in MEANS | MAXIMA:
        return None
    x = call.inputs[0]
    if x.kind not in ("map", "folded") or not isinstance(call.old, Tensor):
        return None
    bins = _bins(call, x, core[0].op, core[0].args)
    if not bins.keys() & x.axis_of.keys():
        return None
    pooled = _pooled(rewriting, call, x, bins, maximum=core[0].op in MAXIMA)
    return viewed(rewriting, call, pooled)


def _bins(call: Call, x: Value, op: Any, args: dict[str, Any]) -> dict[int, int]:
    """Return how many positions a pooling leaves of each axis; nothing if the patch has no say in it."""
    before, after = x.new[0].shape, call.old.shape
    if x.kind == "folded":
        first = min(x.axis_of)
        is_last = x.old.ndim == first + 1 and x.old.shape[:first] == before[:first]
        leaves_one = after[:first] == before[:first] and after[first:].numel() == 1
        return dict.fromkeys(range(first, x.ndim), 1) if is_last and leaves_one else {}
    if len(before) != len(after):
        return {dim % len(before): 1 for dim in args["dim"]} if "dim" in args else {}
    bins = {d: after[d] for d in range(1, x.ndim) if after[d] != before[d] or d in x.axis_of}
    if "kernel_size" not in args:
        return bins
    # A mean over a window of fixed size that is all of the patch's map is a global one in disguise.
    whole = op in MEANS and all(after[d] == 1 for d in x.axis_of)
    sizes = list(args["kernel_size"])
    covers = sizes * (x.ndim - 2) == list(before[2:]) or sizes[-(x.ndim - 2) :] == list(before[2:])
    is_mean = not any(args["padding"]) and not args.get("divisor_override")
    return bins if whole and covers and is_mean else {}


def _pooled(
    rewriting: Rewriting, call: Call, x: Value, bins: dict[int, int], *, maximum: bool
) -> Value:
    """Return the pooling over the windows that the bins are on a patch; all axes are kept."""
    before = x.new[0].shape
    for d, n in bins.items():
        if before[d] % n:
            why = f"it pools {before[d]} positions into {n} bins of uneven sizes"
            call.refuse(rewriting, why, ONE_SIZE)
    kernel = {d: before[d] // n for d, n in bins.items()}
    stride = {d: 1 if n == 1 else kernel[d] for d, n in bins.items()}
    if all(size == 1 for size in kernel.values()):
        return x
    axes = x.ndim - 2
    if min(kernel) >= 2 and axes <= 3 and (maximum or _is_small(kernel, stride)):
        kind = (MAX_POOLS if maximum else MEAN_POOLS)[axes]
        sizes = [tuple(table.get(d, 1) for d in range(2, x.ndim)) for table in (kernel, stride)]
        return rewriting.module(call, kind(*sizes), x)
    if maximum or any(size > 1 for size in stride.values()):
        call.refuse(
            rewriting, "it pools along axes of an unusual order", "pool along the last axes"
        )
    return rewriting.module(call, WindowMean(kernel), x)


def _is_small(kernel: dict[int, int], stride: dict[int, int]) -> bool:
    return max(kernel.values()) <= LARGEST_POOL or max(stride.values()) > 1
