"""Shift-and-stitch: the dense map from the network itself, run on the image moved by every shift."""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from fullconv.errors import FullconvError
from fullconv.geometry import Geometry
from fullconv.surgery._copying import same_weights
from fullconv.surgery._fragments import Lattice, merged
from fullconv.tracing import trace


class ShiftAndStitch(nn.Module):
    """A network run once for every shift of the image; the maps are interleaved.

    Attributes:
        net: The network.
        shifts: Px by which the image is cropped at its start, along each axis.
    """

    def __init__(self, net: nn.Module, geometry: Geometry, stride: int) -> None:
        super().__init__()
        self.net, self.geometry = net, geometry
        self.shifts = tuple(range(0, int(s), stride) for s in geometry.stride)
        self.training = net.training

    def forward(self, image: Tensor) -> Tensor:
        """Return the map ``(batch, classes, *map)`` of images ``(batch, channels, *spatial)``."""
        self._check_taken(image)
        counts = [self._counts(axis, size) for axis, size in enumerate(image.shape[2:])]
        pieces = tuple(len(shifts) for shifts in self.shifts)
        largest = [max(along) for along in counts]
        fragments: list[Tensor | None] = []
        for place in product(*map(range, pieces)):
            here = [along[n] for along, n in zip(counts, place, strict=True)]
            if not all(here):
                fragments.append(None)
                continue
            starts = [shifts[n] for shifts, n in zip(self.shifts, place, strict=True)]
            units = self.net(image[(..., *(slice(start, None) for start in starts))])
            missing = [most - n for most, n in zip(largest, here, strict=True)]
            fragments.append(F.pad(units, [n for m in reversed(missing) for n in (0, m)]))
        empty = torch.zeros_like(next(f for f in fragments if f is not None))
        lattice = Lattice(sizes=tuple(map(sum, counts)), pieces=pieces)
        dim_of = {axis: axis + 2 for axis in range(len(pieces))}
        return merged(torch.cat([empty if f is None else f for f in fragments]), lattice, dim_of)

    def _check_taken(self, image: Tensor) -> None:
        """Raise if the network does not take the image; while tracing, say what is traced instead."""
        shape = tuple(image.shape[2:])
        if self.geometry.takes(shape):
            return
        if image.is_meta or isinstance(image, FakeTensor):
            raise FullconvError(
                "`net` must be one network run once, got a ShiftAndStitch, which runs one for each shift "
                "of the image: trace that network, or what `fullconv.densify` makes of it"
            )
        self.geometry.map_shape(shape)

    def _counts(self, axis: int, size: int) -> list[int]:
        """Return how many units each shift gives along an axis; none where the image gets too small."""
        along = self.geometry.axes[axis]
        return [
            along.map_size(size - shift) if size - shift >= along.smallest or not shift else 0
            for shift in self.shifts[axis]
        ]


def shift_and_stitch(
    net: nn.Module, stride: int = 1, channels: int = 3, ndim: int | None = None
) -> ShiftAndStitch:
    """Return the network with a unit at every position, from one run for each shift of the image.

    The plain way to what `densify` does in one pass (Long, Shelhamer & Darrell 2015, section 3.2): of a
    network with a stride of s it takes s runs per axis, each on the network as it is, so that it works for
    any network and takes no more memory. With padding inside the network, a cropped image is padded where
    it was cropped: the first units of each shift see zeros where `densify` sees image.

    Args:
        net: From an image to a map; local. It is run as it is.
        stride: Px between the units of the map; divides the network's stride along every axis.
        channels: Channels of the image.
        ndim: Spatial axes; by default those of the network's first convolution or pooling.

    Raises:
        NotLocalError: If a layer looks at the whole image.
        FullconvError: If `stride` does not divide the network's; in `forward`, if the network does not take
            a cropped image.

    Examples:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2))
        >>> shift_and_stitch(net)(torch.randn(1, 3, 20, 30)).shape
        torch.Size([1, 8, 17, 27])
    """
    geometry = trace(same_weights(net).eval(), channels, ndim)
    check_stride(geometry, stride)
    return ShiftAndStitch(net, geometry, stride)


def check_stride(geometry: Geometry, stride: int) -> None:
    """Raise unless a stride divides that of a network along every axis."""
    strides = geometry.stride
    if type(stride) is not int:
        raise FullconvError(
            f"`stride` must be a whole number of px, the same along all axes, got {stride!r}"
        )
    if stride < 1 or any(s < 1 or s % stride for s in strides):
        shown = " x ".join(map(str, strides))
        raise FullconvError(
            f"`stride` must divide that of the network, {shown} px, which must be whole, got {stride}"
        )
