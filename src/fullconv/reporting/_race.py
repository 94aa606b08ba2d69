"""A page of curves of several regimes, each with a band over its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from fullconv.reporting import _words as words
from fullconv.reporting._chart import Band, chart, linear_axis, tight_axis
from fullconv.reporting._page import page
from fullconv.reporting._section import Section, joined, paragraph, swatch
from fullconv.runs import write_text

FIGURES = {"mean_iu": "Validation mean IU", "loss": "Validation loss"}
ACROSS = {"seconds": "seconds", "step": "steps", "images": "images (or sub-images)"}
# Distinct in hue and in lightness (after Okabe and Ito).
COLOURS = (
    (31, 95, 168), (192, 87, 23), (0, 130, 95), (200, 115, 165), (90, 100, 115), (150, 120, 0),
)  # fmt: skip
Floats = NDArray[np.float64]
Row = tuple[str, Sequence[float], float, float | None]


class _Curve(Protocol):
    @property
    def x(self) -> Floats: ...
    @property
    def mean(self) -> Floats: ...
    @property
    def low(self) -> Floats: ...
    @property
    def high(self) -> Floats: ...


@dataclass(frozen=True, kw_only=True)
class Race:
    """One chart: a figure of the regimes against steps, images or seconds."""

    figure: str
    across: str
    curves: Mapping[str, _Curve]


def write_race(
    path: Path, *, words: str, level: float, rows: Sequence[Row], races: Sequence[Race]
) -> None:
    """Write the page of a comparison.

    Args:
        path: Of the HTML file.
        words: The verdict.
        level: The mean IU that the regimes race to.
        rows: Name, final mean IU of each seed, steps, and seconds to the level, of each regime.
        races: The charts.
    """
    names = [row[0] for row in rows]
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    keys = joined(
        Markup('<span class="way">{} {}</span>').format(swatch(colours[n]), n) for n in names
    )
    legend = Markup('<p class="legend">{}</p>').format(keys)
    charts = Markup('<div class="charts">{}</div>').format(
        joined(_chart(race, colours) for race in races if race.curves)
    )
    note = paragraph("Lines are means over the seeds, bands reach from the least to the largest.")
    sections = [
        Section(anchor="verdict", title="Verdict", body=paragraph(words) + _table(rows, level)),
        Section(anchor="curves", title="Curves", body=joined([legend, charts, note])),
    ]
    text = page(
        title="Regimes compared", summary=", ".join(names), sections=sections, footer=str(path)
    )
    write_text(path, text)


def _table(rows: Sequence[Row], level: float) -> Markup:
    head = ("regime", "mean IU", "of each seed", "steps", f"seconds to {level:.2f} (validation)")
    cells = joined(Markup("<th>{}</th>").format(name) for name in head)
    body = joined(
        Markup("<tr><td>{}</td><td>{:.3f}</td><td>{}</td><td>{}</td><td>{}</td></tr>").format(
            name,
            float(np.mean(final)),
            ", ".join(f"{value:.3f}" for value in final),
            words.count(steps),
            words.NONE if reached is None else f"{reached:.0f}",
        )
        for name, final, steps, reached in rows
    )
    return Markup(
        '<div class="scroll"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
    ).format(cells, body)


def _chart(race: Race, colours: Mapping[str, tuple[int, int, int]]) -> Markup:
    bands = [Band(x=c.x, mean=c.mean, low=c.low, high=c.high, colour=colours[n])
             for n, c in race.curves.items()]  # fmt: skip
    high = max(float(band.high.max()) for band in bands)
    x = tight_axis(max(float(band.x[-1]) for band in bands), words.count)
    title = f"{FIGURES[race.figure]} against {ACROSS[race.across]}"
    ends = ", ".join(f"{name} {c.mean[-1]:.3f}" for name, c in race.curves.items())
    y = linear_axis(0, high, lambda value: f"{value:.3g}")
    return chart(
        title=title, told=f"{title}; at the end {ends}.", x=x, y=y, series=bands, column=race.across
    )
