"""A section of the report, and the few pieces of HTML that sections share.

All HTML is built with `markupsafe.Markup.format`, which escapes every value that is not markup
itself: names of classes, files and settings may hold any character.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

Colour = Sequence[int]  # red, green, blue


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """One part of the page: a heading, the fragment of its address, and what stands below."""

    anchor: str
    title: str
    body: Markup


def joined(parts: Iterable[Markup]) -> Markup:
    """Return pieces of HTML, one after the other."""
    return Markup("\n").join(parts)


def paragraph(text: str | Markup, role: str = "note") -> Markup:
    """Return a paragraph; `role` is its class in the style sheet."""
    return Markup('<p class="{}">{}</p>').format(role, text)


def swatch(colour: Colour) -> Markup:
    """Return a small square of a class's colour."""
    return Markup('<i class="swatch" style="background:{}"></i>').format(css(colour))


def css(colour: Colour) -> str:
    """Return a colour as CSS writes it."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def facts(rows: Sequence[tuple[str, str | Markup]]) -> Markup:
    """Return a list of terms and what they are here."""
    pairs = (Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(*row) for row in rows)
    return Markup('<dl class="facts">{}</dl>').format(joined(pairs))


def bar(share: float, colour: str, tick: float | None = None) -> Markup:
    """Return a horizontal bar.

    Args:
        share: Length, between 0 and 1 of the whole track.
        colour: As CSS writes it.
        tick: Where a mark stands on the track, likewise, if anywhere.
    """
    mark = Markup('<u style="left:{:.2f}%"></u>').format(100 * tick) if tick is not None else ""
    fill = Markup('<b style="width:{:.2f}%;background:{}"></b>').format(100 * share, colour)
    return Markup('<span class="bar">{}{}</span>').format(fill, mark)


FOLD = 30  # a table of more classes than this shows half as many and folds the others away


def folded_table(head: Sequence[str], rows: Sequence[Markup], look: str) -> Markup:
    """Return a table whose later rows are folded away where there are many.

    Args:
        head: Titles of the columns.
        rows: Table rows, as HTML, the most important first.
        look: Class of the table in the style sheet.
    """
    titles = joined(Markup('<th scope="col">{}</th>').format(title) for title in head)
    table = Markup('<table class="{}"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>')
    if len(rows) <= FOLD:
        return table.format(look, titles, joined(rows))
    shown, more = rows[: FOLD // 2], rows[FOLD // 2 :]
    return Markup("{}<details><summary>{} more classes</summary>{}</details>").format(
        table.format(look, titles, joined(shown)),
        len(more),
        table.format(look, titles, joined(more)),
    )
