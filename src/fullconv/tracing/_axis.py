"""The geometry along one axis: phases from what the units of a map reach, borders from the rest."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from fullconv.errors import NotLocalError
from fullconv.geometry import Axis, Phase
from fullconv.tracing._paths import recorded
from fullconv.tracing._periods import LONGEST_PX, Span
from fullconv.tracing._program import Program
from fullconv.tracing._reach import NOTHING, Reach
from fullconv.tracing._rules import WHOLE
from fullconv.tracing._subject import Subject
from fullconv.tracing._sweep import sweep


def axis_of(subject: Subject, least: tuple[int, ...], axis: int, span: Span) -> Axis:
    """Return the geometry along one axis, from an image long enough to have an inside."""
    period = span.period
    size = least[axis] + (max(256, min(span.field, LONGEST_PX // 2)) // period) * period
    while size <= LONGEST_PX:
        start = (*least[:axis], size, *least[axis + 1 :])
        base = subject.record(start)
        longer = recorded(subject, start, axis, period, base)
        with on_cpu():
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
        size += max(1, size // period) * period
    raise _refused(
        subject.net,
        "field",
        f"its field is larger than {LONGEST_PX} px along axis {axis}, if it ends at all",
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


def on_cpu() -> AbstractContextManager[Any]:
    """Make tensors on the CPU; free of cost where that is so anyway."""
    cpu = torch.device("cpu")
    return nullcontext() if torch.get_default_device() == cpu else cpu


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
    """Return the phases of a map from one period in its middle.

    None if not two periods are clear of the border: that they are alike has not been seen then.
    """
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
    if len(whole) < 2:
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
