"""Whether a network keeps the images of a batch apart: windows of one image run together as a batch."""

from __future__ import annotations

from typing import Any

import torch

from fullconv.tracing._paths import same_path
from fullconv.tracing._program import Call, Program, Value
from fullconv.tracing._subject import BATCH, Subject
from fullconv.tracing._sweep import growths

aten = torch.ops.aten

# These mix what lies along the axes that `dim` or `dims` names; all axes, where it names none.
MIXING = frozenset({
    aten.mean, aten.sum, aten.amax, aten.amin, aten.max, aten.min, aten.var, aten.std, aten.var_mean,
    aten.std_mean, aten.prod, aten.logsumexp, aten.linalg_vector_norm, aten.norm, aten.median,
    aten._softmax, aten._log_softmax, aten._safe_softmax, aten.cumsum, aten.cumprod, aten.sort,
    aten.topk, aten.flip, aten.roll,
})  # fmt: skip


def check_images(subject: Subject, base: Program) -> None:
    """Refuse the call that mixes the images of a batch.

    Args:
        subject: The network.
        base: The program on a batch of `BATCH` images.
    """
    try:
        more = subject.record(base.image.shape[2:], batch=BATCH + 1)
    except Exception:  # noqa: BLE001 - a network for batches of a fixed size says so when it is run
        return
    if same_path(base, more):
        return  # a loop over the images
    along = growths(base, more)
    for call in base.calls:
        if _mixes(call, along):
            raise call.refused(
                "it mixes the images of a batch: what one of them gives depends on the others, and "
                "windows that run together are such a batch",
                "normalise each image by itself, or by numbers that are fixed",
            )


def _mixes(call: Call, along: dict[Value, dict[int, int]]) -> bool:
    if call.op.overloadpacket not in MIXING or not call.inputs:
        return False
    image = call.inputs[0]
    given: Any = call.args.get("dim", call.args.get("dims"))
    dims = [given] if isinstance(given, int) else list(given or range(len(image.shape)))
    return any(dim % len(image.shape) in along.get(image, {}) for dim in dims)
