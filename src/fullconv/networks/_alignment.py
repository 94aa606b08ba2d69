"""Where the maps of a trunk lie in each other and in the image, and the kernels that go with it.

Nothing is written in: kernels and offsets follow from the fields of the trunk's first units. For VGG16
with its padding of 100 px they come out as in the authors' files: 19 px for stride 32, 27 for 16 and
31 for 8, and 5 and 9 units for the skips from pool4 and pool3; for AlexNet 18 px and a kernel of 63 px,
since one of 64 px would leave half a px.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from torch import Tensor, nn

from fullconv.errors import BadConfigError
from fullconv.geometry import Geometry
from fullconv.tracing import trace


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where the units of a map lie.

    Attributes:
        middles: Of the field of the first unit, per axis, in px: 1/2 is that of the first px.
        stride: Px between neighbouring units.
    """

    middles: tuple[Fraction, ...]
    stride: int


IMAGE = Place(middles=(Fraction(1, 2),) * 2, stride=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Enlarging:
    """A transposed convolution that takes one map to the stride of the next.

    Attributes:
        factor: By how much it enlarges; its stride.
        kernel: Its kernel: twice the factor, or one less where that would leave half a position.
        offset: Where the next map begins in its map, per axis; negative where the next begins before.
    """

    factor: int
    kernel: int
    offset: tuple[int, ...]


def geometries(trunk: nn.Module, channels: int, num_maps: int) -> tuple[Geometry, ...]:
    """Return the geometry of each map of a trunk.

    Args:
        trunk: Returns maps, fine to coarse; best on the meta device.
        channels: Channels of the image.
        num_maps: How many maps it returns.

    Raises:
        NotLocalError: If a layer looks at the whole image.
    """
    trunk.eval()
    return tuple(trace(_Map(trunk, i), channels, 2) for i in range(num_maps))


def align(maps: Sequence[Geometry], padding: int = 0) -> tuple[Enlarging, ...]:
    """Return how maps are enlarged: the coarsest to the next finer one, and on, at last to the image.

    Args:
        maps: Geometries of a trunk's maps, fine to coarse.
        padding: Zeros around the image besides those that the trunk puts there itself, in px.

    Raises:
        BadConfigError: If a stride is no multiple of the next finer one, or no kernel aligns the maps.
    """
    *finer, place = [_place(geometry, padding) for geometry in maps]
    steps: list[Enlarging] = []
    for target in [*reversed(finer), IMAGE]:
        steps.append(_enlarging(place, target))
        place = Place(middles=_begins(place, target, steps[-1]), stride=target.stride)
    return tuple(steps)


def least_padding(maps: Sequence[Geometry], side: int) -> int:
    """Return the zeros around the image, in px, that the sum of the enlarged maps needs to hold the image.

    None for trunks that pad by the kernel's half. Encoders that pad less have no unit, or too few,
    for an image of few px.

    Args:
        maps: Geometries of a trunk's maps, fine to coarse.
        side: Of the smallest image, in px; others are longer by multiples of the coarsest stride.

    Raises:
        BadConfigError: As `align`.
    """
    widest = max(size for geometry in maps for size in (*geometry.field, *geometry.period))
    return next(padding for padding in range(2 * widest) if _holds(maps, side, padding))


def _holds(maps: Sequence[Geometry], side: int, padding: int) -> bool:
    """Return whether the sum of the enlarged maps holds a padded image."""
    padded = (side + 2 * padding,) * 2
    if not all(geometry.takes(padded) for geometry in maps):
        return False
    finer = [_place(geometry, padding) for geometry in maps[:-1]]
    *finer_units, units = [geometry.map_shape(padded) for geometry in maps]
    targets = zip([*reversed(finer), IMAGE], [*reversed(finer_units), (side, side)], strict=True)
    for (target, wanted), step in zip(targets, align(maps, padding), strict=True):
        # From where the enlarged map begins, or the other one, to where the first of them ends.
        overlap = [
            min((n - 1) * step.factor + step.kernel - offset, m) - max(0, -offset)
            for n, m, offset in zip(units, wanted, step.offset, strict=True)
        ]
        if min(overlap) < 1 or (
            target is IMAGE and (min(step.offset) < 0 or tuple(overlap) != wanted)
        ):
            return False
        units = overlap
    return True


def _enlarging(place: Place, target: Place) -> Enlarging:
    """Return the enlarging from one map to another, so that they lie a whole number apart."""
    factor, rest = divmod(place.stride, target.stride)
    if rest:
        raise BadConfigError(
            f"`net` must have maps whose strides divide each other, got {target.stride} and "
            f"{place.stride} px; take another encoder"
        )
    for kernel in (2 * factor, 2 * factor - 1):
        firsts = _firsts(place, target, kernel)
        apart = [(b - a) / target.stride for a, b in zip(firsts, target.middles, strict=True)]
        if all(offset.denominator == 1 for offset in apart):
            return Enlarging(factor=factor, kernel=kernel, offset=tuple(map(int, apart)))
    raise BadConfigError(
        f"`net` must have maps that lie whole or half positions apart, got middles at {place} and "
        f"{target}; take another encoder"
    )


def _begins(place: Place, target: Place, step: Enlarging) -> tuple[Fraction, ...]:
    """Return where the sum of an enlarged map and another begins: where both have units."""
    firsts = _firsts(place, target, step.kernel)
    return tuple(max(pair) for pair in zip(firsts, target.middles, strict=True))


def _firsts(place: Place, target: Place, kernel: int) -> list[Fraction]:
    """Return where an enlarged map begins: its first taps lie (kernel - 1) / 2 before the first unit."""
    return [middle - Fraction(kernel - 1, 2) * target.stride for middle in place.middles]


def _place(geometry: Geometry, padding: int) -> Place:
    stride = geometry.stride[0]
    if not isinstance(stride, int) or len(set(geometry.stride)) > 1:
        raise BadConfigError(
            f"`net` must have maps of one whole stride, got {geometry.stride} px; take another encoder"
        )
    return Place(middles=tuple(axis.middle - padding for axis in geometry.axes), stride=stride)


class _Map(nn.Module):
    """One map of a trunk."""

    def __init__(self, trunk: nn.Module, index: int) -> None:
        super().__init__()
        self.trunk, self.index = trunk, index

    def forward(self, image: Tensor) -> Tensor:
        maps: Sequence[Tensor] = self.trunk(image)
        return maps[self.index]
