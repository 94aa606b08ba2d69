"""Class tables in files: ``classes.csv`` and ``classes.yaml``.

A row is one class, with these columns (names in any case):

- ``name``; left out, the index is the name.
- ``index`` (or ``id``): the number in mask files, 0 to 65535; left out, the row's place from 0.
- ``colour`` (or ``color``) as ``#rrggbb`` or ``r;g;b``, or three columns ``r``, ``g``, ``b`` (or
  ``red``, ``green``, ``blue``), 0 to 255; left out, a colour is chosen. RGB masks need it.
- ``ignore``: yes or no. Pixels of an ignored row have no class. Left out, a row named ``void``,
  ``ignore``, ``ignored``, ``unlabeled`` or ``unlabelled`` is ignored, and all others are not.

Classes take their positions in the order of their indices.

YAML is a list of such rows, a list of names, or a mapping from index to name; each may stand below
the key ``classes``.
"""

import csv
import re
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from fullconv.images._classes import ClassTable, Colour, default_colour, ignore_for
from fullconv.images._faults import BrokenRuleError, bad_file

IGNORED_NAMES = {"void", "ignore", "ignored", "unlabeled", "unlabelled"}
YES_NO = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False, "": False}
SAME_COLUMN = {"id": "index", "color": "colour", "red": "r", "green": "g", "blue": "b"}
COLUMNS = {"name", "index", "colour", "r", "g", "b", "ignore"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One class as a table file states it."""

    name: str
    index: int
    colour: Colour | None
    ignore: bool


def read_table(path: Path) -> ClassTable:
    """Return the class table in a CSV or YAML file."""
    try:
        is_csv = path.suffix.lower() == ".csv"
        found = csv_rows(path) if is_csv else _yaml_rows(path)
        rows = [_row(place, values) for place, values in enumerate(found)]
        return _table(sorted(rows, key=lambda row: row.index))
    except (BrokenRuleError, OSError, UnicodeDecodeError, csv.Error, yaml.YAMLError) as error:
        raise bad_file(path, error) from error


def csv_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file with a header, column names in lower case.

    The separator is the one of ``, ; tab`` that the header has most.
    """
    text = path.read_text(encoding="utf-8-sig")
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    reader = csv.DictReader(text.splitlines(), delimiter=separator, restkey="", restval="")
    return [
        {column.strip().lower(): str(value).strip() for column, value in row.items()}
        for row in reader
    ]


def _yaml_rows(path: Path) -> list[dict[str, Any]]:
    content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    if isinstance(content, dict) and "classes" in content:
        content = cast(Any, content["classes"])
    if isinstance(content, dict):
        pairs = cast(dict[Any, Any], content).items()
        return [{"index": index, "name": name} for index, name in pairs]
    if isinstance(content, list):
        entries = cast(list[Any], content)
        return [_lower(entry) if isinstance(entry, dict) else {"name": entry} for entry in entries]
    raise BrokenRuleError("a class table must be a list of classes or a mapping from index to name")


def _lower(entry: dict[Any, Any]) -> dict[str, Any]:
    return {str(key).lower(): value for key, value in entry.items()}


def _row(place: int, values: dict[str, Any]) -> Row:
    known = {SAME_COLUMN.get(key, key): value for key, value in values.items()}
    if unknown := known.keys() - COLUMNS:
        raise BrokenRuleError(
            f"columns of a class table must be among name, index, colour (or r, g, b) and ignore, "
            f"got `{min(unknown)}`"
        )
    if not known.keys() & {"name", "index"}:
        raise BrokenRuleError("a class table must have a column `name` or `index`")
    if isinstance(known.get("name"), bool):
        raise BrokenRuleError(
            f"`name` of a class must be text, got the truth value {known['name']}; put it in quotes"
        )
    index = _number(known.get("index", place), "index", 65535)
    name = str(known.get("name") or index)
    ignore = str(known.get("ignore", name.lower() in IGNORED_NAMES)).lower()
    if ignore not in YES_NO:
        raise BrokenRuleError(f"`ignore` of class `{name}` must be yes or no, got `{ignore}`")
    return Row(name=name, index=index, colour=_colour(known), ignore=YES_NO[ignore])


def _number(value: Any, column: str, largest: int) -> int:
    text = str(value).strip()
    if not text.isdecimal() or int(text) > largest:
        raise BrokenRuleError(
            f"`{column}` must be a whole number from 0 to {largest}, got `{value}`"
        )
    return int(text)


def _colour(values: dict[str, Any]) -> Colour | None:
    stated = values.get("colour") or [values.get(c, "") for c in "rgb"]
    parts = cast(list[Any], stated) if isinstance(stated, list) else _parts(str(stated))
    if not any(str(part) for part in parts):
        return None
    if len(parts) != 3:
        raise BrokenRuleError(f"`colour` must be #rrggbb or r;g;b, got `{stated}`")
    red, green, blue = (_number(part, "colour", 255) for part in parts)
    return red, green, blue


def _parts(text: str) -> list[str]:
    if re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        return [str(int(text[i : i + 2], 16)) for i in (1, 3, 5)]
    return re.split(r"[;, ]+", text.strip())


def _table(rows: list[Row]) -> ClassTable:
    _refuse_repeats("name", (row.name for row in rows))
    _refuse_repeats("index", (row.index for row in rows))
    _refuse_repeats("colour", (row.colour for row in rows if row.colour))
    classes = [row for row in rows if not row.ignore]
    ignored = [row for row in rows if row.ignore]
    if len(classes) < 2:
        raise BrokenRuleError(
            f"a class table must have at least 2 classes that are not ignored, got {len(classes)}"
        )
    return ClassTable(
        names=tuple(row.name for row in classes),
        colours=_complete([row.colour for row in classes], {row.colour for row in ignored}),
        ignore=ignore_for(len(classes)),
        indices=tuple(row.index for row in classes),
        ignored=tuple(row.index for row in ignored),
        ignored_colours=tuple(row.colour for row in ignored if row.colour),
    )


def _refuse_repeats(column: str, values: Iterable[Hashable]) -> None:
    for value, count in Counter(values).items():
        if count > 1:
            raise BrokenRuleError(
                f"`{column}` must differ between classes, got {value} {count} times"
            )


def _complete(colours: list[Colour | None], taken: set[Colour | None]) -> tuple[Colour, ...]:
    """Return the colours with the missing ones chosen, all different."""
    used = {*colours, *taken}
    free = (c for c in map(default_colour, range(2**24)) if c not in used)
    return tuple(colour or next(free) for colour in colours)
