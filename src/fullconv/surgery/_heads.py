"""The rules by which the calls of a patch classifier become calls on images of any size.

Each rule takes a call and returns its value in the new network, or None where it does not apply; the
first that applies counts. In all of them a *growing* axis is one that runs along the image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from fullconv.surgery._layers import Grid, Surrounding
from fullconv.surgery._local import obstacle
from fullconv.surgery._operators import are_pointwise, are_views, is_spreading
from fullconv.surgery._pools import pooling, viewed
from fullconv.surgery._rewriting import Call, Rewriting, Value, holds_tensors, keeps_axes
from fullconv.surgery._units import by_rows, of_units, unit_of_rows, windows

NO_LARGER = "it does not take a larger image ({}: {})"
NOT_FOLLOWED = (
    "classify patches one by one, or put a layer of a kind that is rewritten in its place"
)


def converted(rewriting: Rewriting, call: Call) -> Value:
    """Return what a call of the classifier becomes.

    Raises:
        SurgeryError: If no rule knows how.
    """
    for rule in RULES:
        value = rule(rewriting, call)
        if value is not None:
            return value
    return _refused(rewriting, call)


def finished(rewriting: Rewriting, call: Call, value: Value) -> Value:
    """Return an answer of the classifier as a map ``(batch, features, *grid)``."""
    if value.kind == "folded":
        call.refuse(
            rewriting, "it ends in a view that folds the spatial axes together", NOT_FOLLOWED
        )
    if value.kind == "flat":
        value = by_rows(rewriting, call, value)
    if value.kind != "rows" or value.grid is None:
        return value
    if value.old.ndim > 2:  # a map of one position for each patch is a map of all of them
        as_map = unit_of_rows(rewriting, call, value)
        if as_map is not None:
            return as_map
    return rewriting.module(
        call, Grid(windows(value.grid)), value, value.grid, kind="unit", beside="grid"
    )


def _without_image(rewriting: Rewriting, call: Call) -> Value | None:
    """Whatever does not depend on the image's content: weights, sizes, items of a tuple."""
    first = call.args[0] if call.args else None
    items = first if isinstance(first, Value) and not first.is_tensor else None
    if call.inputs and holds_tensors(call.old):
        return None
    try:
        if items is None:
            return rewriting.as_it_is(call)
        return rewriting.as_it_is(call, kind=items.kind, grid=items.grid)
    except Exception as error:  # noqa: BLE001 - whatever it does with the sizes of a larger image
        return _refused(rewriting, call, NO_LARGER.format(type(error).__name__, error))


def _view(rewriting: Rewriting, call: Call) -> Value | None:
    """Flattening, and other views: of the same numbers in the same order."""
    if len(call.inputs) != 1 or not isinstance(call.old, Tensor):
        return None
    x = call.inputs[0]
    same_numel = call.old.numel() == x.old.numel()
    if x.kind not in ("map", "folded") or not are_views(call.ops, same_numel=same_numel):
        return None
    if x.kind == "folded" or call.old.ndim == 2:
        return viewed(rewriting, call, x)
    kept = _kept(rewriting, call)
    return kept if isinstance(kept, Value) else viewed(rewriting, call, x)


def _spread(rewriting: Rewriting, call: Call) -> Value | None:
    """What was computed once for a patch, as a factor or summand of all its positions."""
    if not isinstance(call.old, Tensor) or all(x.kind != "map" for x in call.inputs):
        return None
    if is_spreading(call.ops) and isinstance(call.args[0], Value):
        x = _as_map(rewriting, call, call.args[0])
        grown = [d for d in x.axis_of if x.old.shape[d] == 1 and call.old.shape[d] > 1]
        return x if x.kind == "map" and grown else None
    if not are_pointwise(call.ops):
        return None
    changed = {x: _surrounding(rewriting, call, x) for x in call.inputs}
    if all(x is y for x, y in changed.items()):
        return None
    kept = _kept(rewriting, call.replaced(changed))
    return kept if isinstance(kept, Value) else _refused(rewriting, call, kept)


def _surrounding(rewriting: Rewriting, call: Call, x: Value) -> Value:
    """Return a value with one position per patch repeated for the positions around it."""
    x = _as_map(rewriting, call, x)
    grown = {d: call.old.shape[d] for d in x.axis_of if d < call.old.ndim}
    if x.kind != "map" or all(x.new[0].shape[d] == n for d, n in grown.items()):
        return x
    if any(x.new[0].shape[d] not in (1, n) for d, n in grown.items()):
        return x
    if min(grown) < 2 or x.ndim > 5:
        call.refuse(rewriting, "its spatial axes are not the last ones", NOT_FOLLOWED)
    shape = tuple(grown.get(d, 1) if n == 1 else 1 for d, n in enumerate(x.new[0].shape))
    return rewriting.module(call, Surrounding(shape[2:]), x, old=x.old, beside="surrounding")


def _as_map(rewriting: Rewriting, call: Call, x: Value) -> Value:
    """Return rows that are maps of one position as such a map; anything else as it is."""
    return (unit_of_rows(rewriting, call, x) or x) if x.kind == "rows" else x


def _map(rewriting: Rewriting, call: Call) -> Value | None:
    """Calls on maps that make maps of any size."""
    if any(x.kind != "map" for x in call.inputs):
        return None
    kept = _kept(rewriting, call)
    return kept if isinstance(kept, Value) else _refused(rewriting, call, kept)


def _kept(rewriting: Rewriting, call: Call) -> Value | str:
    """Make the same call on maps; if that does not make maps of any size, say why."""
    try:
        value = rewriting.as_it_is(call)
    except Exception as error:  # noqa: BLE001 - whatever the call makes of a larger image
        return NO_LARGER.format(type(error).__name__, error)
    return _no_map(call, value) or obstacle(value.runs, windows=True) or value


def _no_map(call: Call, value: Value) -> str:
    """Return why a value, or one of several, is no map of any size; nothing if all are."""
    items = [tree_leaves(values) for values in (value.old, *value.new)]
    if len({len(tensors) for tensors in items}) > 1:
        return "on a larger image it makes more tensors"
    for old, *new in zip(*items, strict=True):
        if isinstance(old, Tensor):
            why = _no_map_of_any_size(call, replace(value, old=old, new=tuple(new)))
            if why:
                return why
    return ""


def _no_map_of_any_size(call: Call, value: Value) -> str:
    if value.new[0].shape != value.old.shape:
        return "it makes another shape of a map than of what the classifier has"
    axes = {axis for x in call.inputs for axis in x.axis_of.values()}
    if value.growing_dims.keys() != axes or any(len(d) > 1 for d in value.growing_dims.values()):
        return "on a larger image it makes no larger map"
    if len(set(value.axis_of)) != len(axes):
        return "it folds spatial axes together"
    if are_views(call.ops, same_numel=False) and not keeps_axes(call.inputs[0], value):
        return "it folds a spatial axis with another"
    return ""


def _refused(rewriting: Rewriting, call: Call, why: str = "") -> Any:
    kinds = {x.kind for x in call.inputs}
    if "folded" in kinds:
        why = "it works on a view in which the spatial axes are folded together"
    elif "map" in kinds and len(kinds) > 1:
        why = "it mixes the map with what was computed for each patch as a whole"
    call.refuse(rewriting, why or "no rule knows it", NOT_FOLLOWED)


RULES: tuple[Callable[[Rewriting, Call], Value | None], ...] = (
    _without_image,
    pooling,
    _view,
    of_units,
    _spread,
    _map,
)
