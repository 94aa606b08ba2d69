"""Masks of SBD: MATLAB files with the struct GTcls, through SciPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.images._faults import BrokenRuleError
from fullconv.images._stored import Format, Header, Stored


def _segmentation(path: Path) -> npt.NDArray[Any]:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise BrokenRuleError(
            "needs SciPy to be read, which is not installed; get it with: pip install scipy"
        ) from error
    found = loadmat(path, variable_names=["GTcls"])
    if "GTcls" not in found:
        raise BrokenRuleError(
            "must be a mask of SBD, with the struct GTcls, got another MATLAB file"
        )
    return np.ascontiguousarray(found["GTcls"]["Segmentation"][0, 0])


def _header(path: Path) -> Header:
    pixels = _segmentation(path)
    return Header(width=pixels.shape[1], height=pixels.shape[0], decoded_bytes=pixels.nbytes)


def _decode(path: Path, *, mask: bool) -> Stored:
    del mask
    return Stored(pixels=_segmentation(path))


MAT = Format(magics=(b"MATLAB 5",), header=_header, decode=_decode)
