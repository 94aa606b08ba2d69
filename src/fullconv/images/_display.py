"""Images for people to look at: 8 bits, red, green and blue."""

from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.images._classes import ClassTable

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
    shown = image[:3] if len(image) >= 3 else np.repeat(image[:1], 3, axis=0)
    channels = shown if shown.dtype == np.uint8 else [_stretched(channel) for channel in shown]
    return np.stack(list(channels), axis=-1)


def _stretched(channel: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    step = max(1, round((channel.size / SAMPLED_PX) ** 0.5))
    sample = channel[::step, ::step].astype(np.float64)
    low, high = np.percentile(sample, [LOW_PERCENT, HIGH_PERCENT])
    scale = 255.0 / (high - low) if high > low else 0.0
    values = (channel.astype(np.float32) - np.float32(low)) * np.float32(scale)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def overlay(
    image: npt.NDArray[Any], labels: npt.NDArray[Any], classes: ClassTable
) -> npt.NDArray[np.uint8]:
    """Return an image with the classes' colours laid over it, half transparent, (height, width, 3).

    Ignored pixels show the image alone.
    """
    picture = to_rgb8(image)
    colours = np.array(classes.colours, dtype=np.float32)
    known = labels != classes.ignore
    tint = colours[np.where(known, labels, 0)]
    mixed = (1 - OPACITY) * picture + OPACITY * tint
    return np.where(known[..., np.newaxis], np.rint(mixed), picture).astype(np.uint8)
