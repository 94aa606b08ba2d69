"""The layers that take the place of what a patch classifier does once for its whole patch."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fullconv.surgery._boxes import box_sum
from fullconv.surgery._steps import every

CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """Slide a Linear on vectors that are flattened maps of `shape` (channels first) over a map."""
    return CONVOLVE[len(shape) - 1](x, weight.reshape(-1, *shape), bias)


class LinearAsConvolution(nn.Module):
    """A Linear whose weight is computed anew for each run, or is another layer's too, as a convolution.

    Args:
        linear: Takes flattened maps of `shape`.
        shape: ``(channels, *sizes)`` of the map.
    """

    def __init__(self, linear: nn.Linear, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.linear, self.shape = linear, shape

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, features, *grid)`` for maps ``(N, channels, *)``."""
        return convolve(x, self.linear.weight, self.linear.bias, self.shape)


class WindowMean(nn.Module):
    """The mean over a window of fixed size, from every position where it fits.

    Args:
        sizes: Positions of the window along each axis over which it runs, by the axis' number.
    """

    def __init__(self, sizes: Mapping[int, int]) -> None:
        super().__init__()
        self.sizes = dict(sizes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the means of ``x``; each axis in `sizes` is shorter by its size less one."""
        for dim, size in self.sizes.items():
            x = box_sum(x, dim, size) / size  # axis by axis, so that half precision holds the sum
        return x

    def extra_repr(self) -> str:
        """Return the sizes for `repr`."""
        return f"sizes={self.sizes}"


class MeanPool3d(nn.AvgPool3d):
    """PyTorch's pooling, in half precision on a CPU too, where PyTorch has none.

    For windows without padding, as global and adaptive pooling become.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the means of windows."""
        if input.device.type != "cpu" or input.dtype.itemsize > 2:
            return super().forward(input)
        windows: Any = zip(self.kernel_size, self.stride, strict=True)  # pyright: ignore[reportArgumentType] (tuples here)
        for dim, (size, step) in enumerate(windows, input.ndim - 3):
            input = every(box_sum(input, dim, size) / size, dim, step)
        return input


class Surrounding(nn.Module):
    """Give each position what was computed of the window around it.

    Of ``x`` there is one position for each window of `shape` positions. Position i of the map gets
    the window that begins `(size - 1) // 2` before it; near the border, where that would reach past
    the map, the outermost window inside. A map of `shape` positions has one window, and all its
    positions get that one.

    Args:
        shape: Positions of a window along each axis but batch and channels.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` repeated outwards; its last axes are longer by the window's size less one."""
        pads: list[int] = []
        for size in reversed(self.shape):
            before = (size - 1) // 2
            pads += [before, size - 1 - before]
        return F.pad(x, pads, mode="replicate")

    def extra_repr(self) -> str:
        """Return the shape for `repr`."""
        return f"shape={self.shape}"


class Rows(nn.Module):
    """Cut every window out and write it as a row, as the patch classifier had it.

    Args:
        sizes: Positions of the window along each axis over which it runs, by the axis' number.
    """

    def __init__(self, sizes: Mapping[int, int]) -> None:
        super().__init__()
        self.sizes = dict(sizes)

    def forward(self, x: Tensor) -> Tensor:
        """Return rows ``(batch * windows, features)`` of ``x``."""
        for dim, size in self.sizes.items():
            x = x.unfold(dim, size, 1)  # the window's positions become the last axis
        dims = sorted(self.sizes)
        taps = {dim: x.ndim - len(dims) + n for n, dim in enumerate(self.sizes)}
        kept = [taps.get(d, d) for d in range(1, x.ndim - len(dims))]
        # A copy whatever the size: what is no copy on small maps would be another path to trace.
        x = x.permute(0, *dims, *kept).clone(memory_format=torch.contiguous_format)
        return x.view(prod(x.shape[: 1 + len(dims)]), -1)

    def extra_repr(self) -> str:
        """Return the sizes for `repr`."""
        return f"sizes={self.sizes}"


class Grid(nn.Module):
    """Put rows back to the places that their windows have.

    Args:
        sizes: Those of the `Rows` that cut the windows out.
    """

    def __init__(self, sizes: Mapping[int, int]) -> None:
        super().__init__()
        self.sizes = dict(sizes)

    def forward(self, rows: Tensor, like: Tensor) -> Tensor:
        """Return ``(batch, *features, *grid)`` of rows ``(batch * windows, *features)``.

        `like` is what the windows were cut out of.
        """
        grid = [like.shape[dim] - size + 1 for dim, size in sorted(self.sizes.items())]
        x = rows.unflatten(0, (like.shape[0], *grid))
        return x.movedim(tuple(range(1, 1 + len(grid))), tuple(range(-len(grid), 0)))

    def extra_repr(self) -> str:
        """Return the sizes for `repr`."""
        return f"sizes={self.sizes}"
