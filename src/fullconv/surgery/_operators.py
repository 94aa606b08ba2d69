"""The operators behind one call of a network, whichever way it is written.

``nn.AdaptiveAvgPool2d(1)``, ``F.adaptive_avg_pool2d(x, 1)`` and ``x.mean((2, 3), keepdim=True)`` are one
operator of PyTorch. They are run on tensors without numbers and written down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fullconv.tracing import is_pointwise

aten = torch.ops.aten

# They show the same numbers in the same order under another shape, or a copy of them.
VIEWS = frozenset({
    aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.alias.default,
    aten._reshape_alias.default, aten.detach.default, aten.clone.default, aten.lift_fresh.default,
    aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims, aten.unsqueeze.default,
    aten.as_strided_.default,  # how a pooling to one position keeps channels_last
})  # fmt: skip
# Where they take all there is, they do as well.
SLICES = frozenset({aten.slice.Tensor, aten.select.int})
MEANS = frozenset({
    aten.mean.dim, aten._adaptive_avg_pool2d.default, aten._adaptive_avg_pool3d.default,
    aten.adaptive_avg_pool1d.default,
    aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default,
})  # fmt: skip
MAXIMA = frozenset({
    aten.amax.default, aten.adaptive_max_pool2d.default, aten.adaptive_max_pool3d.default,
    aten.max_pool2d_with_indices.default, aten.max_pool3d_with_indices.default,
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator as it was run: itself, and its arguments by name with defaults filled in."""

    op: Any
    args: dict[str, Any]

    @property
    def is_pointwise(self) -> bool:
        """Whether each position of its result depends on the same position of each input alone."""
        name = self.op._schema.name.split("::")[1]
        plain = getattr(aten, name[:-1], None) if name.endswith("_") else None  # in place
        ops = [getattr(plain, name) for name in plain.overloads()] if plain else [self.op]
        return any(is_pointwise(op) for op in ops)


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Operator] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        named = {a.name: a.default_value for a in func._schema.arguments if a.has_default_value()}
        named |= dict(zip((a.name for a in func._schema.arguments), args, strict=False))
        self.found.append(Operator(op=func, args=named | (kwargs or {})))
        run: Callable[..., Any] = SHORTCUTS.get(func) or func
        return run(*args, **(kwargs or {}))


def _normalized(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty(0), x.new_empty(0)


# On tensors without numbers PyTorch takes ten milliseconds for one.
SHORTCUTS: dict[Any, Callable[..., Any]] = {aten.native_batch_norm.default: _normalized}


def operators(run: Callable[[], Any]) -> tuple[Any, tuple[Operator, ...]]:
    """Return what a call returns, and the operators that it ran."""
    with torch.no_grad(), _Recorder() as recorder:
        result = run()
    return result, tuple(recorder.found)


def are_views(found: Sequence[Operator], *, same_numel: bool) -> bool:
    """Return whether operators do nothing but show the same numbers under another shape."""
    return all(o.op in VIEWS or (same_numel and o.op in SLICES) for o in found)


def are_pointwise(found: Sequence[Operator]) -> bool:
    """Return whether operators work on each position by itself (or do nothing)."""
    return all(o.is_pointwise for o in found)


def is_spreading(found: Sequence[Operator]) -> bool:
    """Return whether operators repeat a single position over an axis, as ``expand_as`` does."""
    return bool(found) and all(o.op is aten.expand.default for o in found)
