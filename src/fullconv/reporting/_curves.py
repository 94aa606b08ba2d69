"""Loss and mean IU against steps and against seconds."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from fullconv.reporting import _words as words
from fullconv.reporting._chart import (
    Axis,
    Look,
    Series,
    chart,
    linear_axis,
    log_axis,
    moving_mean,
    thinned,
    tight_axis,
)
from fullconv.reporting._record import Column, Record
from fullconv.reporting._section import Section, joined, paragraph
from fullconv.scoring import majority_baseline

LOG_FROM = 20  # a loss that falls by more than this factor is drawn on a logarithmic axis
SMOOTHING = 30  # the moving mean covers this part (1/30) of the logged steps
DOTS = 80  # a line of more points than this is drawn without marking each

Log = Mapping[str, Column]


@dataclass(frozen=True, kw_only=True)
class _Across:
    """A horizontal axis: which column it reads, what it is called, how it is written."""

    column: str
    title: str
    axis: Axis


def curves(record: Record) -> Section | None:
    """Return the learning curves, or None where no step was logged."""
    training, lost = _finite(record.steps, "loss")
    if not len(training["step"]):
        return None
    validation = _finite(record.validation, "loss")[0]
    scores = _finite(record.validation, "mean_iu")[0]
    horizontals = _horizontals(record)
    charts = joined(
        [
            *(_loss_chart(training, validation, across) for across in horizontals),
            *(_score_chart(scores, record, across) for across in horizontals),
        ]
    )
    grid = Markup('<div class="charts">{}</div>').format(charts)
    readings = _readings(training, scores, validation)
    body = joined([_legend(record), readings, grid, _notes(record, lost)])
    return Section(anchor="curves", title="Learning curves", body=body)


def _finite(log: Log, column: str) -> tuple[Log, int]:
    """Return the rows of a log whose `column` is a number, and how many are not."""
    if column not in log:
        return {"step": np.array([]), "seconds": np.array([]), column: np.array([])}, 0
    keep = np.isfinite(log[column])
    return {name: values[keep] for name, values in log.items()}, int((~keep).sum())


def _horizontals(record: Record) -> tuple[_Across, _Across]:
    steps = _last(record, "step")
    seconds = _last(record, "seconds")
    unit, name = next(
        (unit, name)
        for unit, name, least in ((3600, "hours", 7200), (60, "minutes", 120), (1, "seconds", 0))
        if seconds >= least
    )
    return (
        _Across(column="step", title="steps", axis=tight_axis(steps, words.count)),
        _Across(
            column="seconds",
            title=name,
            axis=tight_axis(seconds, lambda value: f"{round(value / unit, 3):g}", unit=unit),
        ),
    )


def _last(record: Record, column: str) -> float:
    ends = [
        log[column][-1] for log in (record.steps, record.validation) if len(log.get(column, ()))
    ]
    return float(max(ends, default=0.0))


def _loss_chart(training: Log, validation: Log, across: _Across) -> Markup:
    x, y = training[across.column], training["loss"]
    line = x, moving_mean(y, max(1, len(y) // SMOOTHING))
    series = [
        _series(x, y, "raw"),
        _series(*line, "mean", dots=len(y) == 1),
        _series(validation[across.column], validation["loss"], "held-out"),
    ]
    told = (
        f"The training loss goes from {line[1][0]:.3g} to {line[1][-1]:.3g} "
        f"along {across.axis.ticks[-1][1]} {across.title}."
    )
    drawn = [one for one in series if len(one.x)]
    axis = _loss_axis(np.concatenate([one.y for one in drawn]))
    scale = " (logarithmic)" if axis.log else ""
    title = f"Loss{scale} against {across.title}"
    return _drawn(across, title, told, axis, drawn)


def _series(x: Column, y: Column, look: Look, *, dots: bool = False) -> Series:
    marked = dots or (look == "held-out" and len(x) <= DOTS)
    return Series(*thinned(x, y), look=look, dots=marked)


def _loss_axis(losses: Column) -> Axis:
    low, high = float(losses.min()), float(losses.max())
    if low > 0 and high > LOG_FROM * low:
        return log_axis(low, high)
    return linear_axis(min(low, 0.0), high, lambda value: f"{value:.4g}")


def _score_chart(scores: Log, record: Record, across: _Across) -> Markup:
    x, y = scores[across.column], scores["mean_iu"]
    if not len(x):
        return Markup("")
    baseline = _baseline(record)
    level = [] if baseline is None else [baseline]
    edges = np.array([0.0, across.axis.high])
    series = [Series(edges, np.full(2, value), look="baseline") for value in level]
    series.append(_series(x, y, "held-out"))
    told = f"The validation mean IU ends at {y[-1]:.3f}; its highest value is {y.max():.3f}."
    axis = linear_axis(0, max([y.max(), *level]), lambda value: f"{value:.3g}")
    title = f"Validation mean IU against {across.title}"
    return _drawn(across, title, told, axis, series)


def _drawn(across: _Across, title: str, told: str, y: Axis, series: list[Series]) -> Markup:
    return chart(title=title, told=told, x=across.axis, y=y, series=series, column=across.column)


def _baseline(record: Record) -> float | None:
    """Return the mean IU of always answering the class most frequent in the validation split."""
    counts = record.data.counts.get("val")
    return majority_baseline(np.diag(counts)).mean_iu if counts and sum(counts) else None


def _legend(record: Record) -> Markup:
    keys = [("raw", "training, each logged step"), ("mean", "training, moving mean")]
    if len(record.validation.get("step", ())):
        keys += [("held-out", "validation split")]
        if _baseline(record) is not None:
            keys += [("baseline", "always answering the most frequent class")]
    items = joined(Markup('<span class="key {}">{}</span>').format(*key) for key in keys)
    return Markup('<p class="legend">{}</p>').format(items)


def _readings(training: Log, scores: Log, validation: Log) -> Markup:
    """Return what the pointer reads off the charts: one row per drawn moment, and its line."""
    steps, seconds = thinned(training["step"], training["seconds"])
    loss = thinned(training["step"], training["loss"])[1]
    known = [_known_at(steps, validation, "loss"), _known_at(steps, scores, "mean_iu")]
    rows = [
        [float(f"{value:.5g}") if np.isfinite(value) else None for value in row]
        for row in zip(steps, seconds, loss, *known, strict=True)
    ]
    data = Markup(json.dumps(rows, separators=(",", ":")))
    return Markup(
        '<script type="application/json" id="readings">{}</script>'
        '<p class="readout" id="reading">{}</p>'
    ).format(data, "Point at a chart to read that moment off all of them.")


def _known_at(steps: Column, log: Log, column: str) -> Column:
    """Return the newest value of a sparser log at each step, NaN before the first."""
    places = np.searchsorted(log["step"], steps, side="right")
    return np.concatenate([[np.nan], log[column]])[places]


def _notes(record: Record, lost: int) -> Markup:
    notes = list[str]()
    if lost:
        notes.append(f"At {words.plural(lost, 'step')} the loss was not a number; not drawn.")
    if not len(record.validation.get("step", ())):
        notes.append(
            "Training ended before the first validation."
            if record.data.splits.get("val")
            else "There is no validation split, so nothing was measured while training."
        )
    return joined(paragraph(note) for note in notes)
