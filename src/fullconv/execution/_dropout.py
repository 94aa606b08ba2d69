"""Dropout whose masks belong to positions of the whole image, so that overlapping windows agree.

Whether a number is dropped follows from the seed of the step, the call of dropout within the network,
the image, the channel and the position, by a hash; not from the order in which windows run. So a
step drops the same numbers whatever its cover is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fullconv.errors import FullconvError
from fullconv.geometry import Window
from fullconv.tracing import record

# Each number for itself; and whole channels.
ELEMENTS = frozenset({F.dropout})
CHANNELS = frozenset({F.dropout1d, F.dropout2d, F.dropout3d})

WHY = "draws random numbers, which would differ between windows that see the same position"
REMEDIES = ("put it into eval mode", "use dropout in its place", "use whole images only")

# Odd constants of 64 bits as signed numbers: of the hash (splitmix64), of channel and axes.
_MIX = (-4658895280553007687, -7723592293110705685)
_STEPS = (-7046029254386353131, 2862933555777941757, 3202034522624059733, 3935559000370003845)
_MASK = (1 << 64) - 1


# What makes dropout agree between the windows of a step, for each batch of them.
Agreement = Callable[[Iterable[tuple[int, Window]]], AbstractContextManager[Any]]


def none_needed(windows: Iterable[tuple[int, Window]]) -> AbstractContextManager[Any]:
    """Leave dropout as it is."""
    del windows
    return nullcontext()


@dataclass(frozen=True, slots=True)
class Drops:
    """The dropouts of a network, those that do nothing now too: that may change from step to step.

    Attributes:
        rates: For each call, the positions of its tensor per px along each axis; None for one that
            drops whole channels.
    """

    rates: tuple[tuple[Fraction, ...] | None, ...]


def drops_of(net: nn.Module, channels: int, low: tuple[int, ...], high: tuple[int, ...]) -> Drops:
    """Return the dropouts of a network, from runs on images of two shapes without numbers.

    Raises:
        NotLocalError: If it draws random numbers in another way.
    """
    seen: list[list[tuple[int, ...] | None]] = []
    for shape in (low, high):
        watch = _Watch(len(low))
        with watch:
            program = record(net, channels, shape)
        for call in program.calls:
            if torch.Tag.nondeterministic_seeded in call.op.tags:
                raise call.refused(WHY, *REMEDIES)
        seen.append(watch.shapes)
    spans = [b - a for a, b in zip(low, high, strict=True)]
    rates = [
        None
        if first is None or second is None
        else tuple(Fraction(b - a, d) for a, b, d in zip(first, second, spans, strict=True))
        for first, second in zip(*seen, strict=True)
    ]
    return Drops(tuple(rates))


def new_seed() -> int:
    """Return a seed for one step, from the global random numbers."""
    return int(torch.randint(2**62, (1,)))


class Agreed(TorchFunctionMode):
    """Within it, dropout on a batch of windows drops by position.

    Args:
        drops: The dropouts of the network.
        seed: Of the step.
        windows: For each window of the batch, the number of its image within the step, and itself.
    """

    def __init__(self, drops: Drops, seed: int, windows: Iterable[tuple[int, Window]]) -> None:
        super().__init__()
        self._drops, self._seed, self._windows = drops, seed, list(windows)
        self._calls, self._axes = count(), len(self._windows[0][1].reads.start)

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        if func in ELEMENTS | CHANNELS:
            image, p = _active(*args, **kwargs)
            call = next(self._calls) if image.ndim == 2 + self._axes else None
            if p and _computed_again():
                raise FullconvError(
                    "`net` must not run dropout inside activation checkpointing where images are cut "
                    "into windows, since backward would drop other numbers: take dropout out of the "
                    "checkpointed part, or give more `memory`"
                )
            if p and call is not None:
                return image * self._kept(image, p, call) / (1 - p)
        return func(*args, **kwargs)

    def _kept(self, batch: Tensor, p: float, call: int) -> Tensor:
        """Return which numbers stay, 1 or 0, in a shape that goes with the batch's."""
        rates = self._drops.rates[call]
        axes = self._axes
        kept: list[Tensor] = []
        for image, window in self._windows:
            start = _mixed(_mixed(self._seed + call) + image)
            places = [torch.arange(batch.shape[1], device=batch.device)]
            for k in range(axes if rates else 0):
                assert rates
                first = int(window.reads.start[k] * rates[k])
                places.append(torch.arange(first, first + batch.shape[2 + k], device=batch.device))
            total: Tensor = torch.full((), start, dtype=torch.int64, device=batch.device)
            for position, (place, step) in enumerate(zip(places, _STEPS, strict=False)):
                shape = [-1 if n == position else 1 for n in range(len(places))]
                total = total + (place * step).view(shape)
            drawn = _shifted(_hashed(total), 11)  # 53 bits
            kept.append(
                (drawn >= int(p * 2**53)).view(*drawn.shape, *(1,) * (0 if rates else axes))
            )
        return torch.stack(kept).to(batch.dtype)


class _Watch(TorchFunctionMode):
    """Notes the shapes that dropout is called on, and leaves it out."""

    def __init__(self, axes: int) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...] | None] = []
        self._axes = axes

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        if func in ELEMENTS | CHANNELS:
            image, p = _active(*args, **kwargs)
            if image.ndim == 2 + self._axes:
                self.shapes.append(tuple(image.shape[2:]) if func in ELEMENTS else None)
                return image
            if not p:
                return image
        return func(*args, **kwargs)


def _active(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> tuple[Tensor, float]:
    """Return the tensor that dropout is called on, and its probability; 0 where it does nothing."""
    del inplace
    return input, p if training and 0 < p < 1 else 0.0


def _computed_again() -> bool:
    """Return whether what runs now is run again in backward: checkpointing saves through hooks."""
    return torch._C._autograd._top_saved_tensors_default_hooks(False) is not None  # pyright: ignore[reportAttributeAccessIssue]


def _hashed(z: Tensor) -> Tensor:
    z = (z ^ _shifted(z, 30)) * _MIX[0]
    z = (z ^ _shifted(z, 27)) * _MIX[1]
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Return the numbers shifted to the right, zeros coming in: integers of PyTorch have a sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mixed(z: int) -> int:
    """Return the hash of one number, as a signed one."""
    return int(
        _hashed(torch.tensor((z + _STEPS[0] & _MASK) - ((z + _STEPS[0] & _MASK) >> 63 << 64)))
    )
