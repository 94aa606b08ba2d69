"""Rules of operators that mix whole axes: norms, reductions, products of matrices."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fullconv.tracing._reach import Reach, hull
from fullconv.tracing._rules import FREEZE, LOCAL_NORM, WHOLE, Step, rule

aten = torch.ops.aten


@rule(aten.native_batch_norm.default, aten._native_batch_norm_legit.default)
@rule(aten.cudnn_batch_norm.default, aten._native_batch_norm_legit_functional.default)
@rule(aten._native_batch_norm_legit.no_stats, aten._batch_norm_with_update.default)
@rule(aten._batch_norm_with_update_functional.default, aten.miopen_batch_norm.default)
def _batch_norm(step: Step) -> list[Reach]:
    if step.call.args.get("training", True):
        name, remedies = _kind_of_norm(step)
        step.refuse(f"{name} normalises by statistics of the whole image", *remedies)
    return [_normalized(step)] * len(step.call.outputs)


def _kind_of_norm(step: Step) -> tuple[str, tuple[str, ...]]:
    """Return what a norm by statistics of the image is called, and what can be done about it."""
    if step.call.module_class.startswith("InstanceNorm"):
        return "InstanceNorm", (LOCAL_NORM, WHOLE)
    if step.call.args.get("running_mean") is None:
        return "BatchNorm without running statistics", (LOCAL_NORM, WHOLE)
    return "BatchNorm in training", (FREEZE, LOCAL_NORM, WHOLE)


@rule(aten._native_batch_norm_legit_no_training.default, aten._batch_norm_no_update.default)
def _frozen_batch_norm(step: Step) -> list[Reach]:
    return [_normalized(step)] * len(step.call.outputs)


def _normalized(step: Step) -> Reach:
    """Return the reach of the image and, channel by channel, of what it is normalised by."""
    image = step.reach("input")
    shape = [1, -1, *[1] * (image.ndim - 2)]
    others = [step.reach_of[v] for v in step.call.inputs[1:] if v in step.reach_of]
    return hull([image, *(one.map(lambda part: part.reshape(shape)) for one in others)])


@rule(aten.native_group_norm.default)
def _group_norm(step: Step) -> Reach:
    step.refuse("GroupNorm normalises by statistics of the whole image", LOCAL_NORM, WHOLE)


@rule(aten.native_layer_norm.default, aten._fused_rms_norm.default)
def _layer_norm(step: Step) -> list[Reach]:
    ndim = len(step.shape("input"))
    dims = range(ndim - len(step["normalized_shape"]), ndim)
    return [_over(step, "input", dims, "its norm")] * len(step.call.outputs)


@rule(aten._softmax.default, aten._log_softmax.default, aten._safe_softmax.default)
def _softmax(step: Step) -> Reach:
    return _over(step, "self", [step["dim"]], "softmax")


@rule(aten.cumsum.default, aten.cumprod.default, aten.logcumsumexp.default)
@rule(aten.cummax.default, aten.cummin.default)
def _scan(step: Step) -> list[Reach]:
    return [_over(step, "self", [step["dim"]], "a running total")] * len(step.call.outputs)


@rule(aten._fft_r2c.default, aten._fft_c2r.default, aten._fft_c2c.default)
def _fourier(step: Step) -> Reach:
    return _over(step, "self", step["dim"], "a Fourier transform")


@rule(aten.gather.default)
def _pick(step: Step) -> Reach:
    if len(step.out) != len(step.shape("self")) or any(
        a != b
        for d, (a, b) in enumerate(zip(step.out, step.shape("self"), strict=True))
        if d != step["dim"] % len(step.out)
    ):
        step.refuse("it picks positions of another shape than it reads from, which no rule follows")
    picked = [
        _over(step, "self", [step["dim"]], "picking by an index")
        if step["self"] in step.reach_of
        else None,
        step.reach_of.get(step["index"]),
    ]
    return hull([reach for reach in picked if reach])


@rule(aten.sort.default, aten.topk.default, aten.glu.default, aten.sort.stable)
def _along_dim(step: Step) -> list[Reach]:
    if step.call.op is aten.glu.default and step["dim"] % len(step.out) in _growing(step, "self"):
        step.refuse("it splits an axis that grows with the image")
    return [_over(step, "self", [step["dim"]], "sorting")] * len(step.call.outputs)


def _growing(step: Step, name: str) -> dict[int, int]:
    return step.growing[step.call.args[name]]


def _over(step: Step, name: str, dims: Sequence[int], what: str) -> Reach:
    """Return the hull over axes, kept with size 1, or refuse where one grows with the image."""
    reach, ndim = step.reach(name), len(step.shape(name))
    for dim in dims:
        if step.grows(name, dim):
            step.refuse(
                f"{what} runs over an axis that grows with the image: it looks at the whole image",
                "use a window of a fixed size instead (an average over k x k pixels)",
                LOCAL_NORM if "norm" in what else WHOLE,
            )
        reach = reach.over(dim % ndim)
    return reach


@rule(aten.mean.dim, aten.sum.dim_IntList, aten.amax.default, aten.amin.default)
@rule(
    aten.max.dim, aten.min.dim, aten.var.correction, aten.var_mean.correction, aten.std.correction
)
@rule(aten.prod.dim_int, aten.logsumexp.default, aten.argmax.default, aten.argmin.default)
@rule(aten.linalg_vector_norm.default, aten.norm.ScalarOpt_dim, aten.any.dim, aten.all.dim)
@rule(aten.std_mean.correction, aten.median.dim, aten.mean.default, aten.sum.default)
@rule(aten.max.default, aten.min.default, aten.any.default, aten.all.default)
@rule(aten.prod.default, aten.norm.Scalar, aten.all.dims, aten.any.dims, aten.nansum.default)
@rule(aten.count_nonzero.default, aten.count_nonzero.dim_IntList, aten.nanmedian.dim)
@rule(aten.kthvalue.default, aten.mode.default, aten.aminmax.default)
def _reduction(step: Step) -> list[Reach]:
    name = "self" if "self" in step.call.args else "x"
    ndim = len(step.shape(name))
    given = step.call.args.get("dim")
    dims = [given] if isinstance(given, int) else list(given or range(ndim))
    reach = _over(step, name, dims, "an average or another total")
    if not step.call.args.get("keepdim", False):
        gone = {dim % ndim for dim in dims}
        kept = [d + 1 for d in range(ndim) if d not in gone]
        reach = Reach(
            reach.parts.permute(0, *kept, *(d + 1 for d in gone)).flatten(len(kept) + 1)[..., 0]
        )
    return [reach] * len(step.call.outputs)


@rule(aten.mm.default, aten.bmm.default)
def _product(step: Step) -> Reach:
    return _matmul(step, "self", "mat2")


@rule(aten.addmm.default, aten.baddbmm.default)
def _product_and_sum(step: Step) -> Reach:
    names = ("mat1", "mat2") if "mat1" in step.call.args else ("batch1", "batch2")
    product = _matmul(step, *names)
    return hull([product, step.reach("self")]) if step["self"] in step.reach_of else product


def _matmul(step: Step, left: str, right: str) -> Reach:
    """Return the reach of ``left @ right``: each position reads a row of one, a column of the other."""
    reaches: list[Reach] = []
    pairs = step.growing[step.call.outputs[0]]
    if {len(step.out) - 1, len(step.out) - 2} <= pairs.keys():
        step.refuse(
            "attention compares every position with every other: it looks at the whole image"
        )
    for name, dim in ((left, -1), (right, -2)):
        if step[name] in step.reach_of:
            reaches.append(_over(step, name, [dim], "a product of matrices (attention)"))
    return hull(reaches)


@rule(aten._scaled_dot_product_flash_attention_for_cpu.default)
@rule(aten._scaled_dot_product_efficient_attention.default)
@rule(aten._scaled_dot_product_flash_attention.default)
@rule(aten._scaled_dot_product_attention_math.default)
def _attention(step: Step) -> list[Reach]:
    """Each query reads every key and value: local only among a fixed number of them."""
    query = _over(step, "query", [-1], "attention")
    others = [_over(step, name, [-1, -2], "attention") for name in ("key", "value")]
    return [hull([query, *others])] * len(step.call.outputs)
