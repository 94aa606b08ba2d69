"""Rules of operators that slide a window along an axis: convolution, pooling, resizing, padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fullconv.tracing._program import Call
from fullconv.tracing._reach import NO_TAP, Reach, gather, hull, reshape
from fullconv.tracing._rules import WHOLE, Step, rule

aten = torch.ops.aten


def _per_axis(values: Sequence[int] | int, num_axes: int) -> list[int]:
    """Return one value per axis from an argument that may give one for all."""
    listed = [values] if isinstance(values, int) else list(values)
    return listed * num_axes if len(listed) == 1 else listed


def _slide(size: int, *, kernel: int, stride: int, before: int, dilation: int) -> Tensor:
    """Return the taps of `size` positions of a sliding window: ``i * stride - before + j * dilation``."""
    start = torch.arange(size) * stride - before
    return start[None] + torch.arange(kernel)[:, None] * dilation


def _slide_transposed(size: int, *, kernel: int, stride: int, before: int, dilation: int) -> Tensor:
    """Return the taps of a transposed convolution: all `i` with ``i * stride - before + j * dilation`` there."""
    offset = torch.arange(size)[None] + before - torch.arange(kernel)[:, None] * dilation
    taps = torch.div(offset, stride, rounding_mode="floor")
    return torch.where(offset % stride == 0, taps, NO_TAP)


def _gather(step: Step, name: str, reach: Reach, dim: int, taps: Tensor) -> Reach:
    return gather(reach, dim, taps, step.shape(name)[dim], grows=step.grows(name, dim))


def _mix_channels(reach: Reach, channels_in: int, channels_out: int, groups: int) -> Reach:
    """Return the reach after a convolution's mixing of channels within each group."""
    if reach.size(1) == 1:
        return reach
    if groups == 1:
        return reach.over(1)
    parts = reach.parts
    grouped = parts.reshape(*parts.shape[:2], groups, channels_in // groups, *parts.shape[3:])
    return Reach(grouped.amin(3).repeat_interleave(channels_out // groups, 2))


@rule(aten.convolution.default, aten._convolution.default)
def _convolution(step: Step) -> Reach:
    if step["weight"] in step.reach_of:
        step.refuse("the kernel of the convolution is computed from the image")
    shape, weight = step.shape("input"), step.shape("weight")
    reach = _mix_channels(step.reach("input"), shape[1], step.out[1], step["groups"])
    slide = _slide_transposed if step["transposed"] else _slide
    axes = len(weight) - 2
    settings = [_per_axis(step[name], axes) for name in ("stride", "padding", "dilation")]
    for axis, (stride, before, dilation) in enumerate(zip(*settings, strict=True)):
        taps = slide(
            step.out[axis + 2],
            kernel=weight[axis + 2],
            stride=stride,
            before=before,
            dilation=dilation,
        )
        reach = _gather(step, "input", reach, axis + 2, taps)
    return reach


@rule(
    aten.max_pool2d_with_indices.default,
    aten.max_pool3d_with_indices.default,
    aten.avg_pool1d.default,
    aten.avg_pool2d.default,
    aten.avg_pool3d.default,
)
def _pool(step: Step) -> list[Reach]:
    axes = len(step["kernel_size"]) if len(step["kernel_size"]) > 1 else _pool_axes(step)
    kernel = _per_axis(step["kernel_size"], axes)
    stride = _per_axis(step["stride"] or kernel, axes)
    before = _per_axis(step["padding"], axes)
    dilation = _per_axis(step.call.args.get("dilation", 1), axes)
    reach, first = step.reach("self"), len(step.shape("self")) - axes
    for axis in range(axes):
        grown = step.growing[step.call.outputs[0]]
        if step.grows("self", first + axis) and first + axis not in grown:
            step.refuse(
                "its windows grow with the image: it looks at the whole image",
                "pool over windows of a fixed size instead",
                WHOLE,
            )
        taps = _slide(
            step.out[first + axis],
            kernel=kernel[axis],
            stride=stride[axis],
            before=before[axis],
            dilation=dilation[axis],
        )
        reach = _gather(step, "self", reach, first + axis, taps)
    return [reach] * len(step.call.outputs)


def _pool_axes(step: Step) -> int:
    return int(step.call.op._schema.name.split("pool")[1][0])


def _factor(step: Step, dim: int) -> int:
    """Return by how much an axis is stretched (> 0) or shrunk (< 0) by a whole factor, or refuse."""
    old, new = step.shape("self")[dim], step.out[dim]
    scale = _scale(step, dim)
    if scale and scale >= 1 and new == int(old * scale) and scale == int(scale):
        return int(scale)
    if scale and scale < 1 and new == int(old * scale) and abs(1 / scale % 1 - 0.5) > 0.5 - 1e-9:
        return -round(1 / scale)
    if step.grows("self", dim) != (dim in step.growing[step.call.outputs[0]]):
        step.refuse(
            f"it resizes an axis that grows with the image to {new} positions whatever its size",
            WHOLE,
            "pool over windows of a fixed size instead",
        )
    if scale or (new % old and old % new):
        step.refuse(
            f"it resizes {old} positions to {new}, which is not by a whole factor, so where it reads "
            "depends on the size of the image or is not the same from period to period",
            "use a whole factor"
            if scale
            else "pad the image so that the factor is whole (a multiple of the network's period)",
            WHOLE,
        )
    return new // old if new >= old else -(old // new)


def _scale(step: Step, dim: int) -> float | None:
    """Return the scale that the caller gave for an axis, if it gave one."""
    scales = [value for name, value in step.call.args.items() if name.startswith("scales")]
    return scales[dim - 2] if len(scales) == len(step.out) - 2 else None


def _resized_dims(step: Step) -> range:
    return range(2, len(step.out))


@rule(
    aten.upsample_nearest1d.default,
    aten.upsample_nearest2d.default,
    aten.upsample_nearest3d.default,
    aten._upsample_nearest_exact1d.default,
    aten._upsample_nearest_exact2d.default,
    aten._upsample_nearest_exact3d.default,
)
def _nearest(step: Step) -> Reach:
    reach = step.reach("self")
    for dim in _resized_dims(step):
        factor = _factor(step, dim)
        # In single precision, as PyTorch computes it: where that rounds, positions differ.
        scale = torch.tensor(1 / factor if factor > 0 else -factor, dtype=torch.float32)
        middle = 0.5 if "exact" in str(step.call.op) else 0.0
        taps = ((torch.arange(step.out[dim]) + middle) * scale).floor().long()
        reach = _gather(step, "self", reach, dim, taps.clamp(max=step.shape("self")[dim] - 1)[None])
    return reach


def _interpolated(reach: Reach, step: Step, dim: int, *, before: int, after: int) -> Reach:
    """Return the reach of interpolation from `before` + `after` neighbours of each source point."""
    factor, position = _factor(step, dim), torch.arange(step.out[dim])
    # Source point (i + 1/2) / factor - 1/2, as a fraction with denominator 2 * factor or 2.
    if factor > 0:
        numerator, denominator = 2 * position + 1 - factor, 2 * factor
    else:
        numerator, denominator = (2 * position + 1) * -factor - 1, 2
    floor = torch.div(numerator, denominator, rounding_mode="floor")
    taps = floor[None] + torch.arange(1 - before, after + 1)[:, None]
    on_a_point = (numerator % denominator == 0)[None] & (taps != floor[None])
    return _gather(step, "self", reach, dim, torch.where(on_a_point, NO_TAP, taps))


@rule(
    aten.upsample_linear1d.default,
    aten.upsample_bilinear2d.default,
    aten.upsample_trilinear3d.default,
    aten.upsample_bicubic2d.default,
)
def _interpolation(step: Step) -> Reach:
    reach = step.reach("self")
    neighbours = 2 if "bicubic" in str(step.call.op) else 1
    for dim in _resized_dims(step):
        if step["align_corners"] and step.out[dim] != step.shape("self")[dim]:
            step.refuse(
                "with `align_corners=True` its scale depends on the size of the image",
                "use `align_corners=False` with a whole factor",
                WHOLE,
            )
        reach = _interpolated(reach, step, dim, before=neighbours, after=neighbours)
    return reach


@rule(aten._adaptive_avg_pool2d.default, aten._adaptive_avg_pool3d.default)
@rule(aten.adaptive_max_pool2d.default, aten.adaptive_max_pool3d.default)
@rule(aten.adaptive_avg_pool1d.default)
def _adaptive_pool(step: Step) -> list[Reach]:
    reach = step.reach("self")
    axes = len(step["output_size"])
    for dim in range(len(step.out) - axes, len(step.out)):
        factor, size = _factor(step, dim), step.out[dim]
        if factor > 0:
            taps = (torch.arange(size) // factor)[None]
        else:
            taps = _slide(size, kernel=-factor, stride=-factor, before=0, dilation=1)
        reach = _gather(step, "self", reach, dim, taps)
    return [reach] * len(step.call.outputs)


@rule(aten.constant_pad_nd.default)
def _constant_pad(step: Step) -> Reach:
    reach, pads = step.reach("self"), list(step["pad"])
    for n in range(len(pads) // 2):
        dim = len(step.out) - 1 - n
        if pads[2 * n] or pads[2 * n + 1]:
            taps = torch.arange(step.out[dim]) - pads[2 * n]
            reach = _gather(step, "self", reach, dim, taps[None])
    return reach


@rule(
    aten.reflection_pad1d.default,
    aten.reflection_pad2d.default,
    aten.reflection_pad3d.default,
    aten.replication_pad1d.default,
    aten.replication_pad2d.default,
    aten.replication_pad3d.default,
)
def _copying_pad(step: Step) -> Reach:
    """Pad with copies of pixels: what they read, and that they stand at the image's border."""
    reach, pads = step.reach("self"), list(step["padding"])
    for n in range(len(pads) // 2):
        dim = len(step.out) - 1 - n
        size = step.shape("self")[dim]
        place = torch.arange(step.out[dim]) - pads[2 * n]
        if "reflection" in str(step.call.op):
            copied = (size - 1) - ((size - 1) - place.abs()).abs()
        else:
            copied = place.clamp(0, size - 1)
        reach = _gather(step, "self", reach, dim, torch.stack([copied, place]))
    return reach


@rule(aten.max_unpool2d.default, aten.max_unpool3d.default)
def _max_unpool(step: Step) -> Reach:
    """Put each maximum back where it came from: inside its pooling window, which is its own."""
    pool = _pooling_behind(step)
    if pool is None or not _keeps_to_its_own(pool):
        step.refuse(
            "where it puts a maximum back depends on the image (data-dependent)",
            "take the indices of a max pooling whose windows lie side by side, without padding",
            WHOLE,
        )
    sizes = pool.args["self"].shape[2:]
    kernels = _per_axis(pool.args["kernel_size"], len(sizes))
    # A pooling along one axis is one along two, of which one has a single position.
    pooled = [(size, kernel) for size, kernel in zip(sizes, kernels, strict=True) if size > 1]
    dims = [dim for dim in _resized_dims(step) if step.out[dim] > 1]
    if [step.out[dim] for dim in dims] != [size for size, _ in pooled]:
        step.refuse(
            f"the indices number the positions of {sizes}, and it unpools to {step.out[2:]}: maxima "
            "land on other positions, by the size of the image",
            "give the size before the pooling as `output_size`",
        )
    reach = hull([step.reach("self"), step.reach("indices")])
    for dim, (_, kernel) in zip(dims, pooled, strict=True):
        taps = torch.arange(step.out[dim]) // kernel
        reach = _gather(step, "self", reach, dim, taps[None])
    return reach


def _pooling_behind(step: Step) -> Call | None:
    """Return the call that made the indices, behind any squeezing."""
    made = step.made_by.get(step["indices"])
    while made and made.op in (aten.squeeze.dim, aten.squeeze.default, aten.unsqueeze.default):
        made = step.made_by.get(made.args["self"])
    return made


def _keeps_to_its_own(pool: Call) -> bool:
    """Return whether the windows of a max pooling lie side by side."""
    if "max_pool" not in str(pool.op):
        return False
    kernel: list[int] = pool.args["kernel_size"]
    stride: list[int] = pool.args["stride"] or kernel
    dense = all(d == 1 for d in pool.args["dilation"])
    return list(kernel) == list(stride) and dense and not any(pool.args["padding"])


@rule(aten.im2col.default)
def _im2col(step: Step) -> Reach:
    """Write the taps of a sliding window out as channels, and its positions as one axis."""
    batch, channels, *_ = step.shape("self")
    grid = grid_of(step.call, step.shape("self")[2:])
    reach = step.reach("self").map(lambda part: part[:, :, None, None])
    for axis in (0, 1):
        taps = _slide(grid[axis], **_window(step.call, axis))
        dim, reads = axis + 4, step.shape("self")[axis + 2]
        grows = step.grows("self", axis + 2)
        each = [gather(reach, dim, tap[None], reads, grows=grows) for tap in taps]
        reach = Reach(torch.cat([r.parts for r in each], axis + 3))
    kernel = step["kernel_size"]
    return reshape(reach, [batch, channels, *kernel, *grid], step.out)


@rule(aten.col2im.default)
def _col2im(step: Step) -> Reach:
    """Add sliding windows up where they overlap: the opposite of `im2col`."""
    grid, kernel = grid_of(step.call, step["output_size"]), step["kernel_size"]
    batch, channels, *_ = step.out
    reach = reshape(step.reach("self"), step.shape("self"), [batch, channels, *kernel, *grid])
    growth = step.growing[step.call.outputs[0]]
    for axis in (0, 1):
        taps = _slide_transposed(step.out[axis + 2], **_window(step.call, axis))
        dim, grows = axis + 4, axis + 2 in growth
        one = [
            Reach(
                reach.parts.select(axis + 3, n if reach.size(axis + 2) > 1 else 0).unsqueeze(
                    axis + 3
                )
            )
            for n in range(len(taps))
        ]
        each = [
            gather(r, dim, t[None], grid[axis], grows=grows) for r, t in zip(one, taps, strict=True)
        ]
        reach = hull(each)
    return Reach(reach.parts[:, :, :, 0, 0])


def _window(call: Call, axis: int) -> dict[str, int]:
    names = {
        "kernel": "kernel_size",
        "stride": "stride",
        "before": "padding",
        "dilation": "dilation",
    }
    return {ours: call.args[theirs][axis] for ours, theirs in names.items()}


def grid_of(call: Call, sizes: Sequence[int]) -> list[int]:
    """Return how many positions a sliding window has along each axis."""
    windows = [_window(call, axis) for axis in range(len(sizes))]
    return [
        (s + 2 * w["before"] - w["dilation"] * (w["kernel"] - 1) - 1) // w["stride"] + 1
        for s, w in zip(sizes, windows, strict=True)
    ]
