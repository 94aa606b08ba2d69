"""Packages that nothing here needs until they are named."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from difflib import get_close_matches
from types import ModuleType

from fullconv.errors import BadConfigError


def package(name: str, asked: str, module: str = "", *, key: str = "net") -> ModuleType:
    """Return an optional package, or say how to get it.

    Args:
        name: Of the package, as pip knows it with dashes for underscores.
        asked: What was asked for.
        module: What to import of it; itself if left out.
        key: The setting that asked for it.
    """
    try:
        return importlib.import_module(module or name)
    except ImportError as error:
        raise BadConfigError(
            f"`{key}` = {asked!r} needs the package {name}, which is not installed; "
            f"get it with: pip install {name.replace('_', '-')}"
        ) from error


def unknown(asked: str, name: str, known: Sequence[str]) -> BadConfigError:
    """Return the error for a name that a package does not know."""
    near = get_close_matches(name, known, n=3, cutoff=0.4) or known[:3]
    library = asked.partition(":")[0]
    return BadConfigError(
        f"`net` = {asked!r} must name what {library} has, got {name!r}; nearest are {', '.join(near)}"
    )
