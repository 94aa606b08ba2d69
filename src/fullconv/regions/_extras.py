"""Formats that are read by libraries of their own, which are installed when they are asked for."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

from fullconv.errors import BadDataError


def extra(module: str, name: str, path: Path) -> ModuleType:
    """Return an optional library, or say how to install it.

    Args:
        module: What to import.
        name: Of the extra that brings it.
        path: The file that needs it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise BadDataError(
            f"{path}: reading it takes {module}; install it with pip install 'fullconv[{name}]'"
        ) from error


def first_line(error: Exception) -> str:
    """Return the first line of what a library complains about."""
    return str(error).partition("\n")[0] or type(error).__name__
