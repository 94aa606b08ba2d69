"""What a call does with neighbouring positions: convolution, pooling, padding, slicing.

Read from the operators that it runs, so that it does not matter how it is written.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import is_parametrized

from fullconv.surgery._local import PADS
from fullconv.surgery._operators import VIEWS, Operator, aten
from fullconv.surgery._rewriting import Call, Rewriting, Value
from fullconv.surgery._spacing import Window

Kind = Literal["convolution", "maximum", "mean", "pad", "slice"]

# Of a convolution that is called as a function.
ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
POOLS: dict[Any, Kind] = {
    aten.max_pool2d_with_indices.default: "maximum", aten.max_pool3d_with_indices.default: "maximum",
    aten.avg_pool1d.default: "mean", aten.avg_pool2d.default: "mean", aten.avg_pool3d.default: "mean",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a call reads of its map.

    Attributes:
        kind: What it does with what it reads.
        windows: By axis of the map.
        op: The operator itself.
        fill: What padding holds: a number, or "reflect" or "replicate".
    """

    kind: Kind
    windows: dict[int, Window]
    op: Operator | None = None
    fill: float | str = 0.0


def reading(rewriting: Rewriting, call: Call) -> Reading | None:
    """Return what a call reads; None for one that is not known to read neighbouring positions.

    Raises:
        SurgeryError: If it does something that has no dense counterpart.
    """
    x = call.inputs[0]
    if call.node.target is operator.getitem and isinstance(call.old, Tensor):
        return _sliced(rewriting, call, x)
    core = [o for o in call.ops if o.op not in VIEWS]
    if is_parametrized_convolution(rewriting, call):
        core = [o for o in core if o.op is aten.convolution.default]  # others compute its weight
    pad = core.pop(0) if len(core) == 2 and core[0].op in PADS else None
    if len(core) != 1:
        return None
    found = _of_one(rewriting, call, x, core[0])
    if found is None or pad is None:
        return found
    if found.kind != "convolution":
        return None
    return _padded_before(rewriting, call, found, _pad(x, pad))


def _of_one(rewriting: Rewriting, call: Call, x: Value, op: Operator) -> Reading | None:
    if op.op is aten.convolution.default:
        if op.args["transposed"]:
            call.refuse(rewriting, "it upsamples", "make the network dense before it upsamples")
        weight: Tensor = op.args["weight"]
        windows = _windows(x, op, weight.shape[2:], len(weight.shape) - 2)
        return Reading(kind="convolution", windows=windows, op=op)
    if op.op in POOLS:
        if not isinstance(call.old, Tensor):
            call.refuse(rewriting, "it returns indices of positions", "pool without indices")
        axes = int(str(op.op).split("pool")[1][0])
        windows = _windows(x, op, op.args["kernel_size"], axes)
        return Reading(kind=POOLS[op.op], windows=windows, op=op)
    return _pad(x, op) if op.op in PADS else None


def _windows(x: Value, op: Operator, kernel: Sequence[int], axes: int) -> dict[int, Window]:
    """Return the windows along the last axes of a map."""
    settings: dict[str, Sequence[int]] = {
        "kernel": kernel,
        "stride": op.args["stride"] or kernel,
        "dilation": op.args.get("dilation") or [1],
        "padding": op.args["padding"],
    }
    windows: dict[int, Window] = {}
    for n in range(min(axes, x.ndim - 2)):
        at = axes - 1 - n
        one = {key: v[at] if len(v) > 1 else v[0] for key, v in settings.items()}
        windows[x.ndim - 1 - n] = Window(
            kernel=one["kernel"],
            stride=one["stride"],
            dilation=one["dilation"],
            before=one["padding"],
            after=one["padding"],
            ceil=bool(op.args.get("ceil_mode", False)),
        )
    return windows


def _pad(x: Value, op: Operator) -> Reading:
    pads = list(op.args[PADS[op.op]])
    windows = {
        x.ndim - 1 - n: Window(before=pads[2 * n], after=pads[2 * n + 1])
        for n in range(len(pads) // 2)
    }
    name = str(op.op)
    fill = next((mode for mode in ("reflect", "replicat") if mode in name), None)
    value = op.args.get("value") or 0.0
    return Reading(
        kind="pad",
        windows=windows,
        op=op,
        fill={"replicat": "replicate"}.get(fill or "", fill or value),
    )


def _padded_before(rewriting: Rewriting, call: Call, found: Reading, pad: Reading) -> Reading:
    """Return a convolution that a module pads for itself: by zeros on one side, or by a mode."""
    windows = dict(found.windows)
    for d, more in pad.windows.items():
        own = windows.get(d, Window())
        if (own.before or own.after) and pad.fill != 0.0:
            call.refuse(rewriting, "it pads twice", "pad once")
        windows[d] = Window(
            kernel=own.kernel, stride=own.stride, dilation=own.dilation,
            before=own.before + more.before, after=own.after + more.after,
        )  # fmt: skip
    return Reading(kind="convolution", windows=windows, op=found.op, fill=pad.fill)


def _sliced(rewriting: Rewriting, call: Call, x: Value) -> Reading | None:
    """Return what an index with slices reads; None if it takes all positions along the image."""
    windows: dict[int, Window] = {}
    for d, part in enumerate(whole_index(call, x)):
        if d not in x.axis_of or part == slice(None):
            continue
        start, stop, step = (
            (part.start, part.stop, part.step) if isinstance(part, slice) else (0, 0, 0)
        )
        start, stop, step = start or 0, stop or 0, 1 if step is None else step
        if (
            not all(isinstance(n, int) for n in (start, stop, step))
            or start < 0
            or stop > 0
            or step < 1
        ):
            call.refuse(
                rewriting,
                "it takes positions along the image that depend on its size",
                "slice with a start from the front and a stop from the end",
            )
        windows[d] = Window(stride=step, before=-start, after=stop)
    return Reading(kind="slice", windows=windows) if windows else None


def whole_index(call: Call, x: Value) -> tuple[Any, ...]:
    """Return an index written out, one part for each axis; nothing if it adds axes."""
    index = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    plain = all(part is Ellipsis or isinstance(part, int | slice) for part in index)
    if not plain:
        return ()
    at = next((n for n, part in enumerate(index) if part is Ellipsis), len(index))
    given = sum(part is not Ellipsis for part in index)
    return (*index[:at], *[slice(None)] * (x.ndim - given), *index[at + 1 :])


def is_parametrized_convolution(rewriting: Rewriting, call: Call) -> bool:
    """Return whether a call is of a convolution whose weight is computed anew for each run."""
    if call.node.op != "call_module":
        return False
    module = rewriting.captured.root.get_submodule(str(call.node.target))
    return isinstance(module, _ConvNd) and is_parametrized(module)
