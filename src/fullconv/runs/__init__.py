"""The folder of a training run: what is in it, how it is written and read.

Only this room knows the names of the files. Everything is written to a temporary name and renamed,
so a file is either whole or the one that was there before.
"""

from fullconv.runs._files import append_row, replacing, write_json, write_text
from fullconv.runs._recipe import Recipe
from fullconv.runs._run import Run
from fullconv.runs._weights import load_weights, save_weights, weights_metadata

__all__ = [
    "Recipe",
    "Run",
    "append_row",
    "load_weights",
    "replacing",
    "save_weights",
    "weights_metadata",
    "write_json",
    "write_text",
]
