"""Large arrays in files, read and written box by box, never more than asked."""

from fullconv.regions._array import LazyArray, Source, arranged, in_memory
from fullconv.regions._open import SUFFIXES, open_array, opens, split_name
from fullconv.regions._zarr import is_zarr

__all__ = [
    "SUFFIXES",
    "LazyArray",
    "Source",
    "arranged",
    "in_memory",
    "is_zarr",
    "open_array",
    "opens",
    "split_name",
]
