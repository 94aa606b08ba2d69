"""How often each class occurs in each split."""

import numpy as np
from markupsafe import Markup

from fullconv.reporting import _words as words
from fullconv.reporting._record import Record
from fullconv.reporting._section import (
    Section,
    bar,
    css,
    folded_table,
    joined,
    paragraph,
    swatch,
)


def frequencies(record: Record) -> Section | None:
    """Return the share of each class by split, or None where nothing was counted."""
    counts = {split: np.array(px) for split, px in record.data.counts.items() if sum(px)}
    if not counts:
        return None
    shares = np.stack([px / px.sum() for px in counts.values()], axis=1)
    order = np.argsort(-shares[:, 0], kind="stable")
    rows = [_row(record, int(i), shares[i], float(shares.max())) for i in order]
    body = folded_table(("class", *counts), rows, "frequencies")
    totals = words.listing([f"{words.brief(px.sum())} px in {name}" for name, px in counts.items()])
    body += paragraph(f"Share of the labelled px: {totals}. Ignored px are not counted.")
    return Section(anchor="frequencies", title="Class frequencies", body=body)


def _row(record: Record, index: int, shares: np.ndarray, longest: float) -> Markup:
    colour = record.classes.colours[index]
    cells = joined(
        Markup("<td>{}<output>{}</output></td>").format(
            bar(float(share) / longest, css(colour)), words.percent(float(share))
        )
        for share in shares
    )
    return Markup('<tr><th scope="row">{}<span>{}</span></th>{}</tr>').format(
        swatch(colour), record.classes.names[index], cells
    )
