"""One sweep over a program: what every value reaches along one spatial axis.

Two programs of the network are needed, on images that differ by one period along the axis: the axes
of a value that grow from one to the other are the ones that run along it, and how much they grow is
how many positions lie in a period.

After each call one law is checked, whatever the operator: a position one period further on reads
exactly one period further on, unless the border cuts it off. Where the law fails the operator is not
local (it wraps around, resizes by a scale that depends on the image, reads a fixed place …).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fullconv.errors import FullconvError, UnknownOperatorError
from fullconv.tracing._folds import MIXED, VIEWS, Folds, folds_of
from fullconv.tracing._program import Call, Program, Value
from fullconv.tracing._reach import BORDER, NOTHING, Reach, of_constant, of_image
from fullconv.tracing._rules import WHOLE, Step, find

aten = torch.ops.aten

# Operators whose result is the same at every position, whatever their arguments reach.
UNIFORM = frozenset({
    aten.empty.memory_format, aten.empty_like.default, aten.new_empty.default,
    aten.zeros.default, aten.zeros_like.default, aten.new_zeros.default,
    aten.ones.default, aten.ones_like.default, aten.new_ones.default,
    aten.full.default, aten.full_like.default, aten.new_full.default,
    aten.scalar_tensor.default, aten.empty_strided.default, aten.new_empty_strided.default,
})  # fmt: skip

RANDOM = frozenset({
    aten.rand.default, aten.rand_like.default, aten.randn.default, aten.randn_like.default,
    aten.randint.default, aten.randint.low, aten.randint_like.default, aten.randint_like.low_dtype,
    aten.normal.float_float, aten.normal_functional.default, aten.uniform.default,
    aten.exponential.default, aten.poisson.default,
})  # fmt: skip

# Their second result says where in the whole image a maximum lies.
PLACES = frozenset({
    aten.max_pool2d_with_indices.default, aten.max_pool3d_with_indices.default,
    aten.adaptive_max_pool2d.default, aten.adaptive_max_pool3d.default,
    aten.fractional_max_pool2d.default, aten.fractional_max_pool3d.default,
})  # fmt: skip

# What they do to places leaves them what they are.
MOVED = frozenset({
    aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims, aten.unsqueeze.default,
})  # fmt: skip

# Of ones, as position embeddings use them, these make the coordinates of each position.
TOTALS = frozenset({aten.cumsum.default, aten.cumprod.default})

# A reach of more numbers (512 MiB) is not followed: rules take several times as much on the way.
MOST_NUMBERS = 2**27


@dataclass(slots=True, kw_only=True)
class State:
    """What is known so far: see `Step`, and `_folds` for axes that run along the image in mixed order.

    `placed` are values that depend on where in the image a position lies, or on how large it is;
    `mixing` is the first call after which folded rows do not read alike.
    """

    reach_of: dict[Value, Reach] = field(default_factory=dict[Value, Reach])
    growth: dict[Value, dict[int, int]] = field(default_factory=dict[Value, dict[int, int]])
    folds: dict[Value, Folds] = field(default_factory=dict[Value, Folds])
    placed: set[Value] = field(default_factory=set[Value])
    made_by: dict[Value, Call] = field(default_factory=dict[Value, Call])
    mixing: Call | None = None


def sweep(program: Program, longer: Program, *, axis: int, period: int) -> tuple[Reach, int] | None:
    """Return what each unit reaches along one axis, and the units per period.

    Args:
        program: The network on an image.
        longer: The same on an image longer by `period` px along the axis.
        axis: The spatial axis, from 0.
        period: In px.

    Returns:
        The reach of the output, with all other axes hulled away; None if the output does not grow
        along its axis as a map does.

    Raises:
        NotLocalError: By the name of the first module that is not local.
        UnknownOperatorError: By the name of the operator that has no rule.
    """
    state = State()
    for _ in follow(program, longer, state, axis=axis, period=period):
        pass
    reach, dim = state.reach_of.get(program.output), axis + 2
    if reach is None or set(state.growth[program.output]) != {dim}:
        return None
    if state.folds.get(program.output):
        raise (state.mixing or program.calls[-1]).refused(
            "rows and columns lie in one axis there, and what its positions read is not the same all "
            "over the image (from the end of a row it reads on into the next, or in strides of the "
            "image's size)",
            WHOLE,
        )
    others = [d + 1 for d in range(reach.ndim) if d != dim]
    return Reach(reach.parts.amin(others)), state.growth[program.output][dim]


def follow(
    program: Program, longer: Program, state: State, *, axis: int, period: int
) -> Iterator[Call]:
    """Yield each call once `state` holds what its inputs and outputs reach, and forget them after that.

    What no later call reads is forgotten, and calls of which nothing comes are left out. Other
    arguments, and errors, are those of `sweep`.
    """
    state.growth = growths(program, longer)
    calls = _leading_to_the_map(program)
    state.reach_of[program.image] = of_image(program.image.shape, axis + 2)
    size = program.image.shape[axis + 2]
    last = {v: n for n, call in enumerate(calls) for v in (*call.inputs, *call.outputs)}
    last[program.output] = len(calls)
    for n, call in enumerate(calls):
        _pass(call, state, size, period)
        yield call
        for value in (*call.inputs, *call.outputs):
            if last[value] == n:
                state.reach_of.pop(value, None)


def _leading_to_the_map(program: Program) -> list[Call]:
    """Return the calls whose results the map is made of, and those that write in place, in order."""
    needed, calls = {program.output}, list[Call]()
    for call in reversed(program.calls):
        in_place = call.writes_shared or call.op is aten.copy_.default
        if in_place or not needed.isdisjoint(call.outputs):
            needed.update(call.inputs)
            calls.append(call)
    return calls[::-1]


def growths(program: Program, longer: Program) -> dict[Value, dict[int, int]]:
    """Return, for each value, the axes that are longer in the longer image, and by how much."""
    pairs = [(program.image, longer.image), (program.output, longer.output)]
    for one, other in zip(program.calls, longer.calls, strict=True):
        pairs += zip((*one.inputs, *one.outputs), (*other.inputs, *other.outputs), strict=True)
    return {
        value: {
            dim: b - a
            for dim, (a, b) in enumerate(zip(value.shape, more.shape, strict=True))
            if a != b
        }
        for value, more in pairs
    }


def _pass(call: Call, state: State, size: int, period: int) -> None:
    """Add what the outputs of one call reach."""
    state.made_by |= {out: call for out in call.outputs if out not in call.inputs}
    step = _step(call, state)
    if call.op in RANDOM and any(state.growth[out] for out in call.outputs):
        step.refuse(
            "it draws a random number for each position, and a window would draw others",
            "draw them outside of `forward`, as channels of the image",
            WHOLE,
        )
    if call.op in UNIFORM or _spreads_a_constant(call, state):
        for out in (out for out in call.outputs if state.growth[out]):
            even = of_constant(len(out.shape)).expanded(list(state.growth[out]), out.shape)
            state.folds[out] = {}
            state.reach_of[out] = _settled(even, out, state, size, period)
        return
    placed = [value for value in _used_as_numbers(call) if value in state.placed]
    if not any(value in state.reach_of for value in call.inputs) or _counts(call, state):
        state.placed |= {out for out in call.outputs if state.growth[out] or placed}
        return
    if placed and call.op in (aten.index.Tensor, aten.index_select.default):
        step.refuse(
            "it picks positions by numbers that depend on the image's size (`arange` of it)",
            "slice instead (`x[:, :, ::2]`), where they follow each other in even steps",
            WHOLE,
        )
    if any(state.growth[value] for value in placed):
        step.refuse(
            "it uses numbers that depend on where in the image a position lies (coordinates, "
            "a position embedding, the indices of a pooling), which a window would get wrong",
            "give the coordinates as channels of the image",
            WHOLE,
        )
    if placed:
        step.refuse(
            "it uses a number computed from the coordinates of the whole image (their largest, "
            "their mean), which depends on the image's size",
            WHOLE,
        )
    if call.writes_shared and call.op is not aten.copy_.default:
        raise UnknownOperatorError(
            f"`{call.op}` must not write in place into a view, which no rule follows; it is run by "
            f"{call.where}. Write into a copy instead"
        )
    result = find(call)(step)
    state.placed |= _places(call, state)
    for out, reach in zip(
        call.outputs, [result] if isinstance(result, Reach) else result, strict=False
    ):
        _check_memory(reach, call)
        along = state.growth[out].keys()
        state.reach_of[out] = reach.compact(along).expanded(list(along), out.shape)
        _check(step, out, state, period)
        state.reach_of[out] = _settled(state.reach_of[out], out, state, size, period)


def _used_as_numbers(call: Call) -> list[Value]:
    """Return the tensors among the arguments, but for places that maxima are put back to."""
    if call.op in (aten.max_unpool2d.default, aten.max_unpool3d.default):
        return [v for v in call.inputs if v is not call.args["indices"]]
    return [] if call.op in MOVED else call.inputs


def _places(call: Call, state: State) -> set[Value]:
    """Return the outputs that say where in the whole image a maximum lies."""
    if call.op in PLACES:
        return set(call.outputs[1:])
    moved = call.op in MOVED and not state.placed.isdisjoint(call.inputs)
    return set(call.outputs) if moved else set()


def _check_memory(reach: Reach, call: Call) -> None:
    if reach.parts.numel() > MOST_NUMBERS:
        raise FullconvError(
            f"`net` must make values of few positions, got {reach.parts.numel() // 4:,} that each may "
            f"read other pixels, at {call.where}: following `{call.op}` there takes too much memory"
        )


def _counts(call: Call, state: State) -> bool:
    """Return whether the call adds up numbers that do not depend on the image: coordinates."""
    if call.op not in TOTALS:
        return False
    value: Value = call.args["self"]
    if call.args["dim"] % len(value.shape) not in state.growth[value]:
        return False
    reached = [state.reach_of[value] for value in call.inputs if value in state.reach_of]
    return all(bool((r.parts[:2] == NOTHING).all()) for r in reached)


def _spreads_a_constant(call: Call, state: State) -> bool:
    """Return whether the call spreads numbers that do not depend on the image over its positions."""
    return call.op in (aten.expand.default, aten.repeat.default) and not any(
        value in state.reach_of or state.growth[value] for value in call.inputs
    )


def _step(call: Call, state: State) -> Step:
    growing = {v: state.growth[v] for v in (*call.inputs, *call.outputs)}
    return Step(call=call, reach_of=state.reach_of, growing=growing, made_by=state.made_by)


def _settled(reach: Reach, out: Value, state: State, size: int, period: int) -> Reach:
    """Add that a position exists only in windows that start before it and stop after it.

    Where rows lie one after the other in one axis, what counts is the position in its row.
    """
    parts = reach.parts.clone()
    for dim, growth in state.growth[out].items():
        times = state.folds[out].get(dim, 1)
        if times == MIXED:
            continue
        length = out.shape[dim] // times
        index = torch.arange(length, dtype=torch.int32)
        first = torch.div(index * period, growth // times, rounding_mode="floor").repeat(times)
        room = torch.div((length - 1 - index) * period, growth // times, rounding_mode="floor")
        room = room.repeat(times)
        view = [out.shape[dim] if d == dim else 1 for d in range(reach.ndim)]
        parts[2] = torch.minimum(parts[2], first.reshape(view))
        parts[3] = torch.minimum(parts[3], (room - size).reshape(view))
    return Reach(parts)


def _check(step: Step, out: Value, state: State, period: int) -> None:
    """Refuse a call whose output reads differently from period to period."""
    parts, view = state.reach_of[out].parts, step.call.op in VIEWS
    folds = folds_of(step.call, out, state.growth, state.folds)
    for dim, growth in state.growth[out].items():
        times = folds.get(dim, 1)
        if times > 1 or (times == MIXED and not view):
            if not (times and _rows_repeat(parts, dim + 1, growth, period, times)):
                state.mixing = state.mixing or step.call
            continue
        same = repeats(parts, dim + 1, growth, period)
        if not same and not view:
            step.refuse(
                "what a position reads is not the same all over the image (it wraps around, mirrors, "
                "or its place or scale depends on the image's size)",
                WHOLE,
            )
        if not same:
            state.mixing = state.mixing or step.call
        folds = {d: n for d, n in folds.items() if d != dim} | ({} if same else {dim: MIXED})
    state.folds[out] = folds


def _rows_repeat(parts: Tensor, dim: int, growth: int, period: int, times: int) -> bool:
    """Return whether positions repeat along each of so many rows that lie in one axis."""
    rows = parts.unflatten(dim, (times, -1))
    return repeats(rows, dim + 1, growth // times, period)


def repeats(parts: Tensor, dim: int, growth: int, period: int) -> bool:
    """Return whether positions `growth` further along `dim` read `period` px further on.

    Positions that read padding are left out: the border cuts off what they reach.
    """
    near = parts.narrow(dim, 0, max(0, parts.shape[dim] - growth))
    far = parts.narrow(dim, parts.shape[dim] - near.shape[dim], near.shape[dim])
    sign = torch.tensor([1, -1, 1, -1]).reshape(4, *[1] * (parts.ndim - 1))
    at_border = ((near[2:] == BORDER) | (far[2:] == BORDER)).any(0)
    nothing = (near >= NOTHING // 2) & (far >= NOTHING // 2)
    return bool(((far - near == sign * period) | at_border | nothing).all())
