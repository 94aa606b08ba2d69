"""The page `docs/coverage.md`: one row per network, and how many there are of each kind."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fullconv.geometry import Geometry

from .members import MEMBERS, Member

PAGE = Path(__file__).parents[2] / "docs" / "coverage.md"

TEXT = """\
# Which networks can be traced

Networks of other projects, with random weights, as they come: encoders of timm (`features_only`, the last of their maps), and segmentation networks. Each is either *traced and certified*: `fc.trace` gives its geometry, and [the witnesses](what-does-it-see.md#is-it-true) of `fc.verify`, which do not know the tracer, agree with it on an image longer than its field; or *refused*, by the module that is in the way, for a reason that was seen to be true on the network itself. BatchNorm counts as it is used: with fixed statistics.

This page is written by `make test-ecosystem`; versions are in `constraints-ecosystem.txt`.

| | networks |
| --- | --- |
| traced and certified | {traced} |
| refused, and the reason confirmed | {refused} |
| neither | 0 |
| all | {all} |

## Traced and certified

Fields and periods in px, along each axis that differs.

| library | network | field | stride | period | halo |
| --- | --- | --- | --- | --- | --- |
{rows_traced}

## Refused

| library | network | module | why | how that was confirmed |
| --- | --- | --- | --- | --- |
{rows_refused}
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One network of the table: its cells, and whether it was traced."""

    certified: bool
    cells: tuple[str, ...]

    @staticmethod
    def traced(member: Member, geometry: Geometry) -> Row:
        columns: Sequence[Iterable[object]] = (
            geometry.field,
            geometry.stride,
            geometry.period,
            (f"{before} + {after}" for before, after in geometry.halo),
        )
        cells = (member.library, member.name, *map(_along_axes, columns))
        return Row(certified=True, cells=cells)

    @staticmethod
    def refused(member: Member, module: str, kind: str, why: str, seen: str) -> Row:
        where = f"`{module}` ({kind})" if module else f"the network itself ({kind})"
        return Row(certified=False, cells=(member.library, member.name, where, why, seen))

    def as_text(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def of_text(text: str) -> Row:
        values = json.loads(text)
        return Row(certified=values["certified"], cells=tuple(values["cells"]))


def _along_axes(values: Iterable[object]) -> str:
    found = [str(value) for value in values]
    return found[0] if len(set(found)) == 1 else " × ".join(found)


def text_of(rows: Sequence[Row]) -> str:
    """Return the page of these rows, in the order of the members."""
    order = {(m.library, m.name): n for n, m in enumerate(MEMBERS)}
    ordered = sorted(rows, key=lambda row: order[row.cells[0], row.cells[1]])
    return TEXT.format(
        traced=sum(row.certified for row in rows),
        refused=sum(not row.certified for row in rows),
        all=len(rows),
        rows_traced="\n".join(_lines(row for row in ordered if row.certified)),
        rows_refused="\n".join(_lines(row for row in ordered if not row.certified)),
    )


def _lines(rows: Iterable[Row]) -> Iterator[str]:
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row.cells)} |"
