"""The folder of a training run: what is in it, how it is written and read.

Only this room knows the names of the files. Everything is written to a temporary name and renamed,
so a file is either whole or the one that was there before.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fullconv.runs._files import append_row, drop_rows_after, write_json, write_text
from fullconv.runs._recipe import Recipe
from fullconv.runs._run import Run

if TYPE_CHECKING:
    from fullconv.runs._checkpoint import read_checkpoint as read_checkpoint
    from fullconv.runs._weights import check_match as check_match
    from fullconv.runs._weights import load_weights as load_weights
    from fullconv.runs._weights import save_weights as save_weights
    from fullconv.runs._weights import weights_notes as weights_notes

__all__ = [
    "Recipe",
    "Run",
    "append_row",
    "check_match",
    "drop_rows_after",
    "load_weights",
    "read_checkpoint",
    "save_weights",
    "weights_notes",
    "write_json",
    "write_text",
]

_HOME = {
    "check_match": "_weights",
    "load_weights": "_weights",
    "read_checkpoint": "_checkpoint",
    "save_weights": "_weights",
    "weights_notes": "_weights",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fullconv.runs' has no attribute {name!r}")
    return getattr(import_module(f"fullconv.runs.{_HOME[name]}"), name)
