"""Maps of whole images within a memory budget, in pieces: the cheapest exact way that fits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fullconv.execution._down import Down
from fullconv.execution._memory import return_freed_memory
from fullconv.execution._pixels import cast_now, like_weights, read
from fullconv.execution._windows import Windows, run_window
from fullconv.geometry import Box, Geometry, Window, band_units, cover_px, grid_of


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bands:
    """Windows as long as the image, side by side, down which the network runs."""

    windows: tuple[Window, ...]
    rows: int


class Passes:
    """Forward passes of one network over images of any size.

    An image that fits goes through at once. Otherwise the network runs down it, some rows at a time,
    and computes nothing twice; in bands of columns where full rows do not fit; and window by window
    where an operator cannot stop at a row.

    Args:
        net: The network, in eval mode when it is called.
        memory: Bytes that a pass may add.
    """

    def __init__(self, net: nn.Module, memory: int) -> None:
        self._net, self._memory = net, memory
        self._windows = Windows(net, memory)
        self._plans: dict[tuple[object, ...], _Bands | None] = {}
        self._down = Down(net)

    def geometry(self, channels: int, shape: tuple[int, ...]) -> Geometry:
        """Return the geometry of the network for images of this shape.

        Raises:
            NotLocalError: If a layer looks at the whole image.
            FullconvError: If the network does not take the shape.
        """
        return self._windows.geometry(channels, shape)

    def __call__(self, image: Any, units: Box | None = None) -> Iterator[tuple[Box, Tensor]]:
        """Yield the map of an image in pieces.

        Args:
            image: `(channels, *spatial)`: anything sliced into arrays; read piece by piece.
            units: The box of units that is wanted; None for the whole map.

        Yields:
            A box of units, and the map there, `(classes, *box.shape)`. Each unit comes once.

        Raises:
            NotLocalError: If a layer looks at the whole image.
            FullconvError: If the network does not take the shape, or `memory` is too little.
        """
        channels, shape = image.shape[0], tuple(image.shape[1:])
        geometry = self.geometry(channels, shape)
        wanted = units or Box.whole(geometry.map_shape(shape))
        bands = self._bands(channels, shape, geometry)
        cover = self._windows.cover(channels, shape) if bands is None else bands.windows
        if bands is None and len(cover) > 1:
            return_freed_memory()
        for owned in (window.units.intersection(wanted) for window in cover):
            if owned is not None:
                window = geometry.window(owned, shape)
                if bands is None:
                    pixels = read(image, window.reads, like_weights(self._net))
                    yield owned, run_window(self._net, pixels, window)
                else:
                    yield from self._down(image, window, geometry, bands.rows)

    def _bands(self, channels: int, shape: tuple[int, ...], geometry: Geometry) -> _Bands | None:
        """Return the bands of an image; None where windows are taken."""
        key = cast_now(self._net), channels, *shape
        if key not in self._plans:
            self._plans[key] = self._planned(channels, shape, geometry)
        return self._plans[key]

    def _planned(self, channels: int, shape: tuple[int, ...], geometry: Geometry) -> _Bands | None:
        if self._windows.fits(channels, shape):
            return None
        by_rows = self._down.bytes_per_column(channels, shape, geometry)
        plans: list[_Bands] = []
        for rows, per_column in (by_rows or {}).items():
            units = band_units(geometry, shape, int(self._memory / per_column))
            if units is not None:
                cover = grid_of(geometry, shape, (*geometry.map_shape(shape)[:-1], units))
                plans.append(_Bands(windows=cover, rows=rows))
                if len(cover) == 1:
                    break
        return min(plans, key=lambda plan: cover_px(plan.windows), default=None)
