"""What reading one file once tells about it; kept in the cache, judged later by `_rules`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.images._faults import BrokenRuleError
from fullconv.images._files import image_of
from fullconv.images._masks import codes_of, pack
from fullconv.images._stored import row_chunks

# More different values than any class table: the file is a photograph, not a mask.
MAX_CODES = 65536

Signature = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFacts:
    """One image: its size, type and, per channel, mean and mean square deviation from it.

    `signature` is the file's size and time of change; it tells whether the facts still hold.
    """

    signature: Signature
    shape: tuple[int, ...]
    turned: bool
    channels: int
    dtype: str
    mean: tuple[float, ...]
    variance: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskFacts:
    """One mask: its size, and how many pixels have each index, or each colour as 0xrrggbb."""

    signature: Signature
    shape: tuple[int, ...]
    turned: bool
    by_colour: bool
    counts: dict[int, int]


def signature(path: Path) -> Signature:
    """Return what changes when a file changes: its size in bytes and its time of change in ns."""
    try:
        status = path.stat()
    except OSError as error:
        raise BrokenRuleError(f"cannot be opened ({error.strerror})") from error
    return status.st_size, status.st_mtime_ns


def image_facts(path: Path) -> ImageFacts:
    """Return the facts of an image file."""
    before = signature(path)
    found = image_of(path)
    image = found.pixels
    moments = [_moments(channel) for channel in image]
    return ImageFacts(
        signature=before,
        shape=image.shape[1:],
        turned=found.turned,
        channels=image.shape[0],
        dtype=image.dtype.name,
        mean=tuple(mean for mean, _ in moments),
        variance=tuple(variance for _, variance in moments),
    )


def mask_facts(path: Path) -> MaskFacts:
    """Return the facts of a mask file."""
    before = signature(path)
    found = codes_of(path)
    codes = found.pixels
    by_colour = codes.ndim == 3
    counts: dict[int, int] = {}
    for rows in row_chunks(codes):
        values, times = _counted(pack(rows) if by_colour else rows)
        for value, count in zip(values.tolist(), times.tolist(), strict=True):
            counts[value] = counts.get(value, 0) + count
        if len(counts) > MAX_CODES:
            raise BrokenRuleError(f"holds more than {MAX_CODES} different values: not a mask")
    return MaskFacts(
        signature=before,
        shape=codes.shape[:2],
        turned=found.turned,
        by_colour=by_colour,
        counts=counts,
    )


def _moments(channel: npt.NDArray[Any]) -> tuple[float, float]:
    """Return mean and variance, in float64 but without a float64 copy of the whole channel."""
    mean = float(channel.mean(dtype=np.float64))
    squares = 0.0
    for rows in row_chunks(channel):
        deviations = np.subtract(rows, mean, dtype=np.float64).ravel()
        squares += float(deviations @ deviations)
    return mean, squares / channel.size


def _counted(codes: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    if codes.dtype != np.uint8:
        return np.unique(codes, return_counts=True)
    times = np.bincount(codes.ravel(), minlength=256)
    values = np.flatnonzero(times)
    return values, times[values]
