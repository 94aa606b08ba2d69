"""Where a unit of a classifier made convolutional sees more than a cropped patch would hold, and why."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from fullconv.surgery._layers import Surrounding
from fullconv.surgery._local import PADS
from fullconv.surgery._operators import Operator, aten
from fullconv.surgery._rewriting import Call

PADDED = "is padded where the map sees image"
CUT = "ends within the last windows of a pooling in ceil mode, where the map goes on"
OF_ITS_OWN = (
    "has one factor or summand for all its positions, where each position of the map has that of the "
    "window around it"
)


def beside(calls: Sequence[Call], fcn: nn.Module) -> tuple[str, ...]:
    """Return in words what a cropped patch has that a unit of the map has not; nothing if they agree.

    Args:
        calls: Those of the classifier, run on the patch.
        fcn: The network that they became.
    """
    on_maps = [o for c in calls if any(x.kind == "map" for x in c.inputs) for o in c.ops]
    found = {
        PADDED: any(_pads(o) for o in on_maps),
        CUT: any(_is_cut(o) for o in on_maps),
        OF_ITS_OWN: any(isinstance(module, Surrounding) for module in fcn.modules()),
    }
    return tuple(words for words, holds in found.items() if holds)


def _pads(op: Operator) -> bool:
    """Return whether an operator puts positions around its map; a transposed convolution does not."""
    if op.op is aten.convolution.default and op.args["transposed"]:
        return False
    padding = op.args.get(PADS.get(op.op, "padding"))
    return isinstance(padding, list | tuple) and any(n > 0 for n in padding)


def _is_cut(op: Operator) -> bool:
    """Return whether the last window of a pooling reaches past its map and the padding."""
    if not op.args.get("ceil_mode"):
        return False
    kernel, axes = op.args["kernel_size"], len(op.args["kernel_size"])
    settings = (kernel, op.args["stride"] or kernel, op.args["padding"], op.args.get("dilation"))
    windows = zip(*(_each(values, axes) for values in settings), strict=True)
    sizes = op.args["self"].shape[-axes:]
    return any(_reaches_past(size, *window) for size, window in zip(sizes, windows, strict=True))


def _each(values: Sequence[int] | None, axes: int) -> list[int]:
    """Return a setting of a pooling for each axis, as PyTorch takes it."""
    listed = list(values or (1,))
    return listed * axes if len(listed) == 1 else listed


def _reaches_past(size: int, kernel: int, stride: int, padding: int, dilation: int) -> bool:
    last = size + 2 * padding - (kernel - 1) * dilation - 1  # the last start of a window that fits
    more = last // stride * stride + stride
    return (
        last % stride > 0 and more < size + padding
    )  # PyTorch leaves out what begins in the padding
