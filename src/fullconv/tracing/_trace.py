"""From a network to its geometry: periods from sizes, reach from operators, phases from reach."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from math import lcm, prod
from typing import Any

import torch
from torch import nn

from fullconv.errors import FullconvError, NotLocalError
from fullconv.geometry import Axis, Geometry, Phase
from fullconv.tracing._program import LOOPS, Call, Program, Value
from fullconv.tracing._reach import NOTHING, Reach
from fullconv.tracing._rules import WHOLE
from fullconv.tracing._sizes import Sizes, check_map, find_start, legal_sizes, short
from fullconv.tracing._subject import Subject
from fullconv.tracing._sweep import same_path, same_settings, sweep

Legal = tuple[tuple[int, int] | None, ...]

# By how much an image is lengthened to see the stride of every layer: a multiple of most strides.
LENGTHENINGS = (2**6 * 3**2 * 5, 2**6 * 3**2 * 5 * 7 * 11 * 13, 2**12 * 3**4 * 5**3)
# So many periods more (a prime), and what grows by fractions of a position in each shows it; as many
# as fit into so many px.
MANY_PERIODS = (131_071, 1009, 101, 17, 3)
FAR_PX = 2**20
# Where a size is rounded to a multiple that no layer's stride tells, the period is a multiple of it.
MULTIPLES = (1, 2, 3, 4)
NO_OPERATOR = "none"
UNEVEN = "its size does not grow evenly"
OTHER_PATH = "the network takes another path"
# An image so many periods longer than the smallest is no small one: networks run as they usually do.
USUAL_PERIODS, USUAL_PX = 32, 256
# So many periods more, along the axes that are not followed, leave positions clear of the border.
SPARE_PERIODS = 2
# A field larger than this is taken for one that never ends.
LONGEST_PX = 40_000


def trace(
    net: nn.Module,
    channels: int = 3,
    ndim: int | None = None,
    shape: tuple[int, ...] | None = None,
) -> Geometry:
    """Return the geometry of a network: field, stride, period, halo, map shapes, exact windows.

    The network runs on tensors without numbers and every operator is followed; nothing is computed
    and no weight memory is used. It is traced as it is: in training mode a BatchNorm is not local.

    Args:
        net: Takes `(batch, channels, *spatial)` and returns one tensor `(batch, classes, *map)`.
        channels: Channels of the image.
        ndim: Spatial axes, 1 to 3; by default those of the network's first convolution or pooling.
        shape: Trace for images of this shape (and all that differ by multiples of the period).
            By default a shape that is a multiple of the period, where the network takes one.

    Raises:
        NotLocalError: If some layer looks at the whole image; it names the module and the remedies.
        UnknownOperatorError: If an operator has no rule; `fullconv.rule` adds one.
        FullconvError: If the network takes no image, or returns something else than one map.

    Examples:
        >>> import torch, fullconv as fc
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.MaxPool2d(2))
        >>> g = fc.trace(net)
        >>> g.field, g.stride, g.map_shape((100, 50))
        ((4, 4), (2, 2), (49, 24))
    """
    sizes = Sizes(Subject(net, channels))
    axes = len(shape) if shape else ndim or _num_axes(net)
    start = shape or find_start(sizes, axes)
    if shape and sizes.map_shape(shape) is None:
        sizes.use_fake_tensors()
        start = shape if sizes.map_shape(shape) is not None else find_start(sizes, axes)
    try:
        return _traced(sizes, start, shape)
    except NotLocalError as error:
        larger = tuple(4 * size for size in start)
        if not error.why.startswith(OTHER_PATH) or sizes.map_shape(larger) is None:
            raise
        _find_another_reason(sizes, larger)
        raise


def _find_another_reason(sizes: Sizes, start: tuple[int, ...]) -> None:
    """Refuse a network for what it does on a larger image, if it is not local there either.

    On small images PyTorch itself takes other paths, where axes have a single position.
    """
    try:
        _traced(sizes, start, None)
    except NotLocalError as error:
        if not error.why.startswith(OTHER_PATH):
            raise


def _traced(sizes: Sizes, start: tuple[int, ...], shape: tuple[int, ...] | None) -> Geometry:
    """Return the geometry from a shape that the network takes; `shape` as for `trace`."""
    subject, axes = sizes.subject, len(start)
    base = subject.record(start)
    check_map(base, axes)
    spans = tuple(_span(subject, start, axis, base) for axis in range(axes))
    legal = tuple(legal_sizes(sizes, start, axis, spans[axis].period) for axis in range(axes))
    residues = _residues(shape, start, legal, spans)
    smallest = tuple(_smallest(legal[k][residues[k]]) for k in range(axes))
    usual = _usual(subject, smallest, spans)
    shortest = _on_the_path(subject, smallest, spans, usual)
    least = tuple(s + SPARE_PERIODS * span.period for s, span in zip(shortest, spans, strict=True))
    found = [_axis(subject, least, axis, spans[axis]) for axis in range(axes)]
    for axis, span in enumerate(spans):
        _check_settings(base, span.longer, f"along axis {axis}")
    _check_settings(usual, subject.record(shortest), "")
    return Geometry(
        axes=tuple(
            replace(axis, residue=residues[k], legal=legal[k], shortest=shortest[k])
            for k, axis in enumerate(found)
        )
    )


def _num_axes(net: nn.Module) -> int:
    """Return the spatial axes of the first convolution or pooling layer."""
    for module in net.modules():
        name = type(module).__name__
        if ("Conv" in name or "Pool" in name) and name[-2:] in ("1d", "2d", "3d"):
            return int(name[-2])
    return 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """How the network repeats along one axis.

    Attributes:
        period: Pixels after which every layer's grid repeats.
        longer: The program on an image much longer along the axis.
        field: A guess of the field, in px: what all its windows read, one after the other.
    """

    period: int
    longer: Program
    field: int


def _span(subject: Subject, start: tuple[int, ...], axis: int, base: Program) -> _Span:
    """Return how the network repeats along an axis: from how much each value grows with the image."""
    refused: NotLocalError | None = None
    for more in LENGTHENINGS:
        try:
            longer = _recorded(subject, start, axis, more, base)
            _check_squares(base, longer, _recorded(subject, start, axis, 2 * more, base))
            period = _repeating(subject, base, longer, more, axis)
        except NotLocalError as error:
            if error.why == LOOPS[0]:
                raise
            # Perhaps a period that does not divide the lengthening, or sizes that it does not take.
            refused = max(refused or error, error, key=_weight)
            continue
        return _Span(period=period, longer=longer, field=_guessed_field(base, longer, axis, more))
    assert refused
    raise refused


def _repeating(subject: Subject, base: Program, longer: Program, more: int, axis: int) -> int:
    """Return after how many px the network repeats along an axis, as seen on a much longer image."""
    least = _period(base, longer, more)
    for period in (least * n for n in MULTIPLES if n == 1 or least * n <= LONGEST_PX):
        times = next((n for n in MANY_PERIODS if n * period <= FAR_PX), MANY_PERIODS[-1])
        try:
            far = _recorded(subject, base.image.shape[2:], axis, times * period, base)
            _check_even(base, longer, far, Fraction(times * period, more), axis)
        except NotLocalError:
            if period == least * MULTIPLES[-1] or least * MULTIPLES[-1] > LONGEST_PX:
                raise
            continue
        _check_period(base, longer, more, axis)
        return period
    raise AssertionError("the last multiple returns or raises")


def _weight(error: NotLocalError) -> int:
    """Return how much a refusal says about all sizes of images, not only about those tried."""
    if error.operator == NO_OPERATOR:
        return 0
    return next((n for n, why in ((1, UNEVEN), (2, OTHER_PATH)) if error.why.startswith(why)), 3)


def _check_squares(base: Program, longer: Program, twice: Program) -> None:
    """Refuse a call that makes a value which grows faster than the image."""
    for call, one, two in zip(base.calls, longer.calls, twice.calls, strict=True):
        sizes = [[prod(out.shape) for out in c.outputs] for c in (call, one, two)]
        if any(c - a > 3 * (b - a) > 0 for a, b, c in zip(*sizes, strict=True)):
            raise _refused_call(
                call,
                "it makes a value that grows with the square of the image: it compares every position "
                "with every other (attention)",
                WHOLE,
            )


def _check_even(base: Program, longer: Program, far: Program, times: Fraction, axis: int) -> None:
    """Refuse a call whose output does not grow evenly with the image."""
    for call, one, other in zip(base.calls, longer.calls, far.calls, strict=True):
        for a, b, c in zip(call.outputs, one.outputs, other.outputs, strict=True):
            grown = zip(a.shape, b.shape, c.shape, strict=True)
            if any(z - x != (y - x) * times for x, y, z in grown):
                raise _refused_call(call, f"{UNEVEN} with axis {axis} of the image", WHOLE)


def _guessed_field(base: Program, longer: Program, axis: int, more: int) -> int:
    """Return about how many pixels all windows of the network read, one after the other."""
    total = 0
    for one, other in zip(base.calls, longer.calls, strict=True):
        if not one.inputs or len(one.inputs[0].shape) <= axis + 2:
            continue
        grown = other.inputs[0].shape[axis + 2] - one.inputs[0].shape[axis + 2]
        kernel = one.args.get("kernel_size")
        if "transposed" in one.args:
            kernel = one.args["weight"].shape[2:]
        if kernel and grown > 0:
            total += kernel[min(axis, len(kernel) - 1)] * more // grown
    return total


def _recorded(
    subject: Subject, start: tuple[int, ...], axis: int, more: int, base: Program
) -> Program:
    """Return the program on an image longer by `more` px along an axis; it must run the same calls."""
    shape = (*start[:axis], start[axis] + more, *start[axis + 1 :])
    try:
        program = subject.record(shape, most=4 * len(base.calls) + 1000)
    except FullconvError:
        raise
    except Exception as error:
        module, module_class = subject.raised_by(error)
        raise NotLocalError.at(
            module=module,
            module_class=module_class,
            operator=NO_OPERATOR,
            why=f"it takes an image of {_px(start)}, and none of {_px(shape)}: {short(error)}",
            remedies=(
                "build the network for images of any size, where it has an option for that",
                "use images of that size only",
            ),
        ) from error
    _check_path(base, program)
    return program


def _check_path(base: Program, program: Program) -> None:
    different = same_path(base, program)
    if different:
        sizes = [tuple(p.image.shape[2:]) for p in (program, base)]
        raise NotLocalError.at(
            module=different.module,
            module_class=different.module_class,
            operator=str(different.op),
            why=f"{OTHER_PATH} at {sizes[0]} px than at {sizes[1]} px",
            remedies=(WHOLE, "let `forward` do the same whatever the size of the image"),
        )


def _periods(base: Program, longer: Program, more: int) -> Iterator[tuple[Call | None, int]]:
    """Yield, call by call, after how many px the grids so far repeat; at last with the output's.

    Args:
        base: The program on an image.
        longer: The same on an image longer by `more` px.
        more: In px; a multiple of the period.
    """
    pairs: list[tuple[Call | None, Sequence[Value], Sequence[Value]]] = [
        (one, one.outputs, two.outputs) for one, two in zip(base.calls, longer.calls, strict=True)
    ]
    period = 1
    for call, ones, twos in (*pairs, (None, [base.output], [longer.output])):
        for a, b in zip(ones, twos, strict=True):
            grown = (m - n for n, m in zip(a.shape, b.shape, strict=True))
            period = lcm(period, *(Fraction(more, g).numerator for g in grown if g))
        yield call, period


def _period(base: Program, longer: Program, more: int) -> int:
    return list(_periods(base, longer, more))[-1][1]


def _check_period(base: Program, longer: Program, more: int, axis: int) -> None:
    """Refuse the call from which on the network repeats too late."""
    for call, period in _periods(base, longer, more):
        if call and period > LONGEST_PX:
            raise _refused_call(
                call,
                f"from here on the network repeats only every {period} px along axis {axis}, and so "
                "long would a window have to be",
                WHOLE,
            )


def _residues(
    shape: tuple[int, ...] | None,
    start: tuple[int, ...],
    legal: Sequence[Legal],
    spans: Sequence[_Span],
) -> tuple[int, ...]:
    """Return the image sizes modulo the period to trace for: those of `shape`, or 0 where legal."""
    periods = [span.period for span in spans]
    if shape and all(legal[k][shape[k] % p] for k, p in enumerate(periods)):
        return tuple(size % p for size, p in zip(shape, periods, strict=True))
    return tuple(0 if legal[k][0] else start[k] % p for k, p in enumerate(periods))


def _smallest(entry: tuple[int, int] | None) -> int:
    assert entry is not None, "the size that the network ran at is legal"
    return entry[0]


def _usual(subject: Subject, smallest: tuple[int, ...], spans: Sequence[_Span]) -> Program:
    """Return the program on an image that is not small, of the sizes modulo the period to trace."""
    return subject.record(
        tuple(
            size + max(USUAL_PERIODS, USUAL_PX // span.period) * span.period
            for size, span in zip(smallest, spans, strict=True)
        )
    )


def _on_the_path(
    subject: Subject, smallest: tuple[int, ...], spans: Sequence[_Span], usual: Program
) -> tuple[int, ...]:
    """Return the shape of a small image on which the network runs as it usually does."""
    periods, more = [span.period for span in spans], 0
    while True:
        shape = tuple(s + more * p for s, p in zip(smallest, periods, strict=True))
        program = _small_program(subject, shape)
        if program and not same_path(program, usual) and not same_settings(program, usual):
            return shape
        if all(2 * a >= b for a, b in zip(shape, usual.image.shape[2:], strict=True)):
            _check_path(usual, program or usual)
            return shape  # what its settings depend on is refused later, if nothing else is
        more = max(1, 2 * more)


def _small_program(subject: Subject, shape: tuple[int, ...]) -> Program | None:
    """Return the program on a small image, or None if a layer that keeps shapes refuses it."""
    try:
        return subject.record(shape)
    except FullconvError:
        raise
    except ValueError:
        return None


def _axis(subject: Subject, least: tuple[int, ...], axis: int, span: _Span) -> Axis:
    """Return the geometry along one axis, from an image long enough to have an inside."""
    period = span.period
    size = least[axis] + (max(256, min(span.field, LONGEST_PX // 2)) // period) * period
    while size <= LONGEST_PX:
        start = (*least[:axis], size, *least[axis + 1 :])
        base = subject.record(start)
        longer = _recorded(subject, start, axis, period, base)
        with _on_cpu():
            found = sweep(base, longer, axis=axis, period=period)
        if found is None:
            raise _no_map(subject.net, base)
        phases = _phases(*found, period)
        borders = _borders(found[0], phases, size, period) if phases else None
        if borders:
            return Axis(period=period, phases=phases, residue=0, legal=(), borders=borders)
        if phases and size > 4 * max(p.stop - p.start for p in phases):
            raise _refused(
                subject.net,
                "the border of the image",
                f"at the border it reads what lies on the far side of the image along axis {axis} "
                "(it wraps around, as circular padding does)",
                "pad with zeros or by reflection",
                WHOLE,
            )
        size = least[axis] + (2 * size // period + 1) * period
    raise _refused(
        subject.net,
        "field",
        f"its field is larger than {LONGEST_PX} px along axis {axis}, if it ends at all",
        WHOLE,
    )


def _check_settings(program: Program, longer: Program, where: str) -> None:
    different = same_settings(program, longer)
    if different:
        call, name = different
        raise _refused_call(
            call,
            f"its `{name}` is computed from the size of the image {where}, so it is another one in "
            "a window",
            "let it be a constant",
            WHOLE,
        )


def _borders(
    reach: Reach, phases: tuple[Phase, ...], size: int, period: int
) -> tuple[int, int] | None:
    """Return how long windows at the image's start and end must be; None if the image is too short.

    Units at the border may need more than their phase says: what padding copies lies inside.
    """
    _, _, first, last = reach.parts.reshape(4, -1).tolist()
    head = tail = 0
    for i, (begin, end) in enumerate(zip(first, last, strict=True)):
        turn, r = divmod(i, len(phases))
        if abs(end) < NOTHING // 2 and -end > phases[r].last + turn * period:
            head = max(head, -end)
        if abs(begin) < NOTHING // 2 and begin < phases[r].first + turn * period:
            tail = max(tail, size - begin)
    return (head, tail) if max(head, tail) <= size // 2 else None


def _on_cpu() -> AbstractContextManager[Any]:
    """Make tensors on the CPU; free of cost where that is so anyway."""
    cpu = torch.device("cpu")
    return nullcontext() if torch.get_default_device() == cpu else cpu


def _refused_call(call: Call, why: str, *remedies: str) -> NotLocalError:
    return NotLocalError.at(
        module=call.module,
        module_class=call.module_class,
        operator=str(call.op),
        why=why,
        remedies=remedies,
    )


def _px(shape: Sequence[int]) -> str:
    return f"{' x '.join(map(str, shape))} px"


def _refused(net: nn.Module, operator: str, why: str, *remedies: str) -> NotLocalError:
    """Return the error of a network as a whole, for which no single module is to blame."""
    return NotLocalError.at(
        module="",
        module_class=type(net).__name__,
        operator=operator,
        why=why,
        remedies=remedies,
    )


def _no_map(net: nn.Module, program: Program) -> NotLocalError:
    return _refused(
        net,
        str(program.calls[-1].op) if program.calls else "none",
        "the axes of its output do not grow with those of the image, one with each",
        "return a map (batch, classes, *map)",
        WHOLE,
    )


def _phases(reach: Reach, units: int, period: int) -> tuple[Phase, ...]:
    """Return the phases of a map from one period in its middle; none if the border is everywhere."""
    start, stop, first, last = reach.parts.reshape(4, -1).tolist()
    length = len(start)
    whole = [
        q
        for q in range(length // units)
        if all(
            abs(first[i]) < NOTHING // 2 and abs(last[i]) < NOTHING // 2
            for i in range(q * units, (q + 1) * units)
        )
    ]
    if not whole:
        return ()
    q = whole[len(whole) // 2]
    moved = q * period
    return tuple(
        _phase(start[i] - moved, -stop[i] - moved, first[i] - moved, -last[i] - moved)
        for i in range(q * units, (q + 1) * units)
    )


def _phase(start: int, stop: int, first: int, last: int) -> Phase:
    """Return a phase; a unit that depends on no pixel has an empty field where it lies."""
    if start > NOTHING // 2:
        start = stop = first
    return Phase(start=start, stop=stop, first=min(first, start), last=max(last, stop))
