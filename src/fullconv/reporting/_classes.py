"""IU, accuracy and frequency of each class on the held-out images."""

import math

import numpy as np
from markupsafe import Markup

from fullconv.reporting import _words as words
from fullconv.reporting._record import Record
from fullconv.reporting._section import Section, bar, css, folded_table, paragraph, swatch
from fullconv.scoring import score


def classes(record: Record) -> Section | None:
    """Return the table of classes, best first, or None without evaluation."""
    if record.evaluation is None:
        return None
    iu = record.evaluation.iu
    order = sorted(range(len(iu)), key=lambda i: (math.isnan(iu[i]), -words.or_zero(iu[i]), i))
    accuracy = score(record.evaluation.confusion).accuracy
    px = record.evaluation.confusion.sum(axis=1)
    shares = px / max(1, int(px.sum()))
    rows = [_row(record, i, iu[i], accuracy[i], float(shares[i])) for i in order]
    body = folded_table(("class", "IU", "accuracy", "of all px"), rows, "classes")
    if np.isnan(iu).any():
        body += paragraph(
            f"A class marked {words.NONE} does not occur in these images and is left out of means."
        )
    return Section(anchor="classes", title="Classes", body=body)


def _row(record: Record, index: int, iu: float, accuracy: float, share: float) -> Markup:
    colour = record.classes.colours[index]
    return Markup(
        '<tr><th scope="row">{}<span>{}</span></th><td class="wide"><div>{}<output>{}</output></div></td>'
        "<td>{}</td><td>{}</td></tr>"
    ).format(
        swatch(colour),
        record.classes.names[index],
        bar(words.or_zero(iu), css(colour)),
        words.score(iu),
        words.score(accuracy),
        words.percent(share),
    )
