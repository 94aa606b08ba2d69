"""Networks rewritten, with the same weights.

Every function here returns a new network and leaves the one it was given as it was. Both hold the
*same* weights: no memory is taken for a second set, and training one trains the other. Where that is
not wanted, ``copy.deepcopy`` what is returned.
"""

from fullconv.surgery._bilinear import bilinear_kernel, fill_bilinear
from fullconv.surgery._convolutionalize import convolutionalize
from fullconv.surgery._dense import Dense
from fullconv.surgery._densify import densify
from fullconv.surgery._freeze import freeze_norms
from fullconv.surgery._skip import Crop, Skip, crop_offset, crop_to_image, skip
from fullconv.surgery._stitch import ShiftAndStitch, shift_and_stitch

__all__ = [
    "Crop",
    "Dense",
    "ShiftAndStitch",
    "Skip",
    "bilinear_kernel",
    "convolutionalize",
    "crop_offset",
    "crop_to_image",
    "densify",
    "fill_bilinear",
    "freeze_norms",
    "shift_and_stitch",
    "skip",
]
