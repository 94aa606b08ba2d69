"""Skips: a coarse and a fine map summed, and maps cropped, at offsets that follow from geometry.

Where a map's units lie is told by the middle of their fields, in px of the image. From there every
offset follows; no image size comes into it, so it holds for all of them.

The layers refuse an image that is too small with a plain `ValueError`, as PyTorch's do with theirs: that
is a fact about the network that holds them, which is traced for the sizes that it takes.
"""

from __future__ import annotations

from fractions import Fraction

from torch import Tensor, nn

from fullconv.errors import FullconvError
from fullconv.geometry import Geometry
from fullconv.surgery._copying import same_weights
from fullconv.tracing import trace


class Crop(nn.Module):
    """Crop a map to the size of another, from a fixed offset.

    Args:
        offset: Where the first position that is kept lies in the map, per axis; at least 0.
    """

    def __init__(self, offset: tuple[int, ...]) -> None:
        super().__init__()
        self.offset = offset

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        """Return ``x`` ``(N, C, *map)`` cropped to the spatial size of `like` ``(N, K, *size)``.

        Raises:
            ValueError: If ``x`` does not hold all of it.
        """
        sizes = like.shape[2:]
        for axis, (a, size) in enumerate(zip(self.offset, sizes, strict=True)):
            if a < 0 or a + size > x.shape[axis + 2]:
                raise ValueError(
                    f"`x` must hold what is cropped, positions {a} to {a + size} of axis {axis}, got "
                    f"{x.shape[axis + 2]} positions: pad the image (or the first convolution) more"
                )
        return x[(..., *(slice(a, a + n) for a, n in zip(self.offset, sizes, strict=True)))]

    def extra_repr(self) -> str:
        """Return the offset for `repr`."""
        return f"offset={self.offset}"


class Skip(nn.Module):
    """Sum a coarse map, already upsampled, and a fine one, where both have positions.

    Args:
        offset: Where the first position of the coarse map lies in the fine one, per axis; negative
            where the coarse map begins before the fine one.
    """

    def __init__(self, offset: tuple[int, ...]) -> None:
        super().__init__()
        self.offset = offset

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Return the sum ``(N, C, *overlap)`` of maps ``(N, C, *)`` at one stride.

        Raises:
            ValueError: If they do not overlap.
        """
        for axis, d in enumerate(self.offset):
            first = max(0, -d)
            size = min(coarse.shape[axis + 2] - first, fine.shape[axis + 2] - first - d)
            if size < 1:
                raise ValueError(
                    f"`coarse` and `fine` must overlap, got {tuple(coarse.shape)} and "
                    f"{tuple(fine.shape)} at an offset of {self.offset}: pad the image more"
                )
            coarse = coarse.narrow(axis + 2, first, size)
            fine = fine.narrow(axis + 2, first + d, size)
        return coarse + fine

    def extra_repr(self) -> str:
        """Return the offset for `repr`."""
        return f"offset={self.offset}"


def skip(
    coarse: nn.Module | Geometry,
    fine: nn.Module | Geometry,
    channels: int = 3,
    ndim: int | None = None,
) -> Skip:
    """Return the layer that sums a coarse map and a fine one, at the offset that aligns them.

    Args:
        coarse: From the image to the coarse map, upsampled to the stride of the fine one; or its
            geometry. Networks are traced as they are in evaluation.
        fine: From the image to the fine map; or its geometry.
        channels: Channels of the image.
        ndim: Spatial axes; by default those of each network's first convolution or pooling.

    Raises:
        FullconvError: If the strides differ, or the maps lie a fraction of a position apart.
        NotLocalError: If a network's units have no finite field.

    Examples:
        Two poolings of VGG's kind: the units of the second lie half a unit of the first further in.

        >>> first = nn.Sequential(nn.Conv2d(3, 4, 3, padding=9), nn.MaxPool2d(2))
        >>> second = nn.Sequential(first, nn.Conv2d(4, 4, 5), nn.MaxPool2d(2))
        >>> up = nn.ConvTranspose2d(4, 4, 4, stride=2)
        >>> skip(nn.Sequential(second, up), first)
        Skip(offset=(1, 1))
    """
    found = [_geometry(net, channels, ndim) for net in (fine, coarse)]
    return Skip(crop_offset(*found))


def crop_to_image(net: nn.Module | Geometry, channels: int = 3, ndim: int | None = None) -> Crop:
    """Return the layer that crops a map of stride 1 to the image, so that unit (i, j) is pixel (i, j).

    Arguments and errors are those of `skip`.
    """
    return Crop(crop_offset(_geometry(net, channels, ndim), None))


def crop_offset(cropped: Geometry, like: Geometry | None) -> tuple[int, ...]:
    """Return where the first unit of one map lies in another of the same stride, per axis.

    Args:
        cropped: The map in which the other lies.
        like: The other map; None for the image itself.

    Raises:
        FullconvError: If the strides differ, or the maps lie a fraction of a position apart.
    """
    strides = like.stride if like else (1,) * len(cropped.axes)
    if cropped.stride != strides:
        raise FullconvError(
            f"`cropped` must have the stride of `like`, {strides} px, got {cropped.stride}: upsample "
            "the coarser map first"
        )
    ends = [axis.middle for axis in like.axes] if like else [Fraction(1, 2)] * len(strides)
    starts = [axis.middle for axis in cropped.axes]
    offsets = [(b - a) / s for a, b, s in zip(starts, ends, strides, strict=True)]
    if any(offset.denominator != 1 for offset in offsets):
        raise FullconvError(
            "`cropped` and `like` must lie a whole number of positions apart, got "
            f"{tuple(map(float, offsets))}: upsample with a kernel one px smaller or larger"
        )
    return tuple(int(offset) for offset in offsets)


def _geometry(net: nn.Module | Geometry, channels: int, ndim: int | None) -> Geometry:
    return net if isinstance(net, Geometry) else trace(same_weights(net).eval(), channels, ndim)
