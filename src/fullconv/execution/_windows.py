"""Windows through the network: which ones fit a memory budget, and the units of each."""

from __future__ import annotations

from math import prod

from torch import Tensor, nn

from fullconv.errors import FullconvError
from fullconv.execution._memory import WORKSPACE, forward_bytes, in_words, return_freed_memory
from fullconv.execution._pixels import channels_last
from fullconv.geometry import Geometry, Window, grid_cover, least_window
from fullconv.tracing import record, trace


class Windows:
    """Covers of whole images by windows that fit a memory budget, for one network.

    The network is traced once for each image size modulo its period, and remembered.

    Args:
        net: Takes `(batch, channels, *spatial)`, returns a map.
        memory: Bytes that running one window may add; None for one window over the whole image.
    """

    def __init__(self, net: nn.Module, memory: int | None) -> None:
        self._net, self._memory = net, memory
        if memory is not None:
            return_freed_memory()
        self._geometries: list[Geometry] = []
        self._bytes_per_px: dict[int, float] = {}

    def cover(self, channels: int, shape: tuple[int, ...]) -> tuple[Window, ...]:
        """Return windows that own every unit of the map of an image exactly once.

        Args:
            channels: Channels of the image.
            shape: Its shape without channels, in px.

        Raises:
            NotLocalError: If the network's units have no finite field.
            FullconvError: If not even the smallest window fits; the message says what would.
        """
        geometry = self.geometry(channels, shape)
        if self._memory is None:
            return grid_cover(geometry, shape)
        per_px = self._per_px(channels, geometry)
        try:
            return grid_cover(geometry, shape, max_window_px=max(1, int(self._memory / per_px)))
        except FullconvError as error:
            raise FullconvError(
                f"`memory` must hold one window, got {in_words(self._memory)} for an image of shape "
                f"{tuple(shape)}: about {in_words(prod(least_window(geometry, shape)) * per_px)} would do"
            ) from error

    def geometry(self, channels: int, shape: tuple[int, ...]) -> Geometry:
        """Return the geometry of the network for images of this shape."""
        for known in self._geometries:
            if len(known.axes) == len(shape) and known.suits(shape):
                return known
        geometry = trace(self._net, channels, shape=shape)
        geometry.map_shape(shape)  # refuses a shape that the network does not take
        self._geometries.append(geometry)
        return geometry

    def _per_px(self, channels: int, geometry: Geometry) -> float:
        """Return the bytes that each pixel of a window takes."""
        axes = len(geometry.axes)
        if axes not in self._bytes_per_px:
            shape = tuple(
                axis.smallest + axis.period * (256 // axis.period + 1) for axis in geometry.axes
            )
            least = geometry.nearest_shapes(shape)[-1]
            taken = forward_bytes(record(self._net, channels, least))
            self._bytes_per_px[axes] = WORKSPACE * taken / prod(least)
        return self._bytes_per_px[axes]


def run_window(net: nn.Module, image: Tensor, window: Window) -> Tensor:
    """Return the units that a window owns, `(classes, *units)`.

    Args:
        net: The network.
        image: What the window reads, `(channels, *window.reads.shape)`, on the network's device.
        window: The window.
    """
    whole: Tensor = net(channels_last(image[None]))
    return whole[0][(slice(None), *window.inside.slices)]
