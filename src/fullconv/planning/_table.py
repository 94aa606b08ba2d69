"""A plan as tables."""

from __future__ import annotations

import random
from io import StringIO
from math import ceil
from typing import TYPE_CHECKING

from fullconv.planning._words import amount, count, duration, ratio, times

_STATE = random.getstate()  # Rich draws a number when it is imported; the caller's stay as they are
from rich.console import Console
from rich.table import Table

random.setstate(_STATE)

if TYPE_CHECKING:
    from fullconv.planning._plan import Plan
    from fullconv.planning._regimes import RegimePlan

WIDTH = 110
LAYERS = 8  # that keep most are named
COLUMNS = ("regime", "images", "windows", "px", "px/term", "operations", "peak", "step", "epoch")
ITEMS = {
    "parameters": "weights",
    "gradients": "gradients",
    "optimizer": "optimiser's state",
    "data": "images and labels",
    "saved": "saved activations",
    "workspace": "workspace",
}


def table(plan: Plan) -> str:
    """Return a plan as text."""
    text = StringIO()
    console = Console(file=text, width=WIDTH, highlight=False)
    for part in parts(plan):
        console.print(part, soft_wrap=isinstance(part, str))
    return text.getvalue().rstrip()


def parts(plan: Plan) -> list[Table | str]:
    """Return a plan as lines and tables, for a console."""
    refusals = [f"{r.name}: {r.refusal}" for r in plan.regimes if r.refusal]
    unmeasured = [f"no small step was measured: {plan.unmeasured}"] if plan.unmeasured else []
    return [
        _title(plan),
        _memory(plan),
        _layers(plan),
        _regimes(plan),
        *refusals,
        *unmeasured,
        plan.recommendation,
    ]


def _title(plan: Plan) -> str:
    images = f"{plan.batch} image{'s' if plan.batch > 1 else ''} of {times(plan.shape)} px"
    return (
        f"{plan.network} with {plan.parameters:,} weights, {plan.precision}, {plan.optimizer}, "
        f"{plan.device}; {images} ({amount(plan.image_bytes)} each), map {times(plan.map_shape)}"
    )


def _memory(plan: Plan) -> Table:
    found = Table("memory of a step", "in all", "when it takes most")
    wholes = {
        "parameters": plan.parameter_bytes,
        "gradients": plan.gradient_bytes,
        "optimizer": plan.optimizer_bytes,
        "saved": plan.saved_bytes,
    }
    for key, name in ITEMS.items():
        there = amount(wholes[key]) if key in wholes else ""
        found.add_row(name, there, amount(getattr(plan.bill, key)))
    found.add_section()
    found.add_row("peak", "", f"{amount(plan.peak_bytes)} ± {100 * plan.error:.0f} %")
    found.add_row("peak of a prediction", "", amount(plan.forward_bytes))
    found.add_row("largest step", "", f"{plan.largest_batch} whole images")
    return found


def _layers(plan: Plan) -> Table:
    found = Table("layer", "class", "keeps for backward")
    ranked = sorted(plan.layers, key=lambda layer: -layer.saved_bytes)
    for layer in ranked[:LAYERS]:
        name = layer.module or "(itself, and the loss)"
        found.add_row(name, layer.kind, amount(layer.saved_bytes))
    rest = ranked[LAYERS:]
    if rest:
        found.add_row(f"{len(rest)} others", "", amount(sum(r.saved_bytes for r in rest)))
    return found


def _regimes(plan: Plan) -> Table:
    found = Table(*COLUMNS)
    for regime in plan.regimes:
        found.add_row(*_row(regime))
    return found


def _row(regime: RegimePlan) -> tuple[str, ...]:
    if regime.refusal:
        return regime.name, *("-" for _ in COLUMNS[1:])
    epoch = "-" if regime.epoch_seconds is None else duration(regime.epoch_seconds)
    return (
        regime.name,
        str(regime.images),
        _windows(regime),
        count(regime.pixels),
        ratio(regime.pixels_per_term),
        count(regime.operations),
        amount(regime.peak_bytes),
        duration(regime.seconds),
        epoch,
    )


def _windows(regime: RegimePlan) -> str:
    """Return what goes through the network at once, and how often."""
    largest = max(regime.windows, key=lambda w: w.shape).shape
    num = sum(w.count for w in regime.windows)
    if regime.rows is None:
        return f"{num} of {times(largest)}"
    return f"{num * ceil(largest[0] / regime.rows)} of {regime.rows} rows"
