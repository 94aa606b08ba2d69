"""Windows through the network: which ones fit a memory budget, and the units of each."""

from __future__ import annotations

from math import prod

from torch import Tensor, nn

from fullconv.errors import FullconvError
from fullconv.execution._memory import WORKSPACE, forward_bytes, in_words
from fullconv.execution._pixels import channels_last
from fullconv.geometry import Geometry, Window, grid_cover, least_window
from fullconv.tracing import record, trace_for


class Windows:
    """Covers of whole images by windows that fit a memory budget, for one network.

    The network is traced once for each image size modulo its period, and remembered.

    Args:
        net: Takes `(batch, channels, *spatial)`, returns a map.
        memory: Bytes that running one window may add; None for one window over the whole image.
    """

    def __init__(self, net: nn.Module, memory: int | None) -> None:
        self._net, self._memory = net, memory
        self.geometries: list[Geometry] = []
        self._known: dict[int, tuple[float, int]] = {}

    def cover(
        self,
        channels: int,
        shape: tuple[int, ...],
        *,
        besides: float = 0.0,
        multiples: tuple[int, ...] | None = None,
    ) -> tuple[Window, ...]:
        """Return windows that own every unit of the map of an image exactly once.

        Args:
            channels: Channels of the image.
            shape: Its shape without channels, in px.
            besides: Bytes for each px of a window that are held besides the network's own.
            multiples: As for `grid_cover`.

        Raises:
            NotLocalError: If the network's units have no finite field.
            FullconvError: If not even the smallest window fits; the message says what would.
        """
        geometry = self.geometry(channels, shape)
        if self._memory is None:
            return grid_cover(geometry, shape, multiples=multiples)
        per_px = self.bytes_per_px(channels, shape) + besides
        try:
            most = max(1, int(self._memory / per_px))
            cover = grid_cover(geometry, shape, max_window_px=most, multiples=multiples)
        except FullconvError as error:
            least = prod(least_window(geometry, shape, multiples))
            raise FullconvError(
                f"`memory` must hold one window, got {in_words(self._memory)} for an image of shape "
                f"{tuple(shape)}: about {in_words(least * per_px)} would do"
            ) from error
        return cover

    def fits(self, channels: int, shape: tuple[int, ...]) -> bool:
        """Return whether one window over a whole image fits."""
        return (
            self._memory is None or self.bytes_per_px(channels, shape) * prod(shape) <= self._memory
        )

    def geometry(self, channels: int, shape: tuple[int, ...]) -> Geometry:
        """Return the geometry of the network for images of this shape."""
        for known in self.geometries:
            if len(known.axes) == len(shape) and known.suits(shape):
                return known
        geometry = trace_for(self._net, channels, shape)
        self.geometries.append(geometry)
        return geometry

    def bytes_per_px(self, channels: int, shape: tuple[int, ...]) -> float:
        """Return the bytes that the network takes for each pixel of a window."""
        return self._measured(channels, self.geometry(channels, shape))[0]

    def classes(self, channels: int, shape: tuple[int, ...]) -> int:
        """Return the channels of the map."""
        return self._measured(channels, self.geometry(channels, shape))[1]

    def _measured(self, channels: int, geometry: Geometry) -> tuple[float, int]:
        axes = len(geometry.axes)
        if axes not in self._known:
            shape = tuple(
                axis.smallest + axis.period * (256 // axis.period + 1) for axis in geometry.axes
            )
            least = geometry.nearest_shapes(shape)[-1]
            program = record(self._net, channels, least)
            per_px = WORKSPACE * forward_bytes(program) / prod(least)
            self._known[axes] = per_px, program.output.shape[1]
        return self._known[axes]


def run_window(net: nn.Module, image: Tensor, window: Window) -> Tensor:
    """Return the units that a window owns, `(classes, *units)`.

    Args:
        net: The network.
        image: What the window reads, `(channels, *window.reads.shape)`, on the network's device.
        window: The window.
    """
    whole: Tensor = net(channels_last(image[None]))
    return whole[0][(slice(None), *window.inside.slices)]
