"""Sums and maxima over boxes of positions, axis by axis."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def box_sum(x: Tensor, dim: int, size: int, dilation: int = 1) -> Tensor:
    """Return the sums of `size` positions, `dilation` apart, from every position where they fit.

    Sums of 1, 2, 4, ... positions are doubled by adding them to themselves, moved: about 2 log2(size)
    additions for each position, instead of `size`.

    Args:
        x: Of any shape.
        dim: The axis.
        size: Positions in a sum, at least 1.
        dilation: Positions between them.

    Examples:
        >>> import torch
        >>> box_sum(torch.arange(6), 0, 3).tolist()
        [3, 6, 9, 12]
    """
    num_sums = x.shape[dim] - (size - 1) * dilation
    total, place = None, 0  # `place` positions are in `total` already
    doubled, width = x, 1
    while True:
        if size & width:
            part = doubled.narrow(dim, place * dilation, num_sums)
            total = part if total is None else total + part
            place += width
        if place == size:
            assert total is not None
            return total
        step = width * dilation
        left = doubled.shape[dim] - step
        doubled = doubled.narrow(dim, 0, left) + doubled.narrow(dim, step, left)
        width *= 2


def box_max(x: Tensor, dim: int, size: int, dilation: int = 1) -> Tensor:
    """Return the maxima of `size` positions, `dilation` apart, from every position where they fit.

    Arguments are those of `box_sum`.

    Examples:
        >>> import torch
        >>> box_max(torch.tensor([3, 1, 2, 0, 5]), 0, 3).tolist()
        [3, 2, 5]
    """
    width = 1
    while width < size:  # a maximum may count a position twice
        step = min(width, size - width)
        left = x.shape[dim] - step * dilation
        x = torch.maximum(x.narrow(dim, 0, left), x.narrow(dim, step * dilation, left))
        width += step
    return x


def first_max(x: Tensor, dim: int, size: int, dilation: int = 1) -> Tensor:
    """Return what `box_max` does, with the gradient of pooling: it goes to the first of equal positions.

    Taken last axis first, boxes of several axes hand it to the position that PyTorch's pooling picks.
    Costs `size` - 1 comparisons for each maximum, of which it keeps the results.

    Arguments are those of `box_sum`.

    Examples:
        >>> import torch
        >>> x = torch.tensor([3.0, 1.0, 2.0, 2.0, 5.0], requires_grad=True)
        >>> first_max(x, 0, 2).sum().backward()
        >>> x.grad.tolist()
        [1.0, 0.0, 2.0, 0.0, 1.0]
    """
    if size == 1:
        return x
    return _FirstMax.apply(x, dim, size, dilation)[0]  # type: ignore[no-untyped-call]


class _FirstMax(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, dim: int, size: int, dilation: int) -> tuple[Tensor, ...]:
        """Return the maxima, and for each position but the first whether it is above those before."""
        num_boxes = x.shape[dim] - (size - 1) * dilation
        best, above = x.narrow(dim, 0, num_boxes), list[Tensor]()
        for i in range(1, size):
            other = x.narrow(dim, i * dilation, num_boxes)
            above.append(other.clone().gt_(best))  # 1 and 0: PyTorch multiplies by these faster
            best = torch.maximum(best, other)
        return best, *above

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep what backward needs."""
        x, ctx.dim, _, ctx.dilation = inputs
        ctx.length = x.shape[ctx.dim]
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return the gradient of the map: each maximum's at the last position that was above."""
        left = gradients[0]
        if left is None:
            return None, None, None, None
        num_boxes = left.shape[ctx.dim]
        shape = list(left.shape)
        shape[ctx.dim] = ctx.length
        found = left.new_zeros(shape)
        for i, above in reversed(list(enumerate(ctx.saved_tensors, 1))):
            taken = left * above
            found.narrow(ctx.dim, i * ctx.dilation, num_boxes).add_(taken)
            left = left - taken
        found.narrow(ctx.dim, 0, num_boxes).add_(left)
        return found, None, None, None
