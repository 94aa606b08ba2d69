"""Maps of whole images within a memory budget, in pieces: the cheapest exact way that fits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fullconv.execution._memory import WORKSPACE
from fullconv.execution._pixels import channels_last, like_weights, read
from fullconv.execution._rolling import Rolling, rolling_bytes
from fullconv.execution._windows import Windows, run_window
from fullconv.geometry import Box, Geometry, Window, band_cover, cover_px
from fullconv.tracing import Stages, stages

# Rows of the image that are read at a time: more are no faster, fewer cost more calls. Blocks of
# memory come back in the same sizes again and again, and are better kept than given back: with
# fresh pages for each, 128 rows took twice as long, 32 rows three times.
ROWS = (64, 32, 16)


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
        self._plans: dict[tuple[int, ...], _Bands | None] = {}
        self._rolling: dict[tuple[int, ...], Rolling] = {}

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
        for owned in (window.units.intersection(wanted) for window in cover):
            if owned is not None:
                window = geometry.window(owned, shape)
                if bands is None:
                    pixels = read(image, window.reads, like_weights(self._net))
                    yield owned, run_window(self._net, pixels, window)
                else:
                    yield from self._down(image, window, bands.rows)

    def _down(self, image: Any, window: Window, rows: int) -> Iterator[tuple[Box, Tensor]]:
        """Yield the units of a window, from its first row to its last."""
        like, reads, inside = like_weights(self._net), window.reads, window.inside
        top, columns = reads.start[0], (reads.start[1:], reads.stop[1:])

        def some(start: int, stop: int) -> Tensor:
            box = Box(start=(top + start, *columns[0]), stop=(top + stop, *columns[1]))
            return channels_last(read(image, box, like)[None])

        for first, part in self._roll(image.shape[0], reads.shape)(some, rows):
            start = max(first, inside.start[0])
            stop = min(first + part.shape[2], inside.stop[0])
            if start < stop:
                shift = window.units.start[0] - inside.start[0]
                owned = Box(
                    start=(start + shift, *window.units.start[1:]),
                    stop=(stop + shift, *window.units.stop[1:]),
                )
                yield owned, part[0][:, start - first : stop - first, *inside.slices[1:]]

    def _roll(self, channels: int, shape: tuple[int, ...]) -> Rolling:
        key = channels, *shape
        if key not in self._rolling:
            found = self._stages(channels, shape)
            assert found is not None
            self._rolling[key] = Rolling(self._net, found)
        return self._rolling[key]

    def _stages(self, channels: int, shape: tuple[int, ...]) -> Stages | None:
        period = next(
            g.axes[0].period for g in self._windows.geometries if len(g.axes) == len(shape)
        )
        return stages(self._net, channels, shape, period)

    def _bands(self, channels: int, shape: tuple[int, ...], geometry: Geometry) -> _Bands | None:
        """Return the bands of an image; None where windows are taken."""
        like = like_weights(self._net)
        if torch.is_autocast_enabled(like.device.type):
            return None  # which casts are made is not known beforehand
        key = channels, *shape
        if key not in self._plans:
            self._plans[key] = self._planned(channels, shape, geometry)
        return self._plans[key]

    def _planned(self, channels: int, shape: tuple[int, ...], geometry: Geometry) -> _Bands | None:
        if self._windows.fits(channels, shape):
            return None
        axis = geometry.axes[0]
        enough = 2 * axis.field + 4 * ROWS[0]
        short = min(shape[0], enough + (shape[0] - enough) % axis.period)
        found = self._stages(channels, (short, *shape[1:]))
        if found is None:
            return None
        plans: list[_Bands] = []
        for rows in ROWS:
            share = self._memory / (WORKSPACE * rolling_bytes(found, rows))
            windows = band_cover(geometry, shape, int(shape[-1] * share)) if share < 1 else None
            if share >= 1 or windows:
                whole = geometry.window(Box.whole(geometry.map_shape(shape)), shape)
                plans.append(_Bands(windows=windows or (whole,), rows=rows))
            if share >= 1:
                break
        return min(plans, key=lambda plan: cover_px(plan.windows), default=None)
