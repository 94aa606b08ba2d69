"""Gradients that are known already, added up and handed to autograd."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fullconv.errors import FullconvError


class _Handed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Tensor, grads: Sequence[Tensor | None], *_leaves: Tensor) -> Tensor:
        ctx.grads = grads
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        refuse_graph()
        factor = outputs[0]
        grads = (None if grad is None else grad * factor.to(grad) for grad in ctx.grads)
        return None, None, *grads


def refuse_graph() -> None:
    """Raise in a backward pass that is to be differentiated itself: of windows no graph is kept."""
    if torch.is_grad_enabled():
        raise FullconvError(
            "`create_graph` must be False, got True: windows keep no graph of their gradients; for "
            "gradients of gradients, take the network itself"
        )


def handed(loss: Tensor, leaves: Sequence[Tensor], grads: Sequence[Tensor | None]) -> Tensor:
    """Return the loss, with these gradients for these leaves; None stands for no gradient at all."""
    return _Handed.apply(loss, grads, *leaves)  # pyright: ignore[reportReturnType] (untyped)


def gradients(
    outputs: Tensor | Sequence[Tensor],
    inputs: Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
) -> Sequence[Tensor | None]:
    """Return the gradient of each input; None for those that the outputs do not depend on.

    Hooks of the inputs are left for the sum of such gradients, which autograd is handed.
    """
    with _without_hooks(inputs):
        return torch.autograd.grad(outputs, inputs, grad_outputs, allow_unused=True)


# Powers of two by which the loss of a window is multiplied while its gradients are of float16, the
# largest first: whatever the loss is scaled by later, small ones would have become 0 by then.
BOOSTS = (2.0**16, 2.0**12, 2.0**8, 2.0**4, 1.0)


def boosted_gradients(loss: Tensor, inputs: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """Return the gradient of each input, computed by way of float16 without becoming 0 or infinite."""
    found: Sequence[Tensor | None] = []
    for boost in BOOSTS:
        with _without_hooks(inputs):
            found = torch.autograd.grad(
                loss * boost, inputs, allow_unused=True, retain_graph=boost != BOOSTS[-1]
            )
        if all(grad is None or grad.isfinite().all() for grad in found):  # pyright: ignore[reportUnnecessaryComparison] (may be None)
            return [None if grad is None else grad / boost for grad in found]  # pyright: ignore[reportUnnecessaryComparison] (may be None)
    return found


@contextmanager
def _without_hooks(tensors: Sequence[Tensor]) -> Generator[None]:
    """Keep the hooks of some tensors from being called."""
    hooks: list[dict[int, Any]] = [t._backward_hooks for t in tensors if t._backward_hooks]
    kept = [dict(each) for each in hooks]
    for each in hooks:
        each.clear()
    try:
        yield
    finally:
        for each, were in zip(hooks, kept, strict=True):
            each.update(were)


class Sums:
    """Sums of gradients, one for each of some leaves; None for those that have none.

    Gradients that autograd gives may share memory with each other, or be expanded. Only what was summed
    here is added to in place.

    Args:
        count: How many leaves there are.
    """

    def __init__(self, count: int) -> None:
        self.found: list[Tensor | None] = [None] * count
        self._own = [False] * count

    def add(self, grads: Sequence[Tensor | None]) -> None:
        """Add a gradient for each leaf."""
        for position, grad in enumerate(grads):
            known = self.found[position]
            if grad is None:
                continue
            if known is None:
                self.found[position] = grad
            elif self._own[position]:
                known.add_(grad)
            else:
                self.found[position], self._own[position] = known + grad, True
