"""What samplers are told in numbers: checked where they are made, and kept as Python's own."""

from __future__ import annotations

from math import isfinite, isnan, nan
from numbers import Real
from operator import index
from typing import Any

from fullconv.errors import BadConfigError


def whole(name: str, value: Any) -> int:
    """Return a whole number of at least 1, given as Python or NumPy has it.

    Raises:
        BadConfigError: If it is none.
    """
    number = _index(value)
    if number is None or number < 1:
        raise BadConfigError(
            f"`{name}` must be a whole number of at least 1, got {value!r}; {_near(value)}"
        )
    return number


def share(name: str, value: Any) -> float:
    """Return a share, above 0 and at most 1.

    Raises:
        BadConfigError: If it is none.
    """
    number = _real(value)
    if not 0 < number <= 1:
        near = "1 takes all" if number > 1 else "0.25 takes a quarter"
        raise BadConfigError(f"`{name}` must be above 0 and at most 1, got {value!r}; {near}")
    return number


def check_ignore(value: Any) -> None:
    """Refuse what is no label: it would be ignored nowhere.

    Raises:
        BadConfigError: If it is neither a number nor None.
    """
    if value is not None and isnan(_real(value)):
        raise BadConfigError(
            f"`ignore` must be the number of a label, or None to ignore none, got {value!r}; "
            "masks mostly have 255"
        )


def _index(value: Any) -> int | None:
    try:
        return None if isinstance(value, bool) else index(value)
    except TypeError:
        return None


def _real(value: Any) -> float:
    """Return a number; NaN for what is none."""
    return nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)


def _near(value: Any) -> str:
    number = _real(value)
    return f"nearest is {max(1, round(number))}" if isfinite(number) else "the least is 1"
