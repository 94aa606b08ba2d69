"""Which windows a step runs: covers by cost, under a memory budget, for one network."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from copy import copy
from functools import partial
from math import prod
from typing import Literal

import numpy as np
import torch
from torch import nn

from fullconv.errors import FullconvError, NotLocalError
from fullconv.execution._choose import Floats, Price, cheapest_blocks
from fullconv.execution._cost import WITH_BACKWARD, Costs, costs_of, kept_bytes
from fullconv.execution._dropout import Agreed, Agreement, Drops, drops_of, new_seed, none_needed
from fullconv.execution._memory import WORKSPACE, forward_bytes, in_words
from fullconv.execution._modes import modes_of
from fullconv.execution._reads import Blocks, Cover, Ints, Reads
from fullconv.execution._searching import Searches
from fullconv.execution._speed import START_SHARE, Speed
from fullconv.execution._spread import Mask, Spread
from fullconv.geometry import Geometry, grid_blocks, least_window
from fullconv.tracing import record, trace_for

Covering = Literal["cheapest", "whole", "units"]

# Up to so many units, a window for each of them, all of one shape, may be the cheapest cover.
MOST_SINGLE = 2**13

# Into so many parts each axis is cut to tell how scattered units are.
SCATTERED = 16

# How far a process grew past the bytes that were in use, where it kept blocks that had been freed.
KEPT = 2.1

# Windows of one shape run together until they keep this much: larger batches are no faster.
BATCH_BYTES = {"cpu": 2**29, "cuda": 2**32}


class Planner:
    """Plans steps with one network, from integers alone.

    Geometry and costs are found once for each image size modulo the period, and again after layers
    have been put into training or evaluation mode.

    Args:
        net: The network.
        memory: Bytes that running a batch of windows may add; None for as much as it takes.
    """

    def __init__(self, net: nn.Module, memory: int | None) -> None:
        self.net, self.memory = net, memory
        self.speed = Speed()
        self._searches = Searches()
        self.modes: tuple[object, ...] = ()
        self._geometries: list[Geometry] = []
        self._costs: dict[tuple[int, int], Costs] = {}
        self._drops: dict[tuple[int, int], Drops] = {}
        # Raised as copies: what is raised keeps the frames that it passed, and the images in them.
        self._refusals: dict[int, NotLocalError] = {}
        self._wholes: dict[tuple[int, ...], tuple[float, tuple[int, ...]]] = {}
        self._reads: dict[tuple[int, ...], Reads] = {}

    def geometry(self, channels: int, shape: tuple[int, ...]) -> Geometry:
        """Return the geometry of the network for images of this shape.

        Raises:
            NotLocalError: If a layer looks at the whole image.
        """
        self._look_first()
        if len(shape) in self._refusals:
            raise copy(self._refusals[len(shape)])
        for known in self._geometries:
            if len(known.axes) == len(shape) and known.suits(shape):
                return known
        try:
            geometry = trace_for(self.net, channels, shape)
        except NotLocalError as error:
            self._refusals[len(shape)] = copy(error)
            raise
        self._geometries.append(geometry)
        return geometry

    def drops(self, channels: int, geometry: Geometry) -> Drops:
        """Return the dropouts of the network.

        Raises:
            NotLocalError: If it draws random numbers in another way.
        """
        key = channels, len(geometry.axes)
        if key not in self._drops:
            low = geometry.nearest_shapes(geometry.field)[-1]
            high = tuple(a + axis.period for a, axis in zip(low, geometry.axes, strict=True))
            self._drops[key] = drops_of(self.net, channels, low, high)
        return self._drops[key]

    def know(self, channels: int, shape: tuple[int, ...]) -> None:
        """Find the costs of windows on images of this shape, unless the network is not local."""
        try:
            self.costs(channels, self.geometry(channels, shape))
        except NotLocalError:
            return

    def costs(self, channels: int, geometry: Geometry) -> Costs:
        """Return what windows of the network cost."""
        key = channels, len(geometry.axes)
        if key not in self._costs:
            self._costs[key] = costs_of(self.net, channels, geometry)
        return self._costs[key]

    def cover(
        self,
        channels: int,
        shape: tuple[int, ...],
        map_shape: tuple[int, ...],
        chosen: Spread | None,
        covering: Covering = "cheapest",
    ) -> Cover:
        """Return windows that own every chosen unit once.

        Args:
            channels: Channels of the image.
            shape: Its shape without channels, in px.
            map_shape: Shape of its labels; without a geometry, the map is taken to be of that shape.
            chosen: The chosen units; None for all.
            covering: ``cheapest``, or one end of what can be chosen: ``whole`` or ``units``.

        Raises:
            NotLocalError: If it takes more than one window, and a layer looks at the whole image.
            FullconvError: If the map is of another shape, or `memory` is too little for a window.
        """
        if chosen is not None and not chosen.any() and self._is_local(channels, shape):
            return Cover.nowhere(len(shape))
        if self.memory is None and (
            covering == "whole" or (chosen is None and covering != "units")
        ):
            return Cover.whole(shape, map_shape)
        try:
            geometry = self.geometry(channels, shape)
        except NotLocalError:
            if covering == "units" or not self._fits_whole(channels, shape):
                raise
            return Cover.whole(shape, map_shape)
        _check_map(geometry, shape, map_shape)
        costs = self.costs(channels, geometry)
        reads = self._reads_of(geometry, shape)
        if covering == "units":
            chosen = Mask(np.ones(map_shape, np.bool_)) if chosen is None else chosen
            found = reads(chosen.each())
        elif chosen is None or covering == "whole":
            found = self._grid(geometry, reads, shape, costs, chosen)
        else:
            found = self._cheapest(geometry, reads, shape, chosen, costs)
        self._check_fits(found.sides, geometry, shape, costs)
        if len(found) > 1 and costs.written:
            raise self._writes(costs.written[0])
        return found

    def whole_cover(self, channels: int, shape: tuple[int, ...], batch: int) -> Cover:
        """Return windows that own every unit of an image; one window if a whole batch fits.

        Raises:
            NotLocalError: If it takes more than one window, and a layer looks at the whole image.
            FullconvError: If the network does not take the shape, or `memory` is too little.
        """
        if self._fits_whole(channels, shape, batch):
            return Cover.whole(shape, self._whole(channels, shape)[1])
        map_shape = self.geometry(channels, shape).map_shape(shape)
        return self.cover(channels, shape, map_shape, None)

    def agreement(self, channels: int, shape: tuple[int, ...]) -> Agreement:
        """Return what makes dropout agree between the windows of one step, for each batch of them.

        Raises:
            NotLocalError: If the network draws random numbers in another way.
        """
        if not self.draws(channels, shape):
            return none_needed
        drops = self.drops(channels, self.geometry(channels, shape))
        return partial(Agreed, drops, new_seed())

    def draws(self, channels: int, shape: tuple[int, ...]) -> bool:
        """Return whether the network draws random numbers, on images of this shape."""
        geometry = self.geometry(channels, shape)
        if not any(module.training for module in self.net.modules()):
            return self.costs(channels, geometry).draws
        return bool(self.drops(channels, geometry).rates)

    def most_together(self, channels: int, sides: tuple[int, ...], count: int, device: str) -> int:
        """Return how many of `count` windows of these sides to run together.

        Raises:
            NotLocalError: If they do not all fit, and a layer looks at all of them.
        """
        if len(sides) in self._refusals:
            if not self._fits_whole(channels, sides, count):
                raise copy(self._refusals[len(sides)])
            return count
        known = [costs for (_, axes), costs in self._costs.items() if axes == len(sides)]
        if not known:
            return count
        each = float(known[0].training_bytes(sides))
        limit = BATCH_BYTES.get(device, BATCH_BYTES["cuda"])
        return max(1, int(min(limit, self.memory or limit) / max(1.0, each)))

    def check_crop(self, channels: int, sides: tuple[int, ...]) -> None:
        """Refuse a box that is cut out by itself, if it takes more than the memory.

        Raises:
            FullconvError: If it does.
        """
        known = self._costs.get((channels, len(sides)))
        each = float(known.training_bytes(sides)) if known else self._whole(channels, sides)[0]
        if self.memory is not None and each > self.memory:
            raise FullconvError(
                f"`memory` must hold one crop, got {in_words(self.memory)} for one of {sides} px: "
                f"about {in_words(each)} would do"
            )

    @contextmanager
    def sized(self, channels: int, shape: tuple[int, ...]) -> Generator[None]:
        """Say in words where the network fails because it does not take images of this shape.

        Raises:
            FullconvError: If it does.
        """
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            try:
                self.geometry(channels, shape).map_shape(shape)
            except NotLocalError:
                raise error from None
            except FullconvError as refusal:
                raise refusal from error
            raise

    def is_tight(self, channels: int, sides: tuple[int, ...], count: int) -> bool:
        """Return whether so many windows of these sides take most of the memory.

        Freed blocks that the process keeps may then take it past the rest.
        """
        if self.memory is None:
            return False
        known = self._costs.get((channels, len(sides)))
        each = known.training_bytes(sides) if known else self._whole(channels, sides)[0]
        return KEPT * count * float(each) > self.memory

    def _fits_whole(self, channels: int, shape: tuple[int, ...], count: int = 1) -> bool:
        """Return whether so many whole images fit the memory, whatever their network looks at."""
        return self.memory is None or count * self._whole(channels, shape)[0] <= self.memory

    def _whole(self, channels: int, shape: tuple[int, ...]) -> tuple[float, tuple[int, ...]]:
        """Return the bytes that a step over a whole image takes, and the shape of its map."""
        self._look_first()
        if (channels, *shape) not in self._wholes:
            with self.sized(channels, shape):
                program = record(self.net, channels, shape)
            kept = kept_bytes(self.net, channels, shape, program)
            needed = WORKSPACE * max(kept, forward_bytes(program))
            self._wholes[channels, *shape] = needed, program.output.shape[2:]
        return self._wholes[channels, *shape]

    def note(self, channels: int, sides: tuple[int, ...], count: int, seconds: float) -> None:
        """Note how long a run over so many windows of these sides took."""
        known = self._costs.get((channels, len(sides)))
        if known is not None:
            operations = count * WITH_BACKWARD * float(known.operations(sides))
            self.speed.measured(operations, seconds)

    def _reads_of(self, geometry: Geometry, shape: tuple[int, ...]) -> Reads:
        """Return what windows read on images of this shape."""
        if shape not in self._reads:
            self._reads[shape] = Reads(geometry, shape)
        return self._reads[shape]

    def _cheapest(
        self,
        geometry: Geometry,
        reads: Reads,
        shape: tuple[int, ...],
        chosen: Spread,
        costs: Costs,
    ) -> Cover:
        """Return the boxes of chosen units, with their windows, that cost the least."""
        if chosen.count == 1:
            return reads(chosen.each())

        def price(sides: Ints) -> Floats:
            seconds = self.speed.seconds(WITH_BACKWARD * costs.operations(sides))
            if self.memory is None:
                return seconds
            return np.where(costs.training_bytes(sides) <= self.memory, seconds, np.inf)

        covers = [self._grid(geometry, reads, shape, costs, chosen)]
        seconds = [self._seconds(covers[0], price)]
        least = chosen.count * (float(price(reads.smallest)[0]) - START_SHARE * self.speed.start)
        if chosen.count <= MOST_SINGLE and least < seconds[0]:
            covers.append(reads(chosen.each()))
            if len(covers[-1].shapes()[1]) > 1:
                covers.append(reads.alike(covers[-1]))
            seconds += [self._seconds(cover, price) for cover in covers[1:]]
        if self._searches.could_pay(min(seconds)) and self._searches.pays(kind := _kind(chosen)):
            start = time.perf_counter()
            covers.append(reads(cheapest_blocks(geometry, reads, chosen, price)))
            seconds.append(self._seconds(covers[-1], price))
            saved = min(seconds[:-1]) - seconds[-1]
            self._searches.note(kind, time.perf_counter() - start, saved)
        return min(zip(seconds, covers, strict=True), key=lambda pair: pair[0])[1]

    def _seconds(self, cover: Cover, price: Price) -> float:
        """Return the seconds of a cover, whose windows of one shape start together."""
        shapes, counts, _ = cover.shapes()
        starts = len(counts) - START_SHARE * len(cover)
        return float(price(shapes) @ counts) + self.speed.start * starts

    def _grid(
        self,
        geometry: Geometry,
        reads: Reads,
        shape: tuple[int, ...],
        costs: Costs,
        chosen: Spread | None,
    ) -> Cover:
        """Return the grid of boxes of units that fits the memory, where some are chosen.

        If none fits, it is the finest.
        """
        map_shape = geometry.map_shape(shape)
        if self.memory is None:
            return Cover.whole(shape, map_shape)
        # The bytes of each px fall with the size of the window.
        lows = geometry.nearest_shapes(geometry.field)[-1]
        per_px = max(float(costs.training_bytes(s)) / prod(s) for s in (lows, shape))
        most = max(prod(least_window(geometry, shape)), int(self.memory / per_px))
        blocks = grid_blocks(geometry, shape, most)
        grid = tuple(-(-m // b) for m, b in zip(map_shape, blocks, strict=True))
        if chosen is None:
            places = np.indices(grid).reshape(len(grid), -1)
        else:
            places = chosen.cells(blocks, grid)
        sides = np.array(blocks)[:, None]
        ends = np.minimum((places + 1) * sides, np.array(map_shape)[:, None])
        return reads(Blocks(places * sides, ends))

    def _is_local(self, channels: int, shape: tuple[int, ...]) -> bool:
        """Return whether units have fields; if not, images without chosen units count all the same."""
        try:
            self.geometry(channels, shape)
        except NotLocalError:
            return False
        return True

    def _writes(self, buffer: str) -> NotLocalError:
        """Return the error for a buffer that each window would find as the one before it left it."""
        path, _, name = buffer.rpartition(".")
        return NotLocalError.at(
            module=path,
            module_class=type(self.net.get_submodule(path)).__name__,
            operator=f"buffer `{name}`",
            why="it writes into a buffer while it runs, and an image takes several windows",
            remedies=("put it into eval mode", "use whole images only"),
        )

    def _check_fits(
        self, sides: Ints, geometry: Geometry, shape: tuple[int, ...], costs: Costs
    ) -> None:
        """Refuse a cover if one of its windows takes more than the memory."""
        if self.memory is not None and float(costs.training_bytes(sides).max()) > self.memory:
            least = float(costs.training_bytes(least_window(geometry, shape)))
            raise FullconvError(
                f"`memory` must hold one window, got {in_words(self.memory)} for an image of shape "
                f"{shape}: about {in_words(least)} would do"
            )

    def look(self) -> None:
        """Forget what was found out, if the network has other layers or settings by now."""
        modes = modes_of(self.net)
        if modes != self.modes:
            self.modes = modes
            self._geometries.clear()
            self._costs.clear()
            self._drops.clear()
            self._refusals.clear()
            self._wholes.clear()
            self._reads.clear()

    def _look_first(self) -> None:
        if not self.modes:
            self.look()


def _kind(chosen: Spread) -> tuple[object, ...]:
    """Return what steps have alike that are planned alike: about how many units, about how scattered."""
    blocks = [max(1, size // SCATTERED) for size in chosen.shape]
    grid = tuple(-(-m // b) for m, b in zip(chosen.shape, blocks, strict=True))
    held = chosen.cells(blocks, grid).shape[1]
    return chosen.shape, chosen.count.bit_length(), held.bit_length()


def _check_map(geometry: Geometry, shape: tuple[int, ...], map_shape: tuple[int, ...]) -> None:
    expected = geometry.map_shape(shape)
    if tuple(map_shape) != expected:
        raise FullconvError(
            f"`targets` must have the shape of the map, {expected} for an image of shape {shape}, "
            f"got {tuple(map_shape)}"
        )
