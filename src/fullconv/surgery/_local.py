"""Whether a call works position by position, by windows, or on the image as a whole.

A call is run on images of several sizes; axes that grow with the image are those along which
positions lie.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from fullconv.surgery._operators import VIEWS, Operator, aten

# They leave every position what it is, and move, repeat or rename whole axes.
ORDERLY = VIEWS | {
    aten.permute.default, aten.transpose.int, aten.t.default, aten.expand.default,
    aten._to_copy.default,
}  # fmt: skip
PRODUCTS = {
    aten.mm.default: ("self", "mat2"), aten.bmm.default: ("self", "mat2"),
    aten.addmm.default: ("mat1", "mat2"), aten.baddbmm.default: ("batch1", "batch2"),
}  # fmt: skip
NORMS = {
    aten.native_group_norm.default: "GroupNorm", aten.native_batch_norm.default: "InstanceNorm",
}  # fmt: skip
PADS = {
    aten.constant_pad_nd.default: "pad", aten.reflection_pad1d.default: "padding",
    aten.reflection_pad2d.default: "padding", aten.reflection_pad3d.default: "padding",
    aten.replication_pad1d.default: "padding", aten.replication_pad2d.default: "padding",
    aten.replication_pad3d.default: "padding",
}  # fmt: skip
WHOLE = "`{}` looks at the whole image"


def obstacle(runs: Sequence[Sequence[Operator]], *, windows: bool) -> str:
    """Return what keeps a call from working at each position alike; nothing if nothing does.

    Args:
        runs: The operators that it runs on images of several sizes.
        windows: Whether windows of a fixed size (convolution, pooling, padding) are no obstacle.
    """
    if len({tuple(o.op for o in run) for run in runs}) > 1:
        return "it takes another path on a larger image"
    found = (_obstacle(ops, windows) for ops in zip(*runs, strict=True))
    return next((why for why in found if why), "")


def _obstacle(ops: Sequence[Operator], windows: bool) -> str:
    first = ops[0]
    growing = {name: _growing(ops, name) for name in first.args}
    name = str(first.op).split(".")[1]
    if first.is_pointwise or first.op in ORDERLY or not any(growing.values()):
        return ""
    if first.op in NORMS:
        if not first.args.get("training", True):
            return ""
        return f"{NORMS[first.op]} normalises by statistics of the whole image"
    if first.op in PRODUCTS:
        left, right = PRODUCTS[first.op]
        inner = (len(first.args[left].shape) - 1, len(first.args[right].shape) - 2)
        summed = inner[0] in growing[left] or inner[1] in growing[right]
        return WHOLE.format(name) if summed else ""
    if first.op is aten.native_layer_norm.default:
        last = len(first.args["input"].shape) - len(first.args["normalized_shape"])
        return WHOLE.format(name) if any(d >= last for d in growing["input"]) else ""
    if "kernel_size" in first.args or first.op is aten.convolution.default or first.op in PADS:
        moves = any(_moves(first, growing))
        return f"`{name}` reads neighbouring positions" if moves and not windows else ""
    if "output_size" in first.args and windows and _by_whole_factors(ops):
        return ""
    return _along_dims(first, growing, name, windows)


def _by_whole_factors(ops: Sequence[Operator]) -> bool:
    """Return whether upsampling has the same whole factor on images of all sizes."""
    factors: set[tuple[tuple[int, int], ...]] = set()
    for o in ops:
        sizes = zip(o.args["output_size"] or (), o.args["self"].shape[2:], strict=False)
        factors.add(tuple(divmod(large, small) for large, small in sizes))
    corners = any(o.args.get("align_corners") for o in ops)
    return len(factors) == 1 and not corners and all(rest == 0 for f in factors for _, rest in f)


def _growing(ops: Sequence[Operator], name: str) -> set[int]:
    """Return the axes of an argument, a tensor or the first of a list, that grow with the image."""
    values = [o.args.get(name) for o in ops]
    values = [v[0] if isinstance(v, list | tuple) and v else v for v in values]
    if not all(isinstance(v, Tensor) for v in values):
        return set()
    sizes: list[Any] = [v.shape for v in values if isinstance(v, Tensor)]
    return {d for d in range(len(sizes[0])) if len({s[d] for s in sizes}) > 1}


def _moves(op: Operator, growing: dict[str, set[int]]) -> Iterator[bool]:
    """Yield, for each growing axis, whether a window or padding does something along it."""
    name = "input" if op.op is aten.convolution.default else "self"
    ndim = len(op.args[name].shape)
    if op.op in PADS:
        pads = list(op.args[PADS[op.op]])
        for d in growing[name]:
            at = 2 * (ndim - 1 - d)
            yield any(pads[at : at + 2])
        return
    kernel = op.args["weight"].shape[2:] if name == "input" else op.args["kernel_size"]
    axes = ndim - 2 if name == "input" else int(str(op.op).split("pool")[-1][0])
    stride = op.args["stride"] or kernel
    for d in growing[name]:
        at = d - (ndim - axes)
        settings = [_at(values, at) for values in (kernel, stride, op.args["padding"])]
        yield at >= 0 and settings != [1, 1, 0]
        yield at < 0 and name == "input" and d == 1


def _at(values: Sequence[int], axis: int) -> int:
    return values[axis] if len(values) > 1 else values[0]


def _along_dims(op: Operator, growing: dict[str, set[int]], name: str, windows: bool) -> str:
    """Return the obstacle of an operator that works along the axes that it names, if it does."""
    first = next(key for key, dims in growing.items() if dims)
    tensor = op.args[first][0] if isinstance(op.args[first], list | tuple) else op.args[first]
    dims = op.args.get("dim", op.args.get("dims"))
    if "dim" not in op.args and "dims" not in op.args:
        return f"no rule knows `{name}`"
    listed = (
        list(range(tensor.ndim)) if dims is None else dims if isinstance(dims, list) else [dims]
    )
    hit = {d % tensor.ndim for d in listed} & growing[first]
    if not hit or (op.op is aten.slice.Tensor and (windows or _takes_all(op))):
        return ""
    return WHOLE.format(name)


def _takes_all(op: Operator) -> bool:
    size = op.args["self"].shape[op.args["dim"]]
    bounds = slice(op.args["start"], op.args["end"], op.args["step"])
    return bounds.indices(size) == (0, size, 1)
