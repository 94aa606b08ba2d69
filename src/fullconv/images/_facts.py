"""What reading one file once tells about it; kept in the cache, judged later by `_rules`."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv import regions
from fullconv.images._classes import IGNORE_8_BIT, IGNORE_16_BIT
from fullconv.images._faults import BrokenRuleError
from fullconv.images._files import image_of
from fullconv.images._lazy import goes_by_pieces, open_codes, open_image, told_by_rule
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
        return regions.signature(regions.split_name(path)[0])
    except OSError as error:
        raise BrokenRuleError(f"cannot be opened ({error.strerror})") from error


def image_facts(path: Path) -> ImageFacts:
    """Return the facts of an image file."""
    before = signature(path)
    if goes_by_pieces(path):
        return large_image_facts(path, before)
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
    if goes_by_pieces(path):
        return large_mask_facts(path, before)
    found = codes_of(path)
    codes = found.pixels
    by_colour = codes.ndim == 3
    counts: dict[int, int] = {}
    for rows in row_chunks(codes):
        values, times = _counted(pack(rows) if by_colour else rows)
        if not by_colour:
            _check_indices(values)
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


def large_image_facts(path: Path, before: Signature) -> ImageFacts:
    """Return the facts of an image that is read piece by piece, each of them once."""
    with told_by_rule(path):
        image = open_image(path)
        _check_plane(image)
        moments = [Moments() for _ in range(image.shape[0])]
        for box in regions.pieces(image):
            for part, known in zip(image[box.slices], moments[box.slices[0]], strict=True):
                known.add(part)
    return ImageFacts(
        signature=before,
        shape=image.shape[1:],
        turned=False,
        channels=image.shape[0],
        dtype=image.dtype.name,
        mean=tuple(known.mean for known in moments),
        variance=tuple(known.squares / known.count for known in moments),
    )


def large_mask_facts(path: Path, before: Signature) -> MaskFacts:
    """Return the facts of a mask that is read piece by piece."""
    counts: Counter[int] = Counter()
    with told_by_rule(path):
        codes = open_codes(path)
        _check_plane(codes)
        by_colour = codes.shape[0] == 3
        whole = (slice(0, codes.shape[0]),)
        plane = replace(codes, shape=codes.shape[1:], chunks=codes.chunks[1:])
        for box in regions.pieces(plane):
            part = codes[(*whole, *box.slices)]
            numbers = pack(np.moveaxis(part, 0, -1)) if by_colour else part[0]
            values, times = _counted(numbers)
            if not by_colour:
                _check_indices(values)
            counts.update(dict(zip(values.tolist(), times.tolist(), strict=True)))
            if len(counts) > MAX_CODES:
                raise BrokenRuleError(f"holds more than {MAX_CODES} different values: not a mask")
    return MaskFacts(
        signature=before,
        shape=codes.shape[1:],
        turned=False,
        by_colour=by_colour,
        counts=dict(counts),
    )


def _check_plane(array: regions.LazyArray) -> None:
    if array.ndim != 3:
        raise BrokenRuleError(
            f"must have two axes in space to be trained on, got {array.spatial} {array.shape[1:]}"
        )


class Moments:
    """Mean, and sum of squared deviations from it, of numbers that come in pieces."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, part: npt.NDArray[Any]) -> None:
        """Add a piece (Chan, Golub & LeVeque 1979)."""
        mean, variance = _moments(part)
        total = self.count + part.size
        step = mean - self.mean
        self.squares += variance * part.size + step**2 * self.count * part.size / total
        self.mean += step * part.size / total
        self.count = total


def _moments(channel: npt.NDArray[Any]) -> tuple[float, float]:
    """Return mean and variance, in float64 but without a float64 copy of the whole channel."""
    mean = float(channel.mean(dtype=np.float64))
    squares = 0.0
    for rows in row_chunks(channel):
        deviations = np.subtract(rows, mean, dtype=np.float64).ravel()
        squares += float(deviations @ deviations)
    return mean, squares / channel.size


def _check_indices(values: npt.NDArray[Any]) -> None:
    """Refuse class indices that no class table and no label image can have."""
    odd = values[(values < 0) | (values > IGNORE_16_BIT)]
    if len(odd):
        raise BrokenRuleError(
            f"class indices must be from 0 to {IGNORE_16_BIT}, got {odd[0]}; save pixels that do not "
            f"count as {IGNORE_8_BIT}"
        )


def _counted(codes: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    if codes.dtype != np.uint8:
        return np.unique(codes, return_counts=True)
    times = np.bincount(codes.ravel(), minlength=256)
    values = np.flatnonzero(times)
    return values, times[values]
