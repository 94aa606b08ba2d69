"""What to choose among regimes, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

from fullconv.errors import FullconvError, NotLocalError
from fullconv.geometry import Box
from fullconv.planning._regimes import Draft, RegimePlan, smallest
from fullconv.planning._rehearsal import rehearse_step
from fullconv.planning._words import amount, enough, ratio, times
from fullconv.tracing import hollow, trace

PRECISIONS = {"32": "float32", "bf16": "bf16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to do.

    Attributes:
        regime: Name of the regime.
        batch: Images of a step, at most.
        peak_bytes: What such a step takes.
        words: The same in one line, with the reason.
    """

    regime: str
    batch: int
    peak_bytes: int
    words: str


def choose(
    draft: Draft,
    regimes: Sequence[RegimePlan],
    most: int,
    taken: Callable[[int], int],
    patch: int | None,
) -> Choice:
    """Return what to do: whole images at once if they fit, else through windows.

    Args:
        draft: What regimes have in common.
        regimes: Their plans; the first is that of whole images.
        most: Whole images that fit into one step.
        taken: The bytes that a step over so many whole images takes.
        patch: Pixels of the sub-image that one unit needs; None if not known.

    Raises:
        FullconvError: If nothing fits; the message says what would.
    """
    assert draft.memory is not None
    batch = regimes[0].images
    kind = PRECISIONS[draft.stage.manner.precision]
    if most >= batch:
        peak = taken(most)
        words = f"whole images, up to {most} in a step, {kind}: {_of(peak, draft.memory)}"
        return Choice(
            regime="whole", batch=most, peak_bytes=peak, words=words + _against(draft, patch)
        )
    streamed = next(r for r in regimes if r.name == "streamed")
    if streamed.refusal:
        raise FullconvError(_nothing_fits(draft, batch, taken(batch), most))
    how = _how(streamed, "through")
    extra = streamed.operations / regimes[0].operations
    words = (
        f"whole images, {how}, {streamed.images} in a step, {kind}: "
        f"{_of(streamed.peak_bytes, draft.memory)}, for {ratio(extra)} times the operations; at once "
        f"they would take {amount(taken(batch))}"
    )
    return Choice(
        regime="streamed",
        batch=streamed.images,
        peak_bytes=streamed.peak_bytes,
        words=words + _against(draft, patch),
    )


def patch_px(draft: Draft) -> int | None:
    """Return the pixels of the window of one unit in the middle of the map; None if not finite."""
    try:
        geometry = draft.planner.geometry(draft.shape[0], draft.sides)
    except FullconvError:
        try:
            geometry = trace(hollow(draft.net).eval(), draft.shape[0], shape=draft.sides)
        except FullconvError:
            return None
    middle = tuple(size // 2 for size in draft.map_shape)
    unit = Box(start=middle, stop=tuple(m + 1 for m in middle))
    return geometry.window(unit, draft.sides).reads.size


def _against(draft: Draft, patch: int | None) -> str:
    """Return what patches would compute, one for each unit."""
    if patch is None:
        return ""
    more = patch * prod(draft.map_shape) / prod(draft.sides)
    return f"; a patch for each unit would compute {ratio(more)} times the pixels"


def _of(peak: int, memory: int) -> str:
    return f"{amount(peak)} of {amount(memory)}"


def _how(streamed: RegimePlan, through: str) -> str:
    """Return how images go through the network in parts."""
    if streamed.rows is not None:
        return f"{streamed.rows} rows at a time"
    return f"{through} windows of {times(max((w.shape for w in streamed.windows), key=prod))} px"


def _nothing_fits(draft: Draft, batch: int, at_once: int, most: int) -> str:
    """Return why nothing fits, the least that would, and what else would help.

    Args:
        draft: What regimes have in common.
        batch: Images of a step.
        at_once: The bytes that it takes over them at once.
        most: Whole images that fit into one step.
    """
    assert draft.memory is not None
    fewer = f"; or take `batch` = {most}, which fits" if most else ""
    head = (
        f"`memory` must hold a training step, got {amount(draft.memory)} where weights, gradients "
        f"(of a part and their sum) and the optimiser's state alone take {amount(draft.standing)}"
    )
    whole = _memory_for(draft, at_once)
    try:
        streamed = smallest(draft, batch)
        least = _memory_for(draft, streamed.peak_bytes)
        if least < whole:
            return f"{head}: the least that works is {enough(least)}, {_how(streamed, 'in')}{fewer}"
        why = ""
    except NotLocalError as error:
        why = f"; windows would do with less, but {error}"
    half = replace(draft.stage.manner, precision="bf16")
    course = rehearse_step(draft.net, draft.shape, batch=batch, manner=half).course
    other = _memory_for(draft, draft.gauge.taken(course))
    images = "one whole image" if batch == 1 else f"{batch} whole images"
    in_half = f", or {enough(other)} in bf16" if other < whole else ""
    return f"{head}: the least that works is {enough(whole)}, for {images}{in_half}{fewer}{why}"


def _memory_for(draft: Draft, taken: int) -> float:
    """Return the memory with which a step of so many bytes fits; `Gauge.usable` is a byte off at most."""
    return draft.gauge.needed(taken + 2)
