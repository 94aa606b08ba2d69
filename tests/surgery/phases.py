"""The witness of dense networks: the network itself, run with other phases of its strides.

A layer with stride s takes the windows that start at 0, s, 2 s, ... of its padded map. Here it can be made
to take those at r, r + s, ... instead, by cropping the padded map by r. Run with all phases of all
strides, plain PyTorch gives every unit of the dense map, on plain strided layers without dilation.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

CONVOLUTIONS = {F.conv1d, F.conv2d, F.conv3d}
MAXIMA = {
    F.max_pool1d, F.max_pool2d, F.max_pool3d, torch.max_pool1d, torch.max_pool2d, torch.max_pool3d,
}  # fmt: skip
MEANS = {F.avg_pool1d, F.avg_pool2d, F.avg_pool3d}


def _listed(value: Any, axes: int) -> list[int]:
    return (
        [value] * axes if isinstance(value, int) else list(value) * (axes if len(value) == 1 else 1)
    )


class Phases(TorchFunctionMode):
    """Runs networks with the phases that belong to an image moved by some px.

    Args:
        shift: Px along each axis, less than the network's stride.
    """

    def __init__(self, shift: tuple[int, ...]) -> None:
        super().__init__()
        self.shift = shift

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [
            a for a in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(a, Tensor)
        ]
        apart = [t.apart for t in tensors if hasattr(t, "apart")]
        if func in CONVOLUTIONS | MAXIMA | MEANS and hasattr(args[0], "apart"):
            y, strides = self._window(func, args, kwargs)
            y.apart = tuple(a * s for a, s in zip(args[0].apart, strides, strict=True))
            return y
        if getattr(func, "__name__", "") == "__getitem__" and apart and isinstance(args[1], tuple):
            return self._sliced(*args)
        y = func(*args, **kwargs)
        if apart and isinstance(y, Tensor):
            assert len(set(apart)) == 1
            y.apart = apart[0]
        return y

    def _sliced(self, x: Tensor, index: tuple[Any, ...]) -> Tensor:
        steps = [part.step or 1 if isinstance(part, slice) else 1 for part in index]
        steps += [1] * (x.ndim - len(steps))
        inside = tuple(slice(p.start, p.stop) if isinstance(p, slice) else p for p in index)
        y = x[inside]
        phases = [(c // a) % s for c, a, s in zip(self.shift, x.apart, steps[2:], strict=True)]
        y = y[(..., *(slice(r, None, s) for r, s in zip(phases, steps[2:], strict=True)))]
        y.apart = tuple(a * s for a, s in zip(x.apart, steps[2:], strict=True))
        return y

    def _window(self, func: Any, args: Any, kwargs: Any) -> tuple[Tensor, list[int]]:
        x: Tensor = args[0]
        axes = x.ndim - 2
        names = {
            **dict.fromkeys(CONVOLUTIONS, ("input", "weight", "bias", "stride", "padding", "dilation", "groups")),
            **dict.fromkeys(MAXIMA, ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")),
            **dict.fromkeys(MEANS, ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")),
        }[func]  # fmt: skip
        named = dict(zip(names, args, strict=False)) | kwargs
        if func in CONVOLUTIONS:
            kernel = list(named["weight"].shape[2:])
        else:
            kernel = _listed(named["kernel_size"], axes)
        stride = named.get("stride")
        stride = _listed(stride or (1 if func in CONVOLUTIONS else kernel), axes)
        dilation = _listed(named.get("dilation", 1), axes)
        padding = named.get("padding", 0)
        if isinstance(padding, str):
            reach = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
            pads = [(r // 2, r - r // 2) if padding == "same" else (0, 0) for r in reach]
        else:
            pads = [(p, p) for p in _listed(padding, axes)]
        boxes = [
            self._axis(x.shape[2 + n], kernel[n], stride[n], dilation[n], *pads[n],
                       bool(named.get("ceil_mode")), (self.shift[n] // x.apart[n]) % stride[n])
            for n in range(axes)
        ]  # fmt: skip
        plain = x.as_subclass(Tensor) if not isinstance(x, Tensor) else x
        if func in CONVOLUTIONS:
            wide = _moved(plain, boxes, 0.0)
            y = func(
                wide,
                named["weight"],
                named.get("bias"),
                stride,
                0,
                dilation,
                named.get("groups", 1),
            )
            return y, stride
        if func in MAXIMA:
            pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[axes]
            return pool(_moved(plain, boxes, -torch.inf), kernel, stride, 0, dilation), stride
        pool = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[axes]
        total = pool(_moved(plain, boxes, 0.0), kernel, stride, 0)
        counted = torch.ones_like(plain)
        if named.get("count_include_pad", True):
            flat = [p for pair in reversed(pads) for p in pair]
            counted = F.pad(counted, flat, value=1.0)
            boxes = [(a - pair[0], b - pair[1]) for (a, b), pair in zip(boxes, pads, strict=True)]
        if named.get("divisor_override"):
            size = torch.Size(kernel).numel()
            return total * size / named["divisor_override"], stride
        return total / pool(_moved(counted, boxes, 0.0), kernel, stride, 0), stride

    @staticmethod
    def _axis(
        size: int,
        kernel: int,
        stride: int,
        dilation: int,
        before: int,
        after: int,
        ceil: bool,
        phase: int,
    ) -> tuple[int, int]:
        """Return how much to pad (or to crop) before and behind, for windows from `phase` on."""
        reach = (kernel - 1) * dilation
        last = size + before + after - 1 - reach  # the last start of a window that fits
        starts = list(range(phase, last + 1, stride))
        if ceil and last - phase >= 0 and (last - phase) % stride:
            starts.append(starts[-1] + stride)
        if ceil and last < phase <= last + stride - 1:
            starts.append(phase)
        starts = [s for s in starts if not ceil or s < size + before]
        if not starts:
            raise IndexError("no window fits")
        end = starts[-1] + reach + 1  # in the padded map
        return before - phase, end - before - size


def _moved(x: Tensor, boxes: list[tuple[int, int]], value: float) -> Tensor:
    """Pad or crop each spatial axis."""
    flat = [n for pair in reversed(boxes) for n in pair]
    return F.pad(x, flat, value=value)


def dense_reference(
    net: nn.Module, image: Tensor, stride: tuple[int, ...], target: int = 1
) -> Tensor:
    """Return the dense map: for every shift the network with the phases of that shift, interleaved."""
    found: dict[tuple[int, ...], Tensor] = {}
    for shift in product(*(range(0, s, target) for s in stride)):
        marked = image.clone() if not image.requires_grad else image * 1
        marked.apart = (1,) * len(stride)
        try:
            with Phases(shift):
                found[shift] = net(marked)
        except (IndexError, RuntimeError) as error:
            if "no window" not in str(error) and "too small" not in str(error):
                raise
    first = found[(0,) * len(stride)]
    sizes = []
    for n in range(len(stride)):
        along = [
            y.shape[2 + n] for shift, y in found.items() if not any(shift[:n] + shift[n + 1 :])
        ]
        sizes.append(sum(along))
    dense = first.new_zeros((*first.shape[:2], *sizes))
    for shift, y in found.items():
        place = tuple(
            slice(a // target, None, s // target) for a, s in zip(shift, stride, strict=True)
        )
        dense[(..., *place)] = y
    return dense
