"""Rules of operators that move positions about: views, slices, joins, and what makes constants."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fullconv.tracing._program import Value
from fullconv.tracing._reach import BORDER, Reach, of_constant, reshape
from fullconv.tracing._rules import Step, along, pointwise, rule

aten = torch.ops.aten

for _op in (
    aten.clone.default, aten.alias.default, aten.detach.default, aten._to_copy.default,
    aten.lift_fresh.default, aten.lift_fresh_copy.default, aten.lift.default,
    aten.native_dropout.default, aten.bernoulli.p, aten.bernoulli.default, aten.bernoulli_.float,
    aten._prelu_kernel.default, aten.contiguous.default, aten.hardswish.default,
    aten.rrelu_with_noise.default, aten.rrelu_with_noise_functional.default,
    aten._add_relu.Tensor, aten.complex.default, aten.polar.default, aten.floor_divide.default,
    aten.log_sigmoid_forward.default, aten.masked_fill.Tensor, aten.rsub.Tensor,
    aten.zero.default, aten._masked_scale.default, aten.bucketize.Tensor,
    aten.fake_quantize_per_tensor_affine_cachemask.default,
    aten._fake_quantize_per_tensor_affine_cachemask_tensor_qparams.default,
):  # fmt: skip
    rule(_op)(pointwise)


@rule(aten.view.default, aten._unsafe_view.default, aten.reshape.default)
@rule(aten._reshape_alias.default, aten.view_copy.default)
def _view(step: Step) -> Reach:
    return reshape(step.reach("self"), step.shape("self"), step.out)


@rule(aten.permute.default)
def _permute(step: Step) -> Reach:
    return step.reach("self").map(lambda part: part.permute(step["dims"]))


@rule(aten.transpose.int)
def _transpose(step: Step) -> Reach:
    return step.reach("self").map(lambda part: part.transpose(step["dim0"], step["dim1"]))


@rule(aten.t.default)
def _t(step: Step) -> Reach:
    return step.reach("self").map(lambda part: part.t())


@rule(aten.unsqueeze.default)
def _unsqueeze(step: Step) -> Reach:
    return step.reach("self").map(lambda part: part.unsqueeze(step["dim"]))


@rule(aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims)
def _squeeze(step: Step) -> Reach:
    return reshape(step.reach("self"), step.shape("self"), step.out)


@rule(aten.expand.default)
def _expand(step: Step) -> Reach:
    extra = len(step.out) - len(step.shape("self"))
    return step.reach("self").map(lambda part: part.reshape([1] * extra + list(part.shape)))


@rule(aten.repeat.default)
def _repeat(step: Step) -> Reach:
    repeats = list(step["repeats"])
    extra = len(repeats) - len(step.shape("self"))

    def tile(part: Tensor) -> Tensor:
        sizes = [1] * extra + list(part.shape)
        times = [1 if n == 1 else r for n, r in zip(sizes, repeats, strict=True)]
        return part.reshape(sizes).repeat(times)

    return step.reach("self").map(tile)


@rule(aten.flip.default)
def _flip(step: Step) -> Reach:
    return step.reach("self").map(lambda part: part.flip(step["dims"]))


@rule(aten.roll.default)
def _roll(step: Step) -> Reach:
    return step.reach("self").map(lambda part: part.roll(step["shifts"], step["dims"]))


def _bounds(step: Step, size: int) -> tuple[int, int, int]:
    start, stop, stride = slice(step["start"], step["end"], step["step"]).indices(size)
    return start, max(start, stop), stride


@rule(aten.slice.Tensor)
def _slice(step: Step) -> Reach:
    dim = step["dim"]
    start, stop, stride = _bounds(step, step.shape("self")[dim])
    index = torch.arange(start, stop, stride)
    return along(
        dim % len(step.out), step.reach("self"), lambda part: part.index_select(dim, index)
    )


@rule(aten.slice_scatter.default)
def _slice_scatter(step: Step) -> Reach:
    dim = step["dim"] % len(step.out)
    start, stop, stride = _bounds(step, step.out[dim])
    sizes = step.out[dim], step.shape("src")[dim]
    base, new = _written_out([_or_constant(step, "self"), _or_constant(step, "src")], dim, sizes)
    parts = base.clone()
    parts[(slice(None),) * (dim + 1) + (slice(start, stop, stride),)] = new
    growth, inner = (step.growing[v].get(dim, 0) for v in (step.call.outputs[0], step["src"]))
    if inner and inner * stride == growth:
        _left_over(parts, dim, range(start, stop, stride))
    elif growth and not inner:
        _count_from_end(parts, base, dim, range(start, stop, stride), (step["start"] or 0) < 0)
    return Reach(parts)


def _count_from_end(parts: Tensor, base: Tensor, dim: int, written: range, last: bool) -> None:
    """Mark that positions counted from an end of the image, its last one or its first, are written.

    A window has them at its own end: they are the image's border, and other positions must lie as far
    from the window's end as they reach.
    """
    size = parts.shape[dim + 1]
    count = size - min(written, default=size) if last else max(written, default=-1) + 1
    part, ends, behind = (3, size - count, 0) if last else (2, 0, count)
    parts[part].narrow(dim, ends, count).fill_(BORDER)
    rest = parts[part].narrow(dim, behind, size - count)
    reads = base[part].narrow(dim, count if last else 0, size - count)
    rest.copy_(torch.minimum(rest, reads))


def _left_over(parts: Tensor, dim: int, written: range) -> None:
    """Mark what a slice that grows with the image leaves over at either end: the image's border.

    How much is left over does not depend on the image's size, so it is to the slice what padding is.
    """
    before = range(written.start - written.step, -1, -written.step)
    after = range(written[-1] + written.step, parts.shape[dim + 1], written.step)
    for part, places in ((2, before), (3, after)):
        if places:
            parts[part].index_fill_(dim, torch.tensor(places), BORDER)


@rule(aten.select_scatter.default)
def _select_scatter(step: Step) -> Reach:
    dim = step["dim"] % len(step.out)
    one = _or_constant(step, "src").map(lambda part: part.unsqueeze(dim))
    base, new = _written_out([_or_constant(step, "self"), one], dim, (step.out[dim], 1))
    parts = base.clone()
    parts.select(dim + 1, step["index"])[...] = new.select(dim + 1, 0)
    if step.growing[step.call.outputs[0]].get(dim):
        place = step["index"] % step.out[dim]
        _count_from_end(parts, base, dim, range(place, place + 1), step["index"] < 0)
    return Reach(parts)


def _or_constant(step: Step, name: str) -> Reach:
    return _or_constant_value(step, step[name])


def _or_constant_value(step: Step, value: Value) -> Reach:
    return step.reach_of.get(value) or of_constant(len(value.shape))


def _written_out(reaches: Sequence[Reach], dim: int, sizes: Sequence[int]) -> list[Tensor]:
    """Return the parts with axis `dim` written out to `sizes`, all other axes to a common size."""
    shapes = [list(r.parts.shape) for r in reaches]
    for shape in shapes:
        shape[dim + 1] = 1
    common = torch.broadcast_shapes(*shapes)
    return [
        r.parts.expand(*common[: dim + 1], size, *common[dim + 2 :])
        for r, size in zip(reaches, sizes, strict=True)
    ]


@rule(aten.select.int)
def _select(step: Step) -> Reach:
    dim = step["dim"] % len(step.shape("self"))
    if step.grows("self", dim):
        step.refuse("it picks one position of an axis that grows with the image")
    reach = step.reach("self")
    index = step["index"] % step.shape("self")[dim] if reach.size(dim) > 1 else 0
    return reach.map(lambda part: part.select(dim, index))


@rule(aten.unbind.int)
def _unbind(step: Step) -> list[Reach]:
    dim = step["dim"] % len(step.shape("self"))
    reach = step.reach("self")
    indices = range(len(step.call.outputs)) if reach.size(dim) > 1 else [0] * len(step.call.outputs)
    return [reach.map(partial(torch.select, dim=dim, index=i)) for i in indices]


@rule(aten.split.Tensor, aten.split_with_sizes.default)
@rule(aten.split_copy.Tensor, aten.split_with_sizes_copy.default)
@rule(aten.unsafe_split.Tensor, aten.unsafe_split_with_sizes.default)
def _split(step: Step) -> list[Reach]:
    dim, reach = step["dim"], step.reach("self")
    results: list[Reach] = []
    start = 0
    for out in step.call.outputs:
        size = out.shape[dim]
        piece = along(
            dim % len(out.shape), reach, partial(torch.narrow, dim=dim, start=start, length=size)
        )
        results.append(piece)
        start += size
    return results


@rule(aten.cat.default)
def _cat(step: Step) -> Reach:
    values: Sequence[Value] = [v for v in step["tensors"] if v.shape != (0,)]
    dim = step["dim"] % len(step.out)
    reaches = [_or_constant_value(step, v) for v in values]
    if all(r.size(dim) == 1 and torch.equal(r.parts, reaches[0].parts) for r in reaches):
        return reaches[0]
    pieces = _written_out(reaches, dim, [v.shape[dim] for v in values])
    growing = [n for n, v in enumerate(values) if step.growing[v].get(dim)]
    if len(growing) == 1:
        pieces = [
            _bordering(piece, 0 if n == growing[0] else 2 if n < growing[0] else 3)
            for n, piece in enumerate(pieces)
        ]
    return Reach(torch.cat(pieces, dim + 1))


def _bordering(piece: Tensor, part: int) -> Tensor:
    """Mark a piece of fixed size beside one that grows: it stands at the image's border."""
    if not part:
        return piece
    marked = piece.clone()
    marked[part] = BORDER
    return marked


@rule(aten.stack.default)
def _stack(step: Step) -> Reach:
    dim = step["dim"] % len(step.out)
    reaches = [_or_constant_value(step, v) for v in step["tensors"]]
    new = [reach.map(lambda part: part.unsqueeze(dim)) for reach in reaches]
    return Reach(torch.cat(_written_out(new, dim, [1] * len(new)), dim + 1))


@rule(aten.unfold.default)
def _unfold(step: Step) -> Reach:
    """Sliding windows of an axis, as a new last axis."""
    if not step.shape("self"):
        return step.reach("self").map(lambda part: part.unsqueeze(-1))
    dim, reach = step["dimension"] % len(step.shape("self")), step.reach("self")
    if reach.size(dim) == 1:
        return reach.map(lambda part: part.unsqueeze(-1))
    return reach.map(lambda part: part.unfold(dim, step["size"], step["step"]))


@rule(aten.embedding.default)
def _embedding(step: Step) -> Reach:
    if step["weight"] in step.reach_of:
        step.refuse("the table that it looks up is computed from the image (data-dependent)")
    return step.reach("indices").map(lambda part: part.unsqueeze(-1))


@rule(aten.pixel_shuffle.default)
def _pixel_shuffle(step: Step) -> Reach:
    r, (*batch, channels, height, width) = step["upscale_factor"], step.shape("self")
    split = [*batch, channels // r**2, r, r, height, width]
    n = len(batch)
    order = [*range(n), n, n + 3, n + 1, n + 4, n + 2]
    return _through(step.reach("self"), step.shape("self"), split, order, step.out)


@rule(aten.pixel_unshuffle.default)
def _pixel_unshuffle(step: Step) -> Reach:
    r, (*batch, channels, height, width) = step["downscale_factor"], step.shape("self")
    split = [*batch, channels, height // r, r, width // r, r]
    n = len(batch)
    order = [*range(n), n, n + 2, n + 4, n + 1, n + 3]
    return _through(step.reach("self"), step.shape("self"), split, order, step.out)


@rule(aten.channel_shuffle.default, aten.native_channel_shuffle.default)
def _channel_shuffle(step: Step) -> Reach:
    groups, (batch, channels, *rest) = step["groups"], step.shape("self")
    split = [batch, groups, channels // groups, *rest]
    order = [0, 2, 1, *range(3, 3 + len(rest))]
    return _through(step.reach("self"), step.shape("self"), split, order, step.out)


def _through(
    reach: Reach, old: Sequence[int], split: Sequence[int], order: Sequence[int], new: Sequence[int]
) -> Reach:
    """Return the reach after a view, a permutation and a view."""
    moved = reshape(reach, old, split).map(lambda part: part.permute(list(order)))
    return reshape(moved, [split[k] for k in order], new)


@rule(aten.copy.default)
def _copy(step: Step) -> Reach:
    """Overwrite `self` by `src`, which is broadcast to its shape."""
    reach = _or_constant(step, "src")
    extra = len(step.out) - reach.ndim
    return reach.map(lambda part: part.reshape([1] * extra + list(part.shape)))


@rule(aten.index_select.default, aten.index.Tensor)
def _index(step: Step) -> Reach:
    """Pick positions of one axis that does not grow by constant indices: the hull over that axis."""
    indices: Any = step["indices"] if "indices" in step.call.args else None
    if indices and len(indices) == 1 and step["self"] not in step.reach_of:
        rest = [1] * (len(step.shape("self")) - 1)  # a table is looked up, row by row
        return step.reach_of[indices[0]].map(lambda part: part.reshape(*part.shape, *rest))
    dims = [n for n, i in enumerate(indices) if i is not None] if indices else [step["dim"]]
    reach = step.reach("self")
    for dim in dims:
        if step.grows("self", dim):
            step.refuse("it picks positions of an axis that grows with the image by an index")
        reach = reach.over(dim % len(step.shape("self")))
    if any(v in step.reach_of for v in step.call.inputs if v is not step["self"]):
        step.refuse("the index is computed from the image (data-dependent)")
    if len(step.out) != len(step.shape("self")):
        step.refuse("it picks positions by several indices at once, which no rule follows")
    return reach


@rule(aten.view_as_real.default)
def _view_as_real(step: Step) -> Reach:
    return step.reach("self").map(lambda part: part.unsqueeze(-1))


@rule(aten.view_as_complex.default)
def _view_as_complex(step: Step) -> Reach:
    return step.reach("self").map(lambda part: part.amin(-1))


@rule(aten.fill.Scalar, aten.fill.Tensor)
def _fill(step: Step) -> Reach:
    return of_constant(len(step.out))


@rule(aten.grid_sampler_2d.default, aten.grid_sampler_3d.default)
def _grid_sample(step: Step) -> Reach:
    step.refuse("where it reads is a fraction of the image's size, or computed from the image")


@rule(aten.copy_.default)
def _write_in_place(step: Step) -> Reach:
    if step["self"] in step.reach_of and step["self"] not in step.made_by:
        raise step.made_by.get(step["src"], step.call).refused(
            "it writes into the image that it is given, which other windows read too",
            "let the first layer work on a copy (`inplace=False`)",
        )
    step.refuse(
        "it writes piecewise into a tensor made on the way, as circular padding does, which wraps "
        "around the whole image",
        "pad with zeros or by reflection",
    )
