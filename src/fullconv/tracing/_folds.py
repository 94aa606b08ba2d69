"""Axes folded together: which axes of a value run along the image in mixed order.

A view may fold rows and columns into one axis. Where the one that grows with the image is the outer of
the two, positions stay in order. Where it is the inner one, the axis runs along the image once for each
position of the outer one, and is in order again when another view takes the two apart. Its *folds* are
how many times it does so: more than 1, or `MIXED` where that cannot be told.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import prod

import torch

from fullconv.tracing._program import Call, Value
from fullconv.tracing._reach import groups
from fullconv.tracing._rules_windows import grid_of

aten = torch.ops.aten

MIXED = 0

VIEWS = frozenset({
    aten.view.default, aten._unsafe_view.default, aten.reshape.default,
    aten._reshape_alias.default, aten.view_copy.default,
})  # fmt: skip

Folds = dict[int, int]  # by axis; axes in order are left out
Growth = Mapping[Value, Mapping[int, int]]


def folds_of(call: Call, out: Value, growth: Growth, known: Mapping[Value, Folds]) -> Folds:
    """Return the folds of an output of a call, as far as they divide it into rows of one length.

    Arguments are those of `_folds_by_operator`.
    """
    return {
        dim: times if times and not (out.shape[dim] % times or growth[out][dim] % times) else MIXED
        for dim, times in _folds_by_operator(call, out, growth, known).items()
    }


def _folds_by_operator(
    call: Call, out: Value, growth: Growth, known: Mapping[Value, Folds]
) -> Folds:
    """Return how often each axis of an output of a call runs along the image, by what the call does.

    Args:
        call: The call.
        out: One of its outputs.
        growth: By how much each axis of each value grows with one period of the image.
        known: The folds of the values before.
    """
    if call.op in VIEWS:
        value: Value = call.args["self"]
        sizes = value.shape, out.shape
        return _of_view(sizes, (growth[value], growth[out]), known.get(value, {}))
    if call.op is aten.im2col.default:
        rows, _ = grid_of(call, call.args["self"].shape[2:])
        return (
            dict.fromkeys(growth[out], rows) if 3 in growth[call.args["self"]] and rows > 1 else {}
        )
    if call.op is aten.col2im.default:
        rows, _ = grid_of(call, call.args["output_size"])
        times = set(known.get(call.args["self"], {}).values()) or {1}
        return (
            {} if times == {rows if 3 in growth[out] else 1} else dict.fromkeys(growth[out], MIXED)
        )
    found = {times for value in call.inputs for times in known.get(value, {}).values()}
    if not found:
        return {}
    return dict.fromkeys(growth[out], found.pop() if len(found) == 1 else MIXED)


def _of_view(
    shapes: tuple[Sequence[int], Sequence[int]],
    growing: tuple[Collection[int], Collection[int]],
    folds: Folds,
) -> Folds:
    """Return the folds after a view, from those before; shapes and growing axes are before and after.

    Positions keep their order, so what runs along the image starts inside an axis where as many
    positions lie outside of it after the view as before.
    """
    found: Folds = {}
    for olds, news in groups(*shapes):
        before = [dim for dim in olds if dim in growing[0]]
        after = [dim for dim in news if dim in growing[1]]
        if len(before) != 1 or len(after) != 1 or folds.get(before[0]) == MIXED:
            found |= dict.fromkeys(after, MIXED)
            continue
        outside = prod(shapes[0][d] for d in olds if d < before[0]) * folds.get(before[0], 1)
        times, rest = divmod(outside, prod(shapes[1][d] for d in news if d < after[0]))
        if rest or times != 1:
            found[after[0]] = MIXED if rest else times
    return found
