"""Arguments of operators: tensors, numbers, and lists of them.

PyTorch's own functions for nested values take any type of them, which costs more than the rest of
writing an operator down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def leaves(nested: Any) -> Iterator[Any]:
    """Yield what is in lists, tuples and dicts, however deep, in order."""
    if isinstance(nested, dict):
        for part in nested.values():  # pyright: ignore[reportUnknownVariableType]
            yield from leaves(part)
    elif isinstance(nested, list | tuple):
        for part in nested:  # pyright: ignore[reportUnknownVariableType]
            yield from leaves(part)
    else:
        yield nested


def replaced(nested: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """Return lists, tuples and dicts with their leaves of a type changed."""
    if isinstance(nested, kind):
        return change(nested)
    if isinstance(nested, dict):
        return {key: replaced(part, kind, change) for key, part in nested.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(nested, list):
        return [replaced(part, kind, change) for part in nested]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(nested, tuple):
        return tuple(replaced(part, kind, change) for part in nested)  # pyright: ignore[reportUnknownVariableType]
    return nested
