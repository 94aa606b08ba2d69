"""Text, JSON and CSV files of a run."""

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fullconv.errors import BadOutputError
from fullconv.images import atomic


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file; NaN becomes null, which every reader understands."""
    write_text(path, json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row to a CSV file, with a header line if the file is new.

    Raises:
        BadOutputError: If the operating system refuses.
    """
    try:
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if not file.tell():
                writer.writeheader()
            writer.writerow(row)
    except OSError as error:
        raise BadOutputError(f"{path} must be writable, got: {error.strerror}") from error


def read_rows(path: Path) -> list[dict[str, float]]:
    """Return the whole rows of a CSV file of numbers; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{key: _number(text) for key, text in row.items()} for row in rows if all(row.values())]


def drop_rows_after(path: Path, step: int) -> None:
    """Leave out the rows of later steps, and one that was not written to its end."""
    rows = [row for row in read_rows(path) if row["step"] <= step]
    if not path.exists():
        return
    with atomic(path) as temporary:
        for row in rows:
            append_row(temporary, row)
        temporary.touch()


def _number(text: str) -> float:
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _finite(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {str(key): _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
        case _:
            return value
