"""A network as stages that can stop at any row and go on: what each row of each operator reads.

Rows are positions along the first spatial axis. A stage is one operator whose result grows with the
image along that axis; the rows that its next rows will read are all that has to be kept of its input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fullconv.errors import FullconvError
from fullconv.tracing._paths import SIZES
from fullconv.tracing._program import CONSTANTS, Call, Program, Value
from fullconv.tracing._reach import BORDER, NOTHING, Reach, of_image
from fullconv.tracing._rules import Step, find
from fullconv.tracing._subject import record
from fullconv.tracing._sweep import UNIFORM, growths

aten = torch.ops.aten
Rows = NDArray[np.int64]

# Operators that are told how many rows to make, in one entry of `size` or `output_size`.
RESIZED = frozenset({
    aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.expand.default,
    aten.upsample_nearest1d.default, aten.upsample_nearest2d.default,
    aten.upsample_nearest3d.default, aten._upsample_nearest_exact1d.default,
    aten._upsample_nearest_exact2d.default, aten._upsample_nearest_exact3d.default,
    aten.upsample_linear1d.default, aten.upsample_bilinear2d.default,
    aten.upsample_trilinear3d.default, aten.upsample_bicubic2d.default,
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stage:
    """One operator along the rows of the image.

    Attributes:
        call: The operator.
        dims: Of each value that grows, inputs and outputs: the axis that its rows lie along.
        inputs: The values among its arguments that grow; all have the same number of rows.
        scale: Rows of the output for each row of the input.
        unit: The operator can start at rows of its input that are multiples of this.
        starts: For each row of the output the first row of the input that later rows will read.
        stops: For each row of the output one past the last row of the input that rows so far read.
    """

    call: Call
    dims: dict[Value, int]
    inputs: tuple[Value, ...]
    scale: Fraction
    unit: int
    starts: Rows
    stops: Rows

    @property
    def outputs(self) -> list[Value]:
        """The values that it makes, all of the same rows."""
        return [value for value in self.call.outputs if value in self.dims]

    def ready(self, rows: int) -> int:
        """Return how many rows of the output can be made from so many first rows of the input."""
        return int(np.searchsorted(self.stops, rows, side="right"))

    def keeps_from(self, row: int) -> int:
        """Return the first row of the input that this row of the output, or one behind it, reads.

        It is one from which the operator can start: its place in the output is a whole row.
        """
        if row >= len(self.starts):
            return self.inputs[0].shape[self.dims[self.inputs[0]]]
        return int(self.starts[row]) // self.unit * self.unit


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stages:
    """A network along the rows of images of one shape.

    Attributes:
        program: Its operators.
        constants: Calls that do not depend on the image, in order.
        stages: All others, in order.
        dims: Of each value that grows: the axis that its rows lie along.
    """

    program: Program
    constants: tuple[Call, ...]
    stages: tuple[Stage, ...]
    dims: dict[Value, int]


def stages(net: nn.Module, channels: int, shape: tuple[int, ...], period: int) -> Stages | None:
    """Return a network as stages along the rows of an image; None where it cannot be run so.

    Args:
        net: A network that is local.
        channels: Channels of the image.
        shape: Its shape, in px per axis.
        period: Period of the network along the rows, in px.
    """
    program = record(net, channels, shape, batch=1)
    if program.casts:
        program = record(net, channels, shape, batch=1, casts=True)
    more = (shape[0] + period, *shape[1:])
    longer = record(net, channels, more, batch=1, casts=program.casts)
    growth = growths(program, longer)
    if any(len(dims) > 1 for dims in growth.values()):
        return None
    dims = {value: next(iter(found)) for value, found in growth.items() if found}
    constants = tuple(call for call in program.calls if not _grows(call, dims))
    found: list[Stage] = []
    for call in program.calls:
        if _grows(call, dims):
            stage = _stage(call, dims, growth)
            if stage is None:
                return None
            found.append(stage)
    if program.output not in dims or not _all_known(program, constants):
        return None
    return Stages(program=program, constants=constants, stages=tuple(found), dims=dims)


def _all_known(program: Program, constants: Sequence[Call]) -> bool:
    """Return whether all that operators read is the image, weights, or made by operators again."""
    known = {program.image, *program.weights.values()}
    known.update(value for call in program.calls for value in call.outputs)
    read = {value for call in program.calls for value in call.inputs}
    return read <= known and not any(call.op in CONSTANTS for call in constants)


def _grows(call: Call, dims: dict[Value, int]) -> bool:
    return any(value in dims for value in (*call.inputs, *call.outputs))


def _stage(call: Call, dims: dict[Value, int], growth: dict[Value, dict[int, int]]) -> Stage | None:
    inputs = tuple(dict.fromkeys(value for value in call.inputs if value in dims))
    outputs = [value for value in call.outputs if value in dims]
    heights = {value.shape[dims[value]] for value in inputs}
    alike = len(heights) == len({value.shape[dims[value]] for value in outputs}) == 1
    if not alike or not _stops_anywhere(call, dims):
        return None
    output, values = outputs[0], (*call.inputs, *call.outputs)
    step = Step(
        call=call,
        reach_of={value: of_image(value.shape, dims[value]) for value in inputs},
        growing={value: growth[value] for value in values},
        made_by={},
    )
    try:
        found = find(call)(step)
    except (FullconvError, KeyError):
        return None
    reach = (found if isinstance(found, Reach) else found[0]).expanded([dims[output]], output.shape)
    grown = growth[inputs[0]][dims[inputs[0]]]
    scale = Fraction(growth[output][dims[output]], grown)
    others = [d + 1 for d in range(reach.ndim) if d != dims[output]]
    parts = (reach.parts.amin(others) if others else reach.parts).numpy()
    height, least = heights.pop(), _least(call)
    starts, stops = _monotone(parts, height, scale)
    if "output_size" in call.args:
        # What is told only sizes takes their ratio, so its input is whole rows of its output.
        stops = np.minimum(-(-stops // scale.denominator) * scale.denominator, height)
    stops = np.maximum(stops, min(least, height))
    starts = np.minimum(starts, (stops - least).clip(0))
    return Stage(
        call=call,
        dims={value: dims[value] for value in values if value in dims},
        inputs=inputs,
        scale=scale,
        unit=_unit(parts, scale, grown),
        starts=starts,
        stops=stops,
    )


def _least(call: Call) -> int:
    """Return the fewest rows that an operator takes, whatever it reads of them."""
    if call.op is aten.avg_pool3d.default:
        return call.args["kernel_size"][0]  # it does not count its padding
    return 1 + max(call.args["padding"]) if "reflection_pad" in str(call.op) else 1


def _stops_anywhere(call: Call, dims: dict[Value, int]) -> bool:
    """Return whether an operator can run on some rows: its sizes can be changed to theirs."""
    if call.writes_shared or call.op in UNIFORM:
        return False
    if call.op is aten.select_scatter.default:
        return call.args["dim"] % len(call.outputs[0].shape) != dims.get(call.outputs[0])
    if call.op is aten.slice.Tensor:
        image = call.args["self"]
        along_rows = call.args["dim"] % len(image.shape) == dims.get(image)
        return not along_rows or call.args["step"] == 1
    if "split_size" in call.args or "split_sizes" in call.args:
        image = call.args["self"]
        return call.args["dim"] % len(image.shape) != dims.get(image)
    return call.op in RESIZED or not SIZES & call.args.keys()


def _unit(parts: Rows, scale: Fraction, grown: int) -> int:
    """Return after how many rows of the input the operator does the same again.

    Where rows have been folded into one axis with others, that is more than the scale tells.
    """
    for unit in range(scale.denominator, grown, scale.denominator):
        made = int(unit * scale)
        near, far = parts[:, : parts.shape[1] - made], parts[:, made:]
        border = ((near[2:] == BORDER) | (far[2:] == BORDER)).any(0)
        constant = near[0] == NOTHING
        moved = (far[0] - near[0] == unit) & (far[1] - near[1] == -unit)
        if (moved | border | constant).all():
            return unit
    return grown


def _monotone(parts: Rows, size: int, scale: Fraction) -> tuple[Rows, Rows]:
    """Return what rows and those behind them read from, and what rows and those before read to.

    A row is made only by a run on rows that reach from its place to its place: one that crops, as
    a transposed convolution with padding does, crops at both ends of whatever it runs on.
    """
    start, minus_stop, first, last = parts
    row = np.arange(len(start))
    place = row * scale.denominator // scale.numerator
    room = row[::-1] * scale.denominator // scale.numerator
    starts = np.where(first == BORDER, 0, np.minimum(start, place))
    stops = np.where(last == BORDER, size, np.where(minus_stop == NOTHING, 0, -minus_stop))
    stops = np.maximum(stops, size - room)
    starts = np.minimum.accumulate(starts.clip(0)[::-1])[::-1]
    return starts, np.maximum.accumulate(stops.clip(1, size))
