"""Writing files so that they are whole, or not there."""

import csv
import json
import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fullconv.errors import BadRunError


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Yield a temporary name beside `path`; on success it takes the place of `path`.

    Raises:
        BadRunError: If the disk refuses; what was at `path` is untouched.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        _forget(temporary)


def unwritable(path: Path, error: OSError) -> BadRunError:
    """Return the error for a file that the disk would not take."""
    return BadRunError(
        f"`{path}` cannot be written: {error.strerror or error}; what was there before is kept. "
        "Free some space or choose another folder"
    )


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file; NaN becomes null, which every reader understands."""
    write_text(path, json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row to a CSV file, with a header line if the file is new."""
    try:
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)
    except OSError as error:
        raise unwritable(path, error) from error


def read_rows(path: Path) -> list[dict[str, float]]:
    """Return the rows of a CSV file of numbers; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: _number(text) for key, text in row.items()} for row in csv.DictReader(file)]


def _number(text: str | None) -> float:
    try:
        value = float(text or "nan")
    except ValueError:
        return math.nan
    return int(value) if value.is_integer() and text and text.lstrip("-").isdigit() else value


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


def _forget(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return
