"""The confusion matrix: for each true class, where its px went.

Few classes make a table with the numbers written in it. Many make a picture with one px per cell,
read with the pointer or the arrow keys, and both are followed by the largest mistakes in words.
"""

import json

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from fullconv.reporting import _words as words
from fullconv.reporting._pictures import png
from fullconv.reporting._record import Record
from fullconv.reporting._section import Section, css, joined, paragraph, swatch

WRITTEN = 20  # classes up to which the numbers fit in the cells
CROWDED = 12  # classes up to which they do so on a phone
NAMED = 40  # classes up to which rows and columns have room for names
LARGEST = 8  # mistakes told in words
RIGHT, WRONG, ABSENT = (31, 95, 168), (196, 72, 40), (238, 240, 243)

Matrix = NDArray[np.int64]


def confusion(record: Record) -> Section | None:
    """Return the confusion matrix, or None without evaluation."""
    if record.evaluation is None:
        return None
    matrix, names = record.evaluation.confusion, record.classes.names
    draw = _table if len(names) <= WRITTEN else _picture
    what = "Each row is a true class; its columns say what its px were predicted as"
    what += ", in per cent of the row and in px." if draw is _table else "."
    data = json.dumps({"names": names, "counts": matrix.tolist()}, separators=(",", ":"))
    body = joined(
        [
            paragraph(what),
            _scale(),
            draw(matrix, names),
            paragraph("Point at a cell, tap it, or walk there with the arrow keys.", "readout"),
            _mistakes(record, matrix),
            Markup('<script type="application/json" id="counts">{}</script>').format(
                Markup(data.replace("<", "\\u003c"))
            ),
        ]
    )
    return Section(anchor="confusion", title="Confusion matrix", body=body)


def shares_of(matrix: Matrix) -> NDArray[np.float64]:
    """Return each row as shares of its sum; NaN where the class never occurs."""
    sums = matrix.sum(axis=1, keepdims=True)
    return np.where(sums > 0, matrix / np.maximum(sums, 1), np.nan)


def colours_of(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the colour of each cell: blue on the diagonal, red off it, white for nothing.

    The depth of a colour is the root of the share, so that mistakes of 1 % are still seen.
    """
    full = np.where(np.eye(len(shares), dtype=bool)[..., None], RIGHT, WRONG)
    depth = np.sqrt(np.nan_to_num(shares))[..., None]
    mixed = 255 + depth * (full - 255)
    return np.where(np.isnan(shares)[..., None], ABSENT, mixed).round().astype(np.uint8)


def _scale() -> Markup:
    stops = np.array([0, 0.01, 0.1, 0.5, 1])
    rows = [255 + np.sqrt(stops)[:, None] * (np.array(c) - 255) for c in (RIGHT, WRONG)]
    keys = [
        Markup("<span>{}{}</span>").format(
            joined(swatch(colour.round().astype(int).tolist()) for colour in pair),
            f"{100 * stop:g} %",
        )
        for stop, *pair in zip(stops, *rows, strict=True)
    ]
    text = "Blue is right, red is wrong; depth is the share of the row:"
    return Markup('<p class="legend">{} {}</p>').format(text, joined(keys))


def _table(matrix: Matrix, names: tuple[str, ...]) -> Markup:
    shares = shares_of(matrix)
    colours = colours_of(shares)
    head = joined(Markup('<th scope="col"><span>{}</span></th>').format(name) for name in names)
    rows = joined(
        Markup('<tr><th scope="row"><span>{}</span></th>{}</tr>').format(
            name,
            joined(_cell(*cell) for cell in zip(shares[i], matrix[i], colours[i], strict=True)),
        )
        for i, name in enumerate(names)
    )
    look = "level" if len(names) <= 4 else "upright" + " crowded" * (len(names) > CROWDED)
    return Markup(
        '<table class="matrix {}" data-matrix tabindex="0"><thead><tr><th>true ↓ predicted →</th>{}</tr></thead>'
        "<tbody>{}</tbody></table>"
    ).format(look, head, rows)


def _cell(share: float, px: int, colour: NDArray[np.uint8]) -> Markup:
    ink = "#fff" if float(colour.mean()) < 160 else "var(--ink)"
    text = words.percent(share).removesuffix(" %") if px else ""
    return Markup('<td style="background:{};color:{}">{}<small>{}</small></td>').format(
        css(colour.tolist()), ink, text, words.brief(px) if px else ""
    )


def _picture(matrix: Matrix, names: tuple[str, ...]) -> Markup:
    url = png(colours_of(shares_of(matrix)))
    labels = joined(Markup("<span>{}</span>").format(name) for name in names)
    named = "named" if len(names) <= NAMED else "unnamed"
    return Markup(
        '<div class="heat {}"><div class="rows" aria-hidden="true">{}</div>'
        '<div class="columns" aria-hidden="true">{}</div>'
        '<img data-matrix tabindex="0" src="{}" alt="Confusion matrix of {} classes; '
        'its largest mistakes are listed below."></div>'
    ).format(named, labels, labels, url, len(names))


def _mistakes(record: Record, matrix: Matrix) -> Markup:
    wrong = matrix * ~np.eye(len(matrix), dtype=bool)
    places = np.argsort(-wrong, axis=None, kind="stable")[:LARGEST]
    pairs = [divmod(int(place), len(matrix)) for place in places if wrong.flat[place]]
    if not pairs:
        return Markup("")
    shares = shares_of(matrix)
    items = joined(
        Markup("<li>{}<b>{}</b> taken for {}<b>{}</b>: {} px, {} of its px</li>").format(
            swatch(record.classes.colours[i]),
            record.classes.names[i],
            swatch(record.classes.colours[j]),
            record.classes.names[j],
            words.brief(wrong[i, j]),
            words.percent(float(shares[i, j])),
        )
        for i, j in pairs
    )
    return Markup('<h3>Largest mistakes</h3><ol class="mistakes">{}</ol>').format(items)
