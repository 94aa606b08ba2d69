"""Images for people to look at: 8 bits, red, green and blue."""

from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.images._classes import ClassTable
from fullconv.images._stored import row_chunks

# A stretch between these percentiles keeps a few hot pixels from making all else black.
LOW_PERCENT, HIGH_PERCENT = 1.0, 99.0
SAMPLED_PX = 2**20
OPACITY = 0.5


def to_rgb8(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return an image as (height, width, 3) uint8.

    The first three channels are red, green and blue; of one or two channels the first is grey.
    8-bit values stay as they are. Others are stretched, each channel from its 1st to its 99th
    percentile.

    Examples:
        >>> to_rgb8(np.zeros((1, 4, 5), dtype=np.uint16)).shape
        (4, 5, 3)
    """
    shown = image[:3] if len(image) >= 3 else [image[0]] * 3
    picture = np.empty((*image.shape[1:], 3), dtype=np.uint8)
    for place, channel in enumerate(shown):
        look = _stretch(channel) if channel.dtype != np.uint8 else None
        for rows, target in zip(row_chunks(channel), row_chunks(picture), strict=True):
            target[..., place] = _stretched(rows, *look) if look else rows
    return picture


def _stretch(channel: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the value that becomes black, and grey levels per value."""
    step = max(1, round((channel.size / SAMPLED_PX) ** 0.5))
    sample = channel[::step, ::step].astype(np.float64)
    low, high = np.percentile(sample, [LOW_PERCENT, HIGH_PERCENT])
    return float(low), 255.0 / float(high - low) if high > low else 0.0


def _stretched(rows: npt.NDArray[Any], low: float, scale: float) -> npt.NDArray[np.float32]:
    values = (rows.astype(np.float32) - np.float32(low)) * np.float32(scale)
    return np.clip(np.rint(values), 0, 255)


def overlay(
    image: npt.NDArray[Any], labels: npt.NDArray[Any], classes: ClassTable
) -> npt.NDArray[np.uint8]:
    """Return an image with the classes' colours laid over it, half transparent, (height, width, 3).

    Ignored pixels show the image alone. Besides the picture, memory for a few rows is taken.
    """
    picture = to_rgb8(image)
    colours = np.array(classes.colours, dtype=np.float32) * np.float32(OPACITY)
    for rows, marks in zip(row_chunks(picture), row_chunks(labels), strict=True):
        known = marks != classes.ignore
        tint = colours[np.where(known, marks, 0)]
        tint += rows * np.float32(1 - OPACITY)
        np.copyto(rows, np.rint(tint), where=known[..., np.newaxis], casting="unsafe")
    return picture
