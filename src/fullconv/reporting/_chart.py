"""Line charts that stay legible at any width.

The lines are SVG stretched over the plot, with strokes that do not scale; the words are HTML laid
over it at a share of its width and height, so that they keep their size on a phone. Positions
inside a plot are shares between 0 and 1, from the left and from the bottom; the SVG counts them in
thousandths from the top.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal

import numpy as np
from markupsafe import Markup

from fullconv.reporting._record import Column
from fullconv.reporting._section import css, joined

GRAIN = 1000  # SVG units along each side of a plot
Look = Literal["raw", "mean", "held-out", "baseline"]
POINTS = 300  # a line of more points than a plot has px is not seen


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis of a plot: `low` to `high` in data units, and where its labelled ticks stand."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def place(self, values: Column) -> Column:
        """Return values as shares of the axis."""
        low, high = self.low, self.high
        if self.log:
            values, low, high = np.log(values), math.log(low), math.log(high)
        return (values - low) / (high - low)


@dataclass(frozen=True)
class Series:
    """One line of a chart, drawn as the style sheet says for its `look`, perhaps with dots."""

    x: Column
    y: Column
    _: KW_ONLY
    look: Look
    dots: bool = False


@dataclass(frozen=True, kw_only=True)
class Band:
    """A line of a given colour, with a band around it."""

    x: Column
    mean: Column
    low: Column
    high: Column
    colour: tuple[int, int, int]


def linear_axis(low: float, high: float, write: Callable[[float], str], num: int = 5) -> Axis:
    """Return an axis over at least ``[low, high]`` with round ticks, at most `num` + 1 of them."""
    span = high - low if high > low else abs(high) or 1.0
    step = _round_step(span / num)
    first, last = math.floor(low / step), math.ceil(max(high, low + step) / step)
    ticks = tuple((i * step, write(i * step)) for i in range(first, last + 1))
    return Axis(low=first * step, high=last * step, ticks=ticks)


def tight_axis(high: float, write: Callable[[float], str], unit: float = 1.0) -> Axis:
    """Return an axis over exactly ``[0, high]``, with ticks at round multiples of `unit`."""
    high = high if high > 0 else unit
    step = unit * _round_step(high / unit / 5)
    inside = range(math.floor(high / step + 1e-9) + 1)
    return Axis(low=0, high=high, ticks=tuple((i * step, write(i * step)) for i in inside))


def log_axis(low: float, high: float) -> Axis:
    """Return a logarithmic axis from below `low` to above `high`, both positive."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    leads = (1, 2, 5) if len(decades) <= 3 else (1,)
    marks = [lead * 10.0**decade for decade in decades for lead in leads]
    below = max((mark for mark in marks if mark <= low), default=low)
    above = min((mark for mark in marks if mark >= high), default=high)
    ticks = tuple((mark, f"{mark:g}") for mark in marks if below <= mark <= above)
    return Axis(low=below, high=above, ticks=ticks, log=True)


def _round_step(step: float) -> float:
    """Return the next of 1, 2, 5, 10, 20 … that is at least `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(lead * power for lead in (1, 2, 5, 10) if lead * power >= step * (1 - 1e-9))


def thinned(x: Column, y: Column, points: int = POINTS) -> tuple[Column, Column]:
    """Return a line of at most `points` points: means over neighbours, where there are more."""
    if len(x) <= points:
        return x, y
    cuts = np.linspace(0, len(x), points + 1).astype(int)[:-1]
    sizes = np.diff([*cuts, len(x)])
    return np.add.reduceat(x, cuts) / sizes, np.add.reduceat(y, cuts) / sizes


def moving_mean(values: Column, width: int) -> Column:
    """Return the mean over `width` neighbours around each value, fewer at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    start, stop = np.maximum(at - width // 2, 0), np.minimum(at + width // 2 + 1, len(values))
    return (sums[stop] - sums[start]) / (stop - start)


def chart(
    *, title: str, told: str, x: Axis, y: Axis, series: Sequence[Series | Band], column: str
) -> Markup:
    """Return a chart.

    Args:
        title: What is drawn against what.
        told: The same in a sentence, for those who do not see it.
        x: The horizontal axis.
        y: The vertical axis.
        series: Lines, the last one on top.
        column: What is read off the horizontal axis: ``step`` or ``seconds``.
    """
    return Markup(
        '<figure class="chart"><figcaption>{}</figcaption>'
        '<div class="plot" role="img" aria-label="{}" data-column="{}" data-high="{}">'
        '<svg viewBox="0 0 {g} {g}" preserveAspectRatio="none" aria-hidden="true">{}{}</svg>'
        "{}{}</div></figure>"
    ).format(
        title,
        told,
        column,
        x.high,
        _grid(y),
        joined(_band(s, x, y) if isinstance(s, Band) else _line(s, x, y) for s in series),
        _labels(x, "left", "x"),
        _labels(y, "bottom", "y"),
        g=GRAIN,
    )


def _labels(axis: Axis, edge: str, look: str) -> Markup:
    places = axis.place(np.array([value for value, _ in axis.ticks]))
    return joined(
        Markup('<span class="tick {}" style="{}:{:.2f}%">{}</span>').format(
            look, edge, 100 * place, text
        )
        for place, (_, text) in zip(places, axis.ticks, strict=True)
    )


def _grid(y: Axis) -> Markup:
    heights = GRAIN * (1 - y.place(np.array([value for value, _ in y.ticks])))
    path = "".join(f"M0 {height:.1f}H{GRAIN}" for height in heights)
    return Markup('<path class="grid" d="{}"/>').format(path)


def _line(series: Series, x: Axis, y: Axis) -> Markup:
    across = np.round(GRAIN * x.place(series.x), 1)
    down = np.round(GRAIN * (1 - y.place(series.y)), 1)
    places = [f"{a:g} {d:g}" for a, d in zip(across, down, strict=True)]
    line = Markup('<path class="{}" d="M{}"/>').format(series.look, "L".join(places))
    if not series.dots and len(places) > 1:
        return line
    # A line of no length with round caps is a dot that the stretched plot does not flatten.
    dots = "".join(f"M{place}h0" for place in places)
    return line + Markup('<path class="{} dots" d="{}"/>').format(series.look, dots)


def _band(band: Band, x: Axis, y: Axis) -> Markup:
    across = np.round(GRAIN * x.place(band.x), 1)

    def places(values: Column) -> list[str]:
        down = np.round(GRAIN * (1 - y.place(values)), 1)
        return [f"{a:g} {d:g}" for a, d in zip(across, down, strict=True)]

    edge = "L".join([*places(band.low), *reversed(places(band.high))])
    return Markup(
        '<path class="band" style="fill:{0}" d="M{1}Z"/><path style="stroke:{0};stroke-width:2" d="M{2}"/>'
    ).format(css(band.colour), edge, "L".join(places(band.mean)))
