"""Sums and maxima over boxes of positions, in time that grows with the logarithm of the box."""

from __future__ import annotations

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
