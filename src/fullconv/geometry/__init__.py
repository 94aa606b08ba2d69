"""Exact integer geometry of networks on images. Imports no array library.

See `fullconv.geometry._axis` for the conventions: half-open boxes, px and units, period and phase.
"""

from fullconv.geometry._axis import Axis, Phase
from fullconv.geometry._box import Box
from fullconv.geometry._cover import (
    band_units,
    block_at,
    cover_px,
    grid_blocks,
    grid_cover,
    grid_of,
    least_window,
)
from fullconv.geometry._geometry import Geometry, Window

__all__ = [
    "Axis",
    "Box",
    "Geometry",
    "Phase",
    "Window",
    "band_units",
    "block_at",
    "cover_px",
    "grid_blocks",
    "grid_cover",
    "grid_of",
    "least_window",
]
