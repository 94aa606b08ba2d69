"""The table of a network's layers: the field and stride of each that changes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import nn

from fullconv.geometry import Geometry
from fullconv.tracing._program import Call, Value
from fullconv.tracing._reach import NOTHING
from fullconv.tracing._subject import Subject
from fullconv.tracing._sweep import State, follow
from fullconv.tracing._trace import trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One operator of a network that changes what a position sees.

    Attributes:
        module: Path of the module that runs it; empty for the network itself.
        kind: Class of that module.
        operator: Name of the operator.
        field: Px that a position of its output depends on, per axis; the largest over the phases.
        stride: Px between neighbouring positions, per axis.
    """

    module: str
    kind: str
    operator: str
    field: tuple[int, ...]
    stride: tuple[Fraction, ...]


def layers(net: nn.Module, channels: int = 3, ndim: int | None = None) -> tuple[Layer, ...]:
    """Return the layers of a network that change field or stride, in the order in which they run.

    Args:
        net: As for `fullconv.trace`, which says what it raises.
        channels: Channels of the image.
        ndim: Spatial axes; by default those of the network's first convolution or pooling.

    Examples:
        >>> from torch import nn
        >>> for layer in layers(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2))):
        ...     print(layer.module, layer.kind, layer.field, *map(str, layer.stride))
        0 Conv2d (3, 3) 1 1
        2 MaxPool2d (4, 4) 2 2
    """
    geometry = trace(net, channels, ndim)
    subject = Subject(net, channels)
    with torch.device("cpu"):
        columns = [list(_along(subject, geometry, axis)) for axis in range(len(geometry.axes))]
    found: list[Layer] = []
    for rows in zip(*columns, strict=True):
        call, seen = rows[0][0], [row[1] for row in rows]
        if any(now and now != before for now, before in seen) and all(now for now, _ in seen):
            sights = [now for now, _ in seen if now]
            found.append(
                Layer(
                    module=call.module,
                    kind=call.module_class,
                    operator=str(call.op).split(".")[1],
                    field=tuple(field for field, _ in sights),
                    stride=tuple(stride for _, stride in sights),
                )
            )
    return tuple(found)


_Sight = tuple[int, Fraction]  # field in px, px between neighbours


def _along(
    subject: Subject, geometry: Geometry, axis: int
) -> Iterator[tuple[Call, tuple[_Sight | None, _Sight | None]]]:
    """Yield, for each call, what a position of its output sees along an axis, and of its inputs."""
    period = geometry.axes[axis].period
    least = [2 * p for p in geometry.period]
    least[axis] += 3 * geometry.field[axis] + 2 * period
    shape = geometry.suited_shape(tuple(least))
    longer = [n + period * (k == axis) for k, n in enumerate(shape)]
    program = subject.record(tuple(shape))
    state = State()
    for call in follow(program, subject.record(tuple(longer)), state, axis=axis, period=period):
        if call.outputs:
            before = [s for v in call.inputs if (s := _sight(v, state, period))]
            widest = max(before, default=None)
            yield call, (_sight(call.outputs[0], state, period), widest)


def _sight(value: Value, state: State, period: int) -> _Sight | None:
    """Return the field and stride of a value in the middle of the image; None if it has no axis."""
    growing = state.growth.get(value, {})
    if value not in state.reach_of or len(growing) != 1 or state.folds.get(value):
        return None
    dim, grown = next(iter(growing.items()))
    parts = state.reach_of[value].parts
    parts = parts.amin([d + 1 for d in range(parts.ndim - 1) if d != dim])
    middle = parts.shape[1] // 2
    start, stop = parts[:2, middle : middle + grown]
    if bool((start >= NOTHING // 2).any()):
        return None
    return int((-stop - start).max()), Fraction(period, grown)
