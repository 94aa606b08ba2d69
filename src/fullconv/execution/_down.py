"""A network run down images, some rows at a time, in bands of columns where full rows do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from fullconv.execution._memory import WORKSPACE
from fullconv.execution._pixels import cast_now, channels_last, like_weights, read
from fullconv.execution._rolling import Rolling, rolling_bytes
from fullconv.geometry import Box, Geometry, Window
from fullconv.tracing import Stages, stages

# Rows of the image that are read at a time: more are no faster, fewer cost more calls. Blocks of
# memory come back in the same sizes again and again, and are better kept than given back: with
# fresh pages for each, 128 rows took twice as long, 32 rows three times. Of 4096 columns, in three runs
# on two cores, 128 rows took 0.65 to 1.07 of the time that 64 took, and 256 took 0.95 to 1.24 of that.
ROWS = (128, 64, 32, 16)


class Down:
    """One network, run down windows of any size.

    Args:
        net: The network, in eval mode when it is called.
    """

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self._rolling: dict[tuple[object, ...], Rolling] = {}

    def bytes_per_column(
        self, channels: int, shape: tuple[int, ...], geometry: Geometry
    ) -> dict[int, float] | None:
        """Return what it takes for each px along the last axis, by the rows that are read at a time.

        Args:
            channels: Channels of the image.
            shape: Its shape, in px per axis.
            geometry: Of the network, for images of this shape.

        Returns:
            Bytes by rows, however many rows the image has; None where an operator cannot stop at a row.
        """
        axis = geometry.axes[0]
        enough = 2 * axis.field + 4 * ROWS[0]
        short = min(shape[0], enough + (shape[0] - enough) % axis.period)
        found = self._stages(channels, (short, *shape[1:]), axis.period)
        if found is None:
            return None
        return {rows: WORKSPACE * rolling_bytes(found, rows) / shape[-1] for rows in ROWS}

    def __call__(
        self, image: Any, window: Window, geometry: Geometry, rows: int
    ) -> Iterator[tuple[Box, Tensor]]:
        """Yield the units of a window, from its first row to its last.

        Args:
            image: `(channels, *spatial)`: anything sliced into arrays; its rows are read once, in order.
            window: The window.
            geometry: Of the network, for images of this shape.
            rows: Rows of the image to read at a time.

        Yields:
            A box of units, as long as the window's, and the map there, `(classes, *box.shape)`.
        """
        like, reads, inside = like_weights(self._net), window.reads, window.inside
        top, columns = reads.start[0], (reads.start[1:], reads.stop[1:])

        def some(start: int, stop: int) -> Tensor:
            box = Box(start=(top + start, *columns[0]), stop=(top + stop, *columns[1]))
            return channels_last(read(image, box, like)[None])

        roll = self._roll(image.shape[0], reads.shape, geometry.axes[0].period)
        for first, part in roll(some, rows):
            start = max(first, inside.start[0])
            stop = min(first + part.shape[2], inside.stop[0])
            if start < stop:
                shift = window.units.start[0] - inside.start[0]
                owned = Box(
                    start=(start + shift, *window.units.start[1:]),
                    stop=(stop + shift, *window.units.stop[1:]),
                )
                yield owned, part[0][:, start - first : stop - first, *inside.slices[1:]]

    def _roll(self, channels: int, shape: tuple[int, ...], period: int) -> Rolling:
        key = cast_now(self._net), channels, *shape
        if key not in self._rolling:
            found = self._stages(channels, shape, period)
            assert found is not None
            self._rolling[key] = Rolling(self._net, found)
        return self._rolling[key]

    def _stages(self, channels: int, shape: tuple[int, ...], period: int) -> Stages | None:
        return stages(self._net, channels, shape, period)
