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


def align(trunk: nn.Module, channels: int, num_maps: int) -> tuple[Enlarging, ...]:
    """Return how maps are enlarged: the coarsest to the next finer one, and on, at last to the image.

    Args:
        trunk: Returns maps, fine to coarse; best on the meta device.
        channels: Channels of the image.
        num_maps: How many maps it returns.

    Raises:
        BadConfigError: If a stride is no multiple of the next finer one, or no kernel aligns the maps.
        NotLocalError: If a layer looks at the whole image.
    """
    trunk.eval()
    places = [_place(trace(_Map(trunk, i), channels, 2)) for i in range(num_maps)]
    image = Place(middles=(Fraction(1, 2),) * 2, stride=1)
    *finer, place = places
    steps: list[Enlarging] = []
    for target in [*reversed(finer), image]:
        steps.append(_enlarging(place, target))
        firsts = zip(_firsts(place, target, steps[-1].kernel), target.middles, strict=True)
        place = Place(middles=tuple(max(pair) for pair in firsts), stride=target.stride)
    return tuple(steps)


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


def _firsts(place: Place, target: Place, kernel: int) -> list[Fraction]:
    """Return where an enlarged map begins: its first taps lie (kernel - 1) / 2 before the first unit."""
    return [middle - Fraction(kernel - 1, 2) * target.stride for middle in place.middles]


def _place(geometry: Geometry) -> Place:
    first = geometry.field_of((0, 0))
    middles = [Fraction(a + b, 2) for a, b in zip(first.start, first.stop, strict=True)]
    stride = geometry.stride[0]
    if not isinstance(stride, int) or len(set(geometry.stride)) > 1:
        raise BadConfigError(
            f"`net` must have maps of one whole stride, got {geometry.stride} px; take another encoder"
        )
    return Place(middles=tuple(middles), stride=stride)


class _Map(nn.Module):
    """One map of a trunk."""

    def __init__(self, trunk: nn.Module, index: int) -> None:
        super().__init__()
        self.trunk, self.index = trunk, index

    def forward(self, image: Tensor) -> Tensor:
        maps: Sequence[Tensor] = self.trunk(image)
        return maps[self.index]
