"""What a dense network does with neighbouring positions, one step for each such call.

A step runs in two ways that give the same numbers. *Dilated*: on the dense map, whose windows read
positions `dilation` apart. On *fragments*: on the maps of which the dense one is interleaved, each of
which is read as the network itself reads its map.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._guards import detect_fake_mode

from fullconv.surgery._boxes import box_max, box_sum, first_max
from fullconv.surgery._spacing import Plan

MAX_POOLS: dict[int, Any] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
CONVOLVE: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}

# What a mean divides by: all positions of its window; those inside the padding; those inside the map.
Divisor = Literal["window", "padded", "map"]
LOWEST = -torch.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Taps:
    """What a window reads along one axis of the map that it is given."""

    kernel: int
    stride: int
    dilation: int
    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One call that reads neighbouring positions.

    Attributes:
        plans: What it does along each axis of its map, by the axis' number.
        axis_of: The spatial axis of the image along which each axis of its map runs.
    """

    plans: Mapping[int, Plan]
    axis_of: Mapping[int, int]

    @property
    def reads_padding(self) -> bool:
        """Whether some window reads behind the map."""
        return any(p.window.most_after > 0 for p in self.plans.values())

    def taps(self, *, dilated: bool) -> dict[int, Taps]:
        """Return what the windows read, on the dense map or on its fragments."""
        found: dict[int, Taps] = {}
        for d, p in self.plans.items():
            by = p.spacing.dilation if dilated else 1
            found[d] = Taps(
                kernel=p.window.kernel,
                stride=p.stride,
                dilation=p.window.dilation * by,
                before=p.window.before * by,
                after=p.window.most_after * by,
            )
        return found


class Maximum(nn.Module):
    """Maxima of windows."""

    fill = LOWEST

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        """Return the maxima in the dense map ``x``."""
        return self.run(x, self.step.taps(dilated=True))

    def run(self, x: Tensor, taps: Mapping[int, Taps]) -> Tensor:
        """Return the maxima of what windows read.

        On a CPU PyTorch's pooling takes up to twenty times as long as maxima of neighbours, axis by
        axis, and with their gradients three to six times, unless channels are kept together.
        """
        if x.device.type == "cpu" and not (torch.is_grad_enabled() and x.requires_grad):
            x = padded(x, taps, LOWEST)
            for d, t in taps.items():
                x = every(box_max(x, d, t.kernel, t.dilation), d, t.stride)
            return x
        if _gains_by_axes(x, taps):
            x = padded(x, taps, LOWEST)
            for d, t in sorted(taps.items(), reverse=True):
                x = first_max(x, d, t.kernel, t.dilation)
            return x
        native = all(t.before == t.after <= t.kernel // 2 for t in taps.values())
        settings = [(t.kernel, t.stride, t.before * native, t.dilation) for t in _all(x, taps)]
        kernel, stride, padding, dilation = zip(*settings, strict=True)
        x = x if native else padded(x, taps, LOWEST)
        return MAX_POOLS[x.ndim - 2](x, kernel, stride, padding, dilation)

    def extra_repr(self) -> str:
        """Return the windows for `repr`."""
        return _listed(self.step)


class Mean(nn.Module):
    """Means of windows.

    Args:
        step: What it reads.
        divisor: What it divides by; or a number.
    """

    fill = 0.0

    def __init__(self, step: Step, divisor: Divisor | int) -> None:
        super().__init__()
        self.step, self.divisor = step, divisor

    def forward(self, x: Tensor) -> Tensor:
        """Return the means in the dense map ``x``."""
        return self.run(x, self.step.taps(dilated=True), x.new_ones(1, 1, *x.shape[2:]))

    def run(self, x: Tensor, taps: Mapping[int, Taps], there: Tensor) -> Tensor:
        """Return the means of what windows read.

        Args:
            x: A map.
            taps: What the windows read.
            there: 1 where the map is, and 0 where a fragment has ended already.
        """
        total = _summed(padded(x, taps, 0.0), taps)
        if isinstance(self.divisor, int):
            return total / self.divisor
        if self.divisor == "window":
            size = 1
            for t in taps.values():
                size *= t.kernel
            return total / size
        if self.divisor == "padded":
            own = {d: (t.before, t.after - self._beyond(d, t)) for d, t in taps.items()}
            beyond = {d: (0, self._beyond(d, t)) for d, t in taps.items()}
            counted = _pad(_pad(there, own, 1.0), beyond, 0.0)
        else:
            counted = padded(there, taps, 0.0)
        return total / _summed(counted, taps)

    def _beyond(self, dim: int, taps: Taps) -> int:
        """Return how far windows reach behind the padding."""
        window = self.step.plans[dim].window
        return (window.most_after - window.after) * (taps.dilation // window.dilation)

    def extra_repr(self) -> str:
        """Return the windows for `repr`."""
        return f"{_listed(self.step)}, divisor={self.divisor}"


class Pad(nn.Module):
    """Positions before and behind a map; cropped where the numbers are negative.

    Args:
        step: Its windows read one position each.
        fill: What the new positions hold: a number, or ``reflect`` or ``replicate``.
    """

    def __init__(self, step: Step, mode: float | str) -> None:
        super().__init__()
        self.step, self.mode = step, mode

    @property
    def fill(self) -> float:
        """What positions hold where a fragment has ended."""
        return 0.0 if isinstance(self.mode, str) else self.mode

    @property
    def copies_within_fragments(self) -> bool:
        """Whether it pads with positions of the map that lie apart."""
        apart = any(p.spacing.dilation > 1 for p in self.step.plans.values())
        return apart and isinstance(self.mode, str)

    def forward(self, x: Tensor) -> Tensor:
        """Return the dense map ``x``, padded."""
        return self.run(x, self.step.taps(dilated=True))

    def run(self, x: Tensor, taps: Mapping[int, Taps]) -> Tensor:
        """Return the map padded or cropped, and strided.

        What is copied on a dense map is copied on fragments too, unless it lies apart there.
        """
        if isinstance(self.mode, str):
            for d, p in self.step.plans.items():
                x = x.index_select(d, copied(x.shape[d], p, self.mode).to(x.device))
            return x
        x = padded(x, taps, self.mode)
        for d, t in taps.items():
            x = every(x, d, t.stride)
        return x

    def extra_repr(self) -> str:
        """Return the windows for `repr`."""
        return f"{_listed(self.step)}, mode={self.mode}"


class Convolution(nn.Module):
    """A convolution whose weight is computed anew for each run.

    Args:
        step: What it reads.
        conv: The layer that computes the weight.
    """

    def __init__(self, step: Step, conv: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        self.step, self.conv = step, conv

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of the dense map ``x``."""
        return self.run(x, self.step.taps(dilated=True))

    def run(self, x: Tensor, taps: Mapping[int, Taps]) -> Tensor:
        """Return the convolution of what windows read."""
        return convolve(x, self.conv.weight, self.conv.bias, taps, self.conv.groups)

    def extra_repr(self) -> str:
        """Return the windows for `repr`."""
        return _listed(self.step)


def _gains_by_axes(x: Tensor, taps: Mapping[int, Taps]) -> bool:
    """Return whether maxima with their gradient are faster axis by axis than PyTorch's pooling.

    Not where the operators are written down, for which pooling is one.
    """
    if x.device.type != "cpu" or detect_fake_mode(x) or torch.compiler.is_compiling():
        return False
    return x.is_contiguous() and all(t.stride == 1 for t in taps.values())


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, taps: Mapping[int, Taps], groups: int
) -> Tensor:
    """Return a convolution of a map; padding is the same on both sides."""
    settings = [(t.stride, t.before, t.dilation) for t in _all(x, taps)]
    stride, padding, dilation = zip(*settings, strict=True)
    return CONVOLVE[x.ndim - 2](x, weight, bias, stride, padding, dilation, groups)


def copied(size: int, plan: Plan, mode: str) -> Tensor:
    """Return the positions of a dense map that its padding by reflection or replication copies.

    Every fragment is padded with what it holds itself: position ``y = q * dilation + r`` is the q-th of
    fragment r, which has as many as fit.
    """
    by = plan.spacing.dilation
    place = torch.arange(-plan.window.before * by, size + plan.window.after * by)
    q, r = torch.div(place, by, rounding_mode="floor"), place % by
    last = torch.div(size - 1 - r, by, rounding_mode="floor")
    inside = last - (last - q.abs()).abs() if mode == "reflect" else q.clamp(min=0).minimum(last)
    return inside * by + r


def padded(x: Tensor, taps: Mapping[int, Taps], value: float) -> Tensor:
    """Return a map with the padding that windows read."""
    return _pad(x, {d: (t.before, t.after) for d, t in taps.items()}, value)


def _pad(x: Tensor, pads: Mapping[int, tuple[int, int]], value: float) -> Tensor:
    if not any(any(pair) for pair in pads.values()):
        return x
    flat: list[int] = []
    for d in range(x.ndim - 1, min(pads) - 1, -1):
        flat += pads.get(d, (0, 0))
    return F.pad(x, flat, value=value)


def _summed(x: Tensor, taps: Mapping[int, Taps]) -> Tensor:
    for d, t in taps.items():
        x = every(box_sum(x, d, t.kernel, t.dilation), d, t.stride)
    return x


def every(x: Tensor, dim: int, step: int) -> Tensor:
    """Return every `step`-th position along an axis."""
    return x[(*[slice(None)] * dim, slice(None, None, step))] if step > 1 else x


def _all(x: Tensor, taps: Mapping[int, Taps]) -> list[Taps]:
    """Return the taps along every spatial axis of a map."""
    idle = Taps(kernel=1, stride=1, dilation=1, before=0, after=0)
    return [taps.get(d, idle) for d in range(2, x.ndim)]


def _listed(step: Step) -> str:
    """Return the taps for `repr`, as PyTorch's layers show theirs."""
    taps = step.taps(dilated=True).values()
    shown = {
        "kernel_size": [t.kernel for t in taps],
        "stride": [t.stride for t in taps],
        "dilation": [t.dilation for t in taps],
        "padding": [(t.before, t.after) for t in taps],
    }
    idle = {"kernel_size": 1, "stride": 1, "dilation": 1, "padding": (0, 0)}
    told = {key: tuple(v) for key, v in shown.items() if any(one != idle[key] for one in v)}
    return ", ".join(f"{key}={value}" for key, value in told.items())
