"""Large arrays in files, read and written box by box, never more than asked."""

from fullconv.regions._array import LazyArray, Source, arranged, in_memory, sliced
from fullconv.regions._ome import Format, add_pyramid, create, full
from fullconv.regions._open import SUFFIXES, check_output, open_array, opens, split_name
from fullconv.regions._part import Part, is_finished, note_finished, part_of, telling
from fullconv.regions._pieces import pieces, sharing
from fullconv.regions._signature import signature
from fullconv.regions._tiff_write import write_tiff
from fullconv.regions._zarr import is_zarr

__all__ = [
    "SUFFIXES",
    "Format",
    "LazyArray",
    "Part",
    "Source",
    "add_pyramid",
    "arranged",
    "check_output",
    "create",
    "full",
    "in_memory",
    "is_finished",
    "is_zarr",
    "note_finished",
    "open_array",
    "opens",
    "part_of",
    "pieces",
    "sharing",
    "signature",
    "sliced",
    "split_name",
    "telling",
    "write_tiff",
]
