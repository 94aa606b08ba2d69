"""After how many pixels a network repeats: from how much each value grows with the image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm, prod

import torch

from fullconv.errors import NotLocalError
from fullconv.tracing._paths import NO_OPERATOR, OTHER_PATH, recorded
from fullconv.tracing._program import LOOPS, Call, Program, Value
from fullconv.tracing._rules import WHOLE
from fullconv.tracing._subject import Subject

# By how much an image is lengthened to see the stride of every layer: a multiple of most strides.
LENGTHENINGS = (2**6 * 3**2 * 5, 2**6 * 3**2 * 5 * 7 * 11 * 13, 2**12 * 3**4 * 5**3)
# So many periods more (a prime), and what grows by fractions of a position in each shows it; as many
# as fit into so many px.
MANY_PERIODS = (131_071, 1009, 101, 17, 3)
FAR_PX = 2**20
# Where a size is rounded to a multiple that no layer's stride tells, the period is a multiple of it.
MULTIPLES = (1, 2, 3, 4)
UNEVEN = "its size does not grow evenly"
# A field larger than this is taken for one that never ends.
LONGEST_PX = 40_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """How the network repeats along one axis.

    Attributes:
        period: Pixels after which every layer's grid repeats.
        longer: The program on an image much longer along the axis.
        field: A guess of the field, in px: what all its windows read, one after the other.
    """

    period: int
    longer: Program
    field: int


def span_of(subject: Subject, start: tuple[int, ...], axis: int, base: Program) -> Span:
    """Return how the network repeats along an axis: from how much each value grows with the image."""
    refused: NotLocalError | None = None
    for more in LENGTHENINGS:
        try:
            longer = recorded(subject, start, axis, more, base)
            _check_squares(base, longer, recorded(subject, start, axis, 2 * more, base))
            period = _repeating(subject, base, longer, more, axis)
        except NotLocalError as error:
            if error.why == LOOPS[0]:
                raise
            # Perhaps a period that does not divide the lengthening, or sizes that it does not take.
            refused = max(refused or error, error, key=_weight)
            continue
        return Span(period=period, longer=longer, field=_guessed_field(base, longer, axis, more))
    assert refused
    raise refused


def _repeating(subject: Subject, base: Program, longer: Program, more: int, axis: int) -> int:
    """Return after how many px the network repeats along an axis, as seen on a much longer image."""
    least = _period(base, longer, more)
    for period in (least * n for n in MULTIPLES if n == 1 or least * n <= LONGEST_PX):
        times = next((n for n in MANY_PERIODS if n * period <= FAR_PX), MANY_PERIODS[-1])
        try:
            far = recorded(subject, base.image.shape[2:], axis, times * period, base)
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
            raise call.refused(
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
                raise call.refused(f"{UNEVEN} with axis {axis} of the image", WHOLE)


def _guessed_field(base: Program, longer: Program, axis: int, more: int) -> int:
    """Return about how many pixels all windows of the network read, one after the other."""
    total = 0
    for one, other in zip(base.calls, longer.calls, strict=True):
        if not one.inputs or len(one.inputs[0].shape) <= axis + 2:
            continue
        grown = other.inputs[0].shape[axis + 2] - one.inputs[0].shape[axis + 2]
        if grown > 0:
            total += _kernel(one, axis) * more // grown
    return total


def _kernel(call: Call, axis: int) -> int:
    """Return the size of the window that a call slides along an axis; 0 if it slides none."""
    if call.op is torch.ops.aten.unfold.default:
        return call.args["size"] * (call.args["dimension"] == axis + 2)
    sizes = call.args["weight"].shape[2:] if "transposed" in call.args else ()
    sizes = sizes or call.args.get("kernel_size") or [0]
    return sizes[min(axis, len(sizes) - 1)]


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
            raise call.refused(
                f"from here on the network repeats only every {period} px along axis {axis}, and so "
                "long would a window have to be",
                WHOLE,
            )
