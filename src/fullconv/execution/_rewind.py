"""How to run down an image and back within a memory: how many rows at a time, how often to keep the state."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from fullconv.execution._memory import WORKSPACE
from fullconv.execution._rolling import Pass, passes, readers_of
from fullconv.tracing import Stages, Value

# Rows that a pass may read. Fewer take less memory, and more calls.
ROWS = (128, 64, 32, 16)
# Forward passes over the image, where each pass is one and a backward takes two: down, and back with
# its gradient; and once more where the states between those kept are made again.
PASSES, PASSES_AGAIN = 4.0, 5.0
# What a pass takes, forward and backward, of what it makes and joins: gradients on their way, scratch
# space, the loss. With that and `WORKSPACE` for states, steps of a U-Net over 2048 and 4096 px per side
# took 0.87 to 1.01 of what was said, at 32 to 128 rows.
PASS_WORKSPACE = 1.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewind:
    """How to run down an image and back.

    Attributes:
        rows: Rows of the image that a pass reads.
        every: Passes from one state that is kept on the way down to the next.
    """

    rows: int
    every: int

    @property
    def cost(self) -> float:
        """How often the operations of a forward pass are done."""
        return PASSES if self.every == 1 else PASSES_AGAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class _Leg:
    """The bytes of one pass.

    Attributes:
        made: That its stages make.
        joined: Copied where rows of two passes are joined.
        left: Of the state that it leaves.
    """

    made: float
    joined: float
    left: float


def rewind_within(found: Stages, kept_bytes: float, memory: int) -> Rewind | None:
    """Return the fastest way down an image and back that fits a memory; None where none does.

    Args:
        found: The stages of the network for the image.
        kept_bytes: What a forward pass over the whole image keeps for its backward.
        memory: Bytes.
    """
    ways: dict[int, list[_Leg]] = {}
    for again in (False, True):
        for rows in ROWS:
            legs = ways[rows] = ways.get(rows) or _legs(found, rows)
            each = range(2, len(legs)) if again else (1,)
            taken = {every: _most(found, legs, every, kept_bytes) for every in each}
            best = min(taken, key=taken.__getitem__, default=None)
            if best is not None and taken[best] <= memory:
                return Rewind(rows=rows, every=best)
    return None


def rewind_bytes(found: Stages, plan: Rewind, kept_bytes: float) -> float:
    """Return the most that going down an image and back takes at once."""
    return _most(found, _legs(found, plan.rows), plan.every, kept_bytes)


def _most(found: Stages, legs: list[_Leg], every: int, kept_bytes: float) -> float:
    """Return the bytes of the pass that holds the most."""
    of_row = _bytes_of_row(found)
    whole = sum(of_row[v] * v.shape[found.dims[v]] for s in found.stages for v in s.outputs)
    before = [0.0, *(leg.left for leg in legs)]
    states = held = most = 0.0
    for number, leg in enumerate(legs):
        if number % every == 0:  # a state of the way down; those made again before it are gone
            states += before[number]
            held = states
        else:
            held += before[number]
        # What is left behind is joined, and has a gradient; so has what the pass started from.
        states_now = WORKSPACE * (held + 2 * leg.left + before[number])
        taken = PASS_WORKSPACE * (kept_bytes * leg.made / whole + leg.joined)
        most = max(most, states_now + taken)
    return most


def _legs(found: Stages, rows: int) -> list[_Leg]:
    """Return the bytes of each pass."""
    of_row, image = _bytes_of_row(found), found.program.image
    ready, first = dict.fromkeys(found.dims, 0), dict.fromkeys(found.dims, 0)
    read, legs = readers_of(found), list[_Leg]()
    for one in passes(found, rows):
        start = dict(ready)
        ready[image] = one.stop
        for run in one.runs:
            ready |= dict.fromkeys(run.stage.outputs, run.stop)
            first |= dict(run.dropped)
        left = sum(max(ready[v] - first[v], 0) * of_row[v] for v in read)
        legs.append(_Leg(made=_made(one, of_row), joined=_joined(one, start, of_row), left=left))
    return legs


def _made(one: Pass, of_row: dict[Value, float]) -> float:
    total = 0.0
    for run in one.runs:
        if run.stop > run.first:
            rows = max(run.stop - run.first, (run.reads[1] - run.reads[0]) * run.stage.scale)
            total += float(rows) * sum(of_row[v] for v in run.stage.outputs)
    return total


def _joined(one: Pass, start: dict[Value, int], of_row: dict[Value, float]) -> float:
    return sum(
        (run.reads[1] - run.reads[0]) * of_row[v]
        for run in one.runs
        if run.stop > run.first
        for v in run.stage.inputs
        if run.reads[0] < start[v]
    )


def _bytes_of_row(found: Stages) -> dict[Value, float]:
    return {v: v.dtype_bytes * prod(v.shape) / v.shape[d] for v, d in found.dims.items()}
