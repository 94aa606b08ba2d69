"""Gradients that are known already, added up and handed to autograd."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Return the gradient of each input; None for those that the outputs do not depend on."""
    return torch.autograd.grad(outputs, inputs, grad_outputs, allow_unused=True)


def add_up(sums: list[Tensor | None], grads: Sequence[Tensor | None]) -> None:
    """Add gradients to those so far, in place."""
    for position, grad in enumerate(grads):
        known = sums[position]
        if grad is not None:
            sums[position] = grad if known is None else known.add_(grad)
