"""What a classifier does with the vector of a patch, done for every patch of an image.

A Linear on a flattened map is a convolution with the map's size, all others are convolutions of size 1.
What has no counterpart of that kind is done row by row: every window is written as a row, as the
classifier had it in its batch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from fullconv.surgery._layers import Grid, LinearAsConvolution, Rows, convolve
from fullconv.surgery._operators import are_pointwise, are_views, aten
from fullconv.surgery._pools import as_unit
from fullconv.surgery._rewriting import Call, Rewriting, Value

CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS: dict[int, Any] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
LINEARS = (F.linear, aten.linear.default)
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
CATS = (torch.cat, torch.concat, aten.cat.default)
SOFTMAXES = {aten._softmax.default: torch.softmax, aten._log_softmax.default: torch.log_softmax}


def of_units(rewriting: Rewriting, call: Call) -> Value | None:
    """Rule: a call on the vectors of patches."""
    kinds = {x.kind for x in call.inputs}
    if not kinds or kinds & {"map", "folded"}:
        return None
    if kinds == {"unit"} or kinds == {"flat"}:
        for rule in (_linear, _pointwise, _norm, _cat, _softmax, _back_to_a_map):
            value = rule(rewriting, call)
            if value is not None:
                return value
    return _row_by_row(rewriting, call)


def windows(x: Value) -> dict[int, int]:
    """Return the positions that a patch has along each growing axis of a map."""
    return {d: x.new[0].shape[d] for d in sorted(x.axis_of)}


def _linear(rewriting: Rewriting, call: Call) -> Value | None:
    node, x = call.node, call.inputs[0]
    module = None
    if node.op == "call_module":
        module = rewriting.captured.root.get_submodule(str(node.target))
        if not isinstance(module, nn.Linear) or not _is_plain(module, nn.Linear):
            return None
    elif node.target not in LINEARS:
        return None
    if 1 in x.axis_of:  # a map without channels, or with them behind
        x = rewriting.emit(call, torch.unsqueeze, (x, 1), kind=x.kind)
    shape = tuple(x.new[0].shape[1:])
    if not 1 <= len(shape) - 1 <= 3:
        return None
    if module is None:
        named = dict(zip(("input", "weight", "bias"), call.args, strict=False)) | call.kwargs
        args = (x, named["weight"], named.get("bias"), shape)
        return as_unit(rewriting, call, rewriting.emit(call, convolve, args))
    shared = is_parametrized(module) or rewriting.captured.num_uses(module) > 1
    layer = LinearAsConvolution(module, shape) if shared else _convolution(module, shape)
    return as_unit(rewriting, call, rewriting.module(call, layer, x))


def _convolution(linear: nn.Linear, shape: tuple[int, ...]) -> nn.Module:
    """Return a Linear on vectors that are maps of `shape` as the convolution that it is."""
    bias = dict(linear.named_parameters()).get("bias") is not None
    kind = CONVOLUTIONS[len(shape) - 1]
    layer = kind(shape[0], linear.out_features, shape[1:], bias=bias, device="meta")
    weight = linear.weight.detach().view(-1, *shape)
    layer.weight = nn.Parameter(weight, requires_grad=linear.weight.requires_grad)
    layer.bias = linear.bias
    return layer


def _is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Return whether a module runs the `forward` of its kind, and no hooks, which may change anything.

    The older spectral norm of PyTorch is such a hook.
    """
    own = getattr(module.forward, "__func__", None) is not kind.forward
    return not own and not any(getattr(module, hooks) for hooks in HOOKS)


def _pointwise(rewriting: Rewriting, call: Call) -> Value | None:
    first = call.inputs[0]
    if not are_pointwise(call.ops) or not isinstance(call.old, Tensor):
        return None
    if any(x.new[0].shape != first.new[0].shape for x in call.inputs):
        return None
    try:
        value = rewriting.as_it_is(call, kind=first.kind)
    except Exception:  # noqa: BLE001 - a weight of the vector's own length fits rows alone
        return None
    return value if value.new[0].shape == first.new[0].shape else None


def _norm(rewriting: Rewriting, call: Call) -> Value | None:
    x, node = call.inputs[0], call.node
    if x.kind != "unit" or node.op != "call_module":
        return None
    norm = rewriting.captured.root.get_submodule(str(node.target))
    if type(norm) is not nn.BatchNorm1d or not _is_plain(norm, type(norm)):
        return None
    layer = NORMS[x.ndim - 2](norm.num_features, device="meta")
    layer.__dict__ = norm.__dict__ | {"_parameters": dict(norm._parameters)}
    return rewriting.module(call, layer, x, kind="unit")


def _cat(rewriting: Rewriting, call: Call) -> Value | None:
    dims = [o.args["dim"] % 2 for o in call.ops if o.op is aten.cat.default]
    same = len({tuple(s.shape[2:] for s in x.new) for x in call.inputs}) == 1
    if call.node.target not in CATS or call.inputs[0].kind != "unit" or dims != [1] or not same:
        return None
    return rewriting.emit(call, torch.cat, (call.inputs, 1), kind="unit")


def _softmax(rewriting: Rewriting, call: Call) -> Value | None:
    if len(call.ops) != 1 or call.ops[0].op not in SOFTMAXES or call.inputs[0].kind != "unit":
        return None
    if call.ops[0].args["dim"] % 2 != 1:
        return None
    return rewriting.emit(call, SOFTMAXES[call.ops[0].op], (call.inputs[0], 1), kind="unit")


def _back_to_a_map(_rewriting: Rewriting, call: Call) -> Value | None:
    """Give the vector of a patch the axes of a map of one position again."""
    x = call.inputs[0]
    if x.kind != "unit" or len(call.inputs) != 1 or not isinstance(call.old, Tensor):
        return None
    same_numel = call.old.numel() == x.old.numel()
    if not are_views(call.ops, same_numel=same_numel) or call.old.shape != x.new[0].shape:
        return replace(x, old=call.old) if call.old.shape == x.old.shape and not call.ops else None
    return replace(x, old=call.old, kind="map")


def by_rows(rewriting: Rewriting, call: Call, x: Value) -> Value:
    """Return the vectors of patches as rows ``(batch * patches, features)``."""
    if x.kind == "rows":
        return x
    rows = rewriting.module(call, Rows(windows(x)), x, kind="rows", grid=x, beside="rows")
    return replace(rows, old=x.old)


def unit_of_rows(rewriting: Rewriting, call: Call, x: Value) -> Value | None:
    """Return rows that are maps of one position, ``(rows, features, 1, ...)``, as a map again."""
    if x.grid is None or x.old.shape[2:].numel() != 1:
        return None
    flat = rewriting.emit(call, torch.flatten, (x, 1), kind="rows", grid=x.grid, old=x.old)
    unit = rewriting.module(call, Grid(windows(x.grid)), flat, x.grid, beside="grid")
    return replace(unit, old=x.old) if unit.ndim == x.old.ndim else None


def _row_by_row(rewriting: Rewriting, call: Call) -> Value | None:
    """Do what the classifier does with its batch of patches with all patches of the images."""
    changed = {x: by_rows(rewriting, call, x) for x in call.inputs}
    first = changed[call.inputs[0]]
    if any(x.num_rows != first.num_rows for x in changed.values()):
        call.refuse(
            rewriting,
            "it puts vectors together that belong to patches at different strides",
            "pool them to one stride first",
        )
    if isinstance(call.old, Tensor) and _same_rows(call, call.inputs[0]):
        shape = (-1, *call.old.shape[1:])
        return rewriting.emit(call, torch.reshape, (first, shape), kind="rows", grid=first.grid)
    try:
        value = rewriting.as_it_is(call.replaced(changed), kind="rows", grid=first.grid)
    except Exception:  # noqa: BLE001 - whatever the call makes of more rows
        return None
    return value if value.num_rows == first.num_rows else None


def _same_rows(call: Call, x: Value) -> bool:
    """Return whether a call shows all numbers of each row under another shape."""
    same_numel = call.old.numel() == x.old.numel()
    return (
        same_numel
        and call.old.shape[:1] == x.old.shape[:1]
        and are_views(call.ops, same_numel=same_numel)
    )
