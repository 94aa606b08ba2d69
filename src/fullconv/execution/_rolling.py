"""A forward pass from the first rows of an image to its last, in which nothing is computed twice.

Windows compute their halos again and again. Here every operator stops at any row and goes on from
there: it keeps the rows of its input that its next rows will read, and no more. What a network takes
is then a few rows of each of its values, and those rows of skipped values that wait for the deeper
ones, however long the image is. Rows are positions along the first spatial axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil, prod
from typing import Any

import torch
from torch import Tensor, nn

from fullconv.execution._pixels import like_weights
from fullconv.tracing import Call, Stage, Stages, Value, replaced

aten = torch.ops.aten

Read = Callable[[int, int], Tensor]  # rows `[start, stop)` of an image, `(1, channels, rows, ...)`
State = Mapping[Value, tuple[int, Tensor]]  # what is kept between two passes, and its first rows


@dataclass(slots=True)
class Kept:
    """The rows of one value that may still be read: pieces in order, without gaps."""

    dim: int
    pieces: list[tuple[int, Tensor]] = field(default_factory=list[tuple[int, Tensor]])

    def take(self, start: int, stop: int) -> Tensor:
        """Return the rows `[start, stop)`."""
        found = [
            part_of(piece, self.dim, max(start - first, 0), min(stop, last) - max(start, first))
            for first, piece in self.pieces
            if start < (last := first + piece.shape[self.dim]) and first < stop
        ]
        return found[0] if len(found) == 1 else torch.cat(found, self.dim)

    @property
    def stop(self) -> int:
        """One past the last row; 0 where there is none."""
        if not self.pieces:
            return 0
        first, piece = self.pieces[-1]
        return first + piece.shape[self.dim]

    def drop_before(self, row: int) -> None:
        """Forget the rows before this one; a piece of which little is left is copied."""
        while self.pieces and self.pieces[0][0] + self.pieces[0][1].shape[self.dim] <= row:
            del self.pieces[0]
        if self.pieces and self.pieces[0][0] < row:
            first, piece = self.pieces[0]
            size = piece.shape[self.dim]
            left = first + size - row
            if 2 * left <= size:
                self.pieces[0] = row, part_of(piece, self.dim, size - left, left).clone()


class _Part(torch.autograd.Function):
    """Some rows; their gradient is laid out as the whole tensor is, which plain slices do not keep."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, dim: int, start: int, rows: int) -> Tensor:
        ctx.place = dim, start, rows
        ctx.like = whole.shape, whole.stride()
        return whole.narrow(dim, start, rows)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (dim, start, rows), (shape, stride) = ctx.place, ctx.like
        grad = outputs[0].new_empty_strided(shape, stride)
        grad.narrow(dim, 0, start).zero_()
        grad.narrow(dim, start, rows).copy_(outputs[0])
        grad.narrow(dim, start + rows, shape[dim] - start - rows).zero_()
        return grad, None, None, None


def part_of(whole: Tensor, dim: int, start: int, rows: int) -> Tensor:
    """Return some rows of a tensor."""
    if rows == whole.shape[dim]:
        return whole
    if whole.requires_grad and torch.is_grad_enabled():
        return _Part.apply(whole, dim, start, rows)  # pyright: ignore[reportReturnType] (untyped)
    return whole.narrow(dim, start, rows)


class Rolling:
    """A network that runs down images of one shape, some rows at a time.

    Args:
        net: The network, in eval mode.
        found: Its stages for images of that shape.
    """

    def __init__(self, net: nn.Module, found: Stages) -> None:
        self.stages = found
        self._read = readers_of(found).keys()
        named = dict(net.named_parameters()) | dict(net.named_buffers())
        self._weights = {value: named[name] for name, value in found.program.weights.items()}
        self._device = like_weights(net).device

    def __call__(self, read: Read, rows: int) -> Iterator[tuple[int, Tensor]]:
        """Yield the map from its first row to its last: pieces `(1, classes, rows, ...)`.

        Args:
            read: Returns rows `[start, stop)` of the image, `(1, channels, rows, ...)`.
            rows: Rows of the image to read at a time.

        Yields:
            The first row of a piece, and the piece.
        """
        constants, kept = self.constants(), self.kept({})
        for one in passes(self.stages, rows):
            yield from self.go_on(one, kept, read, constants)

    def constants(self) -> dict[Value, Tensor]:
        """Return the weights, and what is made of them alone."""
        values: dict[Value, Tensor] = dict(self._weights)
        with self._as_recorded():
            for call in self.stages.constants:
                values |= _outputs(call, _run(call, values.get, self._device))
        return values

    def kept(self, state: State) -> dict[Value, Kept]:
        """Return the rows of all values in a state; there are none in an empty one."""
        found = {value: Kept(dim) for value, dim in self.stages.dims.items()}
        for value, (first, part) in state.items():
            found[value].pieces.append((first, part))
        return found

    def go_on(
        self,
        one: Pass,
        kept: dict[Value, Kept],
        read: Read,
        constants: Mapping[Value, Tensor],
    ) -> list[tuple[int, Tensor]]:
        """Return the pieces of the map that a pass makes, and their first rows; change what is kept."""
        program = self.stages.program
        if one.stop > one.begin:
            kept[program.image].pieces.append((one.begin, read(one.begin, one.stop)))
        with self._as_recorded():
            for run in one.runs:
                if run.stop > run.first:
                    for value, made in self._made(run, kept, constants).items():
                        if value in self._read or value is program.output:
                            kept[value].pieces.append((run.first, made))
                for value, row in run.dropped:
                    kept[value].drop_before(row)
        done = list(kept[program.output].pieces)
        kept[program.output].pieces.clear()
        return done

    def _as_recorded(self) -> torch.autocast:
        """Return the context in which operators run: their casts are operators among them."""
        return torch.autocast(self._device.type, enabled=False)

    def _made(
        self, run: Run, kept: dict[Value, Kept], constants: Mapping[Value, Tensor]
    ) -> dict[Value, Tensor]:
        """Return the rows of what a stage makes in a run."""
        stage, (start, end) = run.stage, run.reads
        inputs = {value: kept[value].take(start, end) for value in stage.inputs}
        call = _for_rows(stage, end - start)
        made = _run(call, {**constants, **inputs}.get, self._device)
        skip = run.first - int(start * stage.scale)
        return {
            value: part_of(part, stage.dims[value], skip, run.stop - run.first)
            for value, part in _outputs(stage.call, made).items()
            if value in stage.dims
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a stage.

    Attributes:
        stage: The stage.
        first: The first row that it makes.
        stop: One past the last.
        reads: The rows of its inputs that it runs on.
        dropped: Values that were read last, and the first row of each that is read again.
    """

    stage: Stage
    first: int
    stop: int
    reads: tuple[int, int]
    dropped: tuple[tuple[Value, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What is done with the next rows of an image, `[begin, stop)`.

    Attributes:
        begin: The first row that is read.
        stop: One past the last.
        runs: The runs that go on then.
    """

    begin: int
    stop: int
    runs: tuple[Run, ...]


def passes(found: Stages, rows: int) -> Iterator[Pass]:
    """Yield what is done with each of the next rows of an image.

    A stage makes at most about as many rows in a pass as the image's rows are worth, so that the
    last ones, which wait for the border, do not come all at once.
    """
    readers = readers_of(found)
    height, ready = found.program.image.shape[2], dict.fromkeys(found.dims, 0)
    image, output = found.program.image, found.program.output
    most = {v: 1 + ceil(1.25 * rows * v.shape[d] / height) for v, d in found.dims.items()}
    while ready[output] < output.shape[found.dims[output]]:
        begin, ready[image] = ready[image], min(ready[image] + rows, height)
        runs: list[Run] = []
        for stage in found.stages:
            value = stage.outputs[0]
            first, can = ready[value], stage.ready(min(ready[v] for v in stage.inputs))
            stop = max(first, min(can, first + most[value]))
            ready |= dict.fromkeys(stage.outputs, stop)
            reads = (stage.keeps_from(first), int(stage.stops[stop - 1])) if stop else (0, 0)
            dropped = tuple(
                (v, min(r.keeps_from(ready[r.outputs[0]]) for r in readers[v]))
                for v in stage.inputs
                if readers[v][-1] is stage
            )
            runs.append(Run(stage=stage, first=first, stop=stop, reads=reads, dropped=dropped))
        yield Pass(begin=begin, stop=ready[image], runs=tuple(runs))


def readers_of(found: Stages) -> dict[Value, list[Stage]]:
    """Return the stages that read each value, in order."""
    read: dict[Value, list[Stage]] = {}
    for stage in found.stages:
        for value in stage.inputs:
            read.setdefault(value, []).append(stage)
    return read


def rolling_bytes(found: Stages, rows: int) -> int:
    """Return the most that running down an image names at once, `rows` rows at a time."""
    read = readers_of(found)
    of_row = {v: v.dtype_bytes * prod(v.shape) // v.shape[d] for v, d in found.dims.items()}
    held, ends, most = dict.fromkeys(found.dims, 0), dict.fromkeys(found.dims, 0), 0
    image = found.program.image
    for one in passes(found, rows):
        held[image] += (one.stop - one.begin) * of_row[image]
        ends[image] = one.stop
        for run in one.runs:
            taken = run.reads[1] - run.reads[0]
            if run.stop > run.first:
                rows_made = max(run.stop - run.first, int(taken * run.stage.scale))
                made = {v: rows_made * of_row[v] for v in run.stage.outputs}
                copied = sum(taken * of_row[v] for v in run.stage.inputs)
                most = max(most, sum(held.values()) + sum(made.values()) + copied)
                held |= {v: held[v] + more for v, more in made.items() if v in read}
                ends |= dict.fromkeys(run.stage.outputs, run.stop)
            for value, row in run.dropped:
                held[value] = min(held[value], 2 * max(ends[value] - row, 0) * of_row[value])
    return most


def _for_rows(stage: Stage, rows: int) -> Call:
    """Return the call of a stage with the sizes that it is given changed to those of some rows."""
    call = stage.call
    args = dict(call.args)
    dim = stage.dims[stage.outputs[0]]
    if call.op is aten.slice.Tensor:
        image = args["self"]
        if args["dim"] % len(image.shape) == stage.dims[image]:
            bounds = slice(args["start"], args["end"]).indices(image.shape[stage.dims[image]])
            args |= {"start": bounds[0], "end": None}
    elif "output_size" in args:
        args["output_size"] = _with(args["output_size"], dim - 2, int(rows * stage.scale))
    elif "size" in args and args["size"][dim] >= 0:
        args["size"] = _with(args["size"], dim, int(rows * stage.scale))
    return Call(
        op=call.op,
        args=args,
        outputs=call.outputs,
        module=call.module,
        module_class=call.module_class,
    )


def _with(sizes: Any, place: int, size: int) -> list[int]:
    changed = list(sizes)
    changed[place] = size
    return changed


def _run(call: Call, tensor: Callable[[Value], Any], device: torch.device) -> Any:
    """Run an operator on tensors in the place of its values, on the device of the weights."""
    args: dict[str, Any] = replaced(call.args, Value, tensor)
    args = replaced(
        args, torch.device, lambda recorded: device if recorded.type == "meta" else recorded
    )
    schema = call.op._schema.arguments
    plain = [args[a.name] for a in schema if not a.kwarg_only]
    return call.op(*plain, **{a.name: args[a.name] for a in schema if a.kwarg_only})


def _outputs(call: Call, made: Any) -> dict[Value, Tensor]:
    """Return the tensors that a call made, by value."""
    parts = [made] if isinstance(made, Tensor) else list(made)
    return dict(
        zip(call.outputs, (part for part in parts if isinstance(part, Tensor)), strict=True)
    )
