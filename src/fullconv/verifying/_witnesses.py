"""The witnesses: each compares what the geometry claims with what the network does.

None of them reads the network's operators. They run it: with pixels poisoned, on windows, backward,
and on cropped patches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

import torch
from torch import Tensor, nn

from fullconv.geometry import Box, Window
from fullconv.verifying._blame import first_difference
from fullconv.verifying._certificate import Finding
from fullconv.verifying._trial import TOLERANCE, Trial

NUM_WINDOWS = 12
NUM_PATCHES = 8
MAX_FOOTPRINTS = 12
LARGE = 1e3  # beside pixels of about 1

FOOTPRINT = "footprint of units"
WINDOWS = "random windows against the whole map"
GRADIENTS = "gradients of random units, windowed against plain autograd"
PATCHES = "cropped patches"


def footprint(trial: Trial) -> Finding:
    """Poison all pixels outside a unit's field, and the outermost ones inside it.

    Outside, large numbers must leave the unit as it is; inside, NaN must reach it, whatever the
    weights. (NaN outside would prove nothing: interpolation reads it with a weight of zero.)
    """
    cases, worst, detail = 0, 0.0, ""
    for unit in _units(trial):
        for error, fault in _faults(trial, unit):
            cases, worst = cases + 1, max(worst, error)
            if error > TOLERANCE and not detail:
                detail = f"unit {unit} {fault}; its field is {trial.geometry.field_of(unit)}"
    return Finding(witness=FOOTPRINT, cases=cases, error=worst, passed=not detail, detail=detail)


def _units(trial: Trial) -> Iterator[tuple[int, ...]]:
    """Yield units: every phase in the middle (up to a few), the first and the last."""
    middle = tuple(m // 2 for m in trial.map_shape)
    most = max(axis.units for axis in trial.geometry.axes)
    step = max(1, -(-most // (MAX_FOOTPRINTS - 2)))
    for r in range(0, most, step):
        yield tuple(min(c + r, m - 1) for c, m in zip(middle, trial.map_shape, strict=True))
    yield (0,) * len(middle)
    yield tuple(m - 1 for m in trial.map_shape)


def _faults(trial: Trial, unit: tuple[int, ...]) -> Iterator[tuple[float, str]]:
    """Yield, for each way to poison pixels, how wrong the unit is, and what that would mean."""
    field = trial.geometry.field_of(unit)
    error = _change(trial, unit, _poisoned_outside(trial, field))
    yield error, "depends on pixels outside its field"
    for axis, size in enumerate(trial.shape):
        a, b = field.start[axis], field.stop[axis]
        for row in {a, b - 1} & set(range(size)) if a < b else ():
            error = float(_change(trial, unit, _poisoned_row(trial, axis, row)) < float("inf"))
            yield error, f"does not depend on pixel {row} of axis {axis}"


def _poisoned_outside(trial: Trial, field: Box) -> Tensor:
    """Return the image with all pixels but those of a field overwritten.

    Past the border lies padding, which may copy pixels from inside: where a field reaches past it,
    only the two rows of pixels beside the field are overwritten.
    """
    image = torch.full_like(trial.image, LARGE)
    if Box.whole(trial.shape).contains(field):
        image[(slice(None), *field.slices)] = trial.image[(slice(None), *field.slices)]
        return image
    image = trial.image.clone()
    for axis, size in enumerate(trial.shape):
        for row in {field.start[axis] - 1, field.stop[axis]} & set(range(size)):
            image.select(axis + 1, row).fill_(LARGE)
    return image


def _poisoned_row(trial: Trial, axis: int, row: int) -> Tensor:
    image = trial.image.clone()
    image.select(axis + 1, row).fill_(float("nan"))
    return image


def _change(trial: Trial, unit: tuple[int, ...], image: Tensor) -> float:
    """Return by how much a unit differs on another image, relative to the map; infinite for NaN."""
    place = (slice(None), *unit)
    difference = (trial.map_of(image)[place] - trial.whole[place]).abs()
    return float("inf") if bool(difference.isnan().any()) else float(difference.max()) / trial.scale


def windows(trial: Trial) -> Finding:
    """Run the network on the windows of random boxes of units, and compare with the whole map."""
    worst, detail = 0.0, ""
    for n in range(NUM_WINDOWS):
        window = trial.geometry.window(trial.box(1.0 if n % 3 else 0.1), trial.shape)
        error, problem = _compared(trial, window)
        worst = max(worst, error)
        detail = detail or problem
    return Finding(
        witness=WINDOWS,
        cases=NUM_WINDOWS,
        error=worst,
        passed=not detail,
        detail=detail,
    )


def _compared(trial: Trial, window: Window) -> tuple[float, str]:
    """Return the relative error of a window, and where it first goes wrong."""
    try:
        part = trial.part(window)
    except (RuntimeError, ValueError) as error:
        return 1.0, f"the network does not take the window {window.reads}: {error}"
    expected = trial.whole[(slice(None), *window.units.slices)]
    if part.shape != expected.shape:
        return (
            1.0,
            f"the window {window.reads} gives {tuple(part.shape)} for {tuple(expected.shape)}",
        )
    difference = (part - expected).abs().amax(0)
    error = float(difference.max()) / trial.scale
    if error <= TOLERANCE:
        return error, ""
    place = torch.unravel_index(difference.argmax(), difference.shape)
    unit = tuple(int(p) + a for p, a in zip(place, window.units.start, strict=True))
    return error, (
        f"unit {unit} in the window {window.reads.start} to {window.reads.stop} is off by "
        f"{error:.1e} of the largest value; {first_difference(trial, window)}"
    )


def gradients(trial: Trial) -> Finding:
    """Sum over random units: gradients gathered window by window, against plain autograd."""
    named = dict(trial.net.named_parameters())
    if not named:
        return Finding(witness=GRADIENTS, cases=0, error=0.0, passed=True, detail="no weights")
    chosen = torch.rand(trial.map_shape, generator=trial.generator) < 0.3
    factors = torch.randn(trial.whole.shape, generator=trial.generator, dtype=torch.float64)
    factors *= chosen
    expected = _gradients((trial.net(trial.image[None])[0] * factors).sum(), list(named.values()))
    try:
        found = _gathered(trial, factors, list(named.values()))
    except (RuntimeError, ValueError) as error:
        detail = f"the network does not take a window: {error}"
        return Finding(witness=GRADIENTS, cases=1, error=1.0, passed=False, detail=detail)
    errors = [_relative(f, e) for f, e in zip(found, expected, strict=True)]
    worst = max(errors)
    detail = "" if worst <= TOLERANCE else f"first off at `{list(named)[_first(errors)]}`"
    return Finding(
        witness=GRADIENTS, cases=len(named), error=worst, passed=not detail, detail=detail
    )


def _gradients(loss: Tensor, parameters: list[nn.Parameter]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)


def _gathered(trial: Trial, factors: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    """Return the gradients of the windows of a cover, added up."""
    totals = [torch.zeros_like(p) for p in parameters]
    for box in _halves(Box.whole(trial.map_shape), trial):
        window = trial.geometry.window(box, trial.shape)
        part = trial.net(trial.image[(slice(None), *window.reads.slices)][None])[0]
        owned = part[(slice(None), *window.inside.slices)]
        loss = (owned * factors[(slice(None), *box.slices)]).sum()
        for total, grad in zip(totals, _gradients(loss, parameters), strict=True):
            total += grad
    return totals


def _first(errors: list[float]) -> int:
    return next(n for n, error in enumerate(errors) if error > TOLERANCE)


def _relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm().clamp_min(1e-12))


def _halves(box: Box, trial: Trial) -> Iterator[Box]:
    """Yield boxes that cut the map once along every axis, at random places."""
    boxes = [box]
    for axis, size in enumerate(box.shape):
        cut = box.start[axis] + trial.draw(size)
        boxes = [half for b in boxes for half in _cut(b, axis, cut)]
    yield from boxes


def _cut(box: Box, axis: int, place: int) -> Iterator[Box]:
    for a, b in ((box.start[axis], place), (place, box.stop[axis])):
        if a < b:
            yield Box(
                start=(*box.start[:axis], a, *box.start[axis + 1 :]),
                stop=(*box.stop[:axis], b, *box.stop[axis + 1 :]),
            )


def patches(trial: Trial) -> Finding:
    """Crop the patches or fields of random units out of the image: seen alone they give the same answer.

    A network that knows its patch (``meta["patch"]``, as one made from a classifier does) is held against
    the patches that its units stand for. Where units need more than their patches, the difference is
    told, and is no fault. All others are held against fields, unless those reach past the image.
    """
    patch = _known_patch(trial)
    if patch is None and _reach_past(trial):
        return Finding(
            witness=PATCHES, cases=0, error=0.0, passed=True,
            detail="fields reach past the image, so a cropped field is another image",
        )  # fmt: skip
    error = max(_error_of_crop(trial, patch) for _ in range(NUM_PATCHES))
    if patch is not None and not _hold_what_units_need(trial, patch):
        detail = f"measured, not required: {_why_not(trial, patch)}"
        return Finding(witness=PATCHES, cases=NUM_PATCHES, error=error, passed=True, detail=detail)
    crop = "field" if patch is None else "patch"
    detail = "" if error <= TOLERANCE else f"a unit differs from the network on its cropped {crop}"
    return Finding(
        witness=PATCHES, cases=NUM_PATCHES, error=error, passed=not detail, detail=detail
    )


def _known_patch(trial: Trial) -> tuple[int, ...] | None:
    """Return the patch that units stand for, if the network knows one and the image holds it."""
    patch: tuple[int, ...] | None = getattr(trial.net, "meta", {}).get("patch")
    fits = patch and all(a <= b for a, b in zip(patch, trial.shape, strict=True))
    whole = all(Fraction(stride).denominator == 1 for stride in trial.geometry.stride)
    return patch if fits and whole else None


def _reach_past(trial: Trial) -> bool:
    """Return whether units see past the image, or need more of it than their fields."""
    first, last = (0,) * len(trial.map_shape), tuple(m - 1 for m in trial.map_shape)
    phases = [phase for axis in trial.geometry.axes for phase in axis.phases]
    more = any(phase.first < phase.start for phase in phases)
    return more or any(trial.geometry.sees_padding(unit, trial.shape) for unit in (first, last))


def _hold_what_units_need(trial: Trial, patch: tuple[int, ...]) -> bool:
    """Return whether all that a unit needs lies in its patch."""
    return all(
        r * axis.stride <= phase.first and phase.last <= r * axis.stride + size
        for axis, size in zip(trial.geometry.axes, patch, strict=True)
        for r, phase in enumerate(axis.phases)
    )


def _error_of_crop(trial: Trial, patch: tuple[int, ...] | None) -> float:
    """Return how far a random unit is from the network on its patch, or on its field."""
    if patch is None:
        unit = tuple(trial.draw(m - 1) for m in trial.map_shape)
        box = trial.geometry.field_of(unit).slices
    else:
        steps = [int(stride) for stride in trial.geometry.stride]
        most = [(n - p) // s for n, p, s in zip(trial.shape, patch, steps, strict=True)]
        unit = tuple(trial.draw(m) for m in most)
        starts = [u * s for u, s in zip(unit, steps, strict=True)]
        box = tuple(slice(a, a + p) for a, p in zip(starts, patch, strict=True))
    alone = trial.map_of(trial.image[(slice(None), *box)])  # may have lost its axes of one unit
    found = alone.reshape(len(alone), -1)[:, 0]
    return float((found - trial.whole[(slice(None), *unit)]).abs().max()) / trial.scale


def _why_not(trial: Trial, patch: tuple[int, ...]) -> str:
    """Return why a unit and its patch differ, as far as the network knows it."""
    shown = " x ".join(map(str, patch))
    known: tuple[str, ...] = getattr(trial.net, "meta", {}).get("beside", ())
    return f"a cropped patch of {shown} px " + (
        " and ".join(known) or "does not hold all that its unit needs"
    )


WITNESSES: dict[str, Callable[[Trial], Finding]] = {
    FOOTPRINT: footprint,
    WINDOWS: windows,
    GRADIENTS: gradients,
    PATCHES: patches,
}
