"""Images that do not fit, and which a network runs down and back: where that is cheaper than windows."""

from __future__ import annotations

from fullconv.errors import NotLocalError
from fullconv.execution._cost import WITH_BACKWARD
from fullconv.execution._pixels import cast_now
from fullconv.execution._planner import Planner
from fullconv.execution._reads import Cover
from fullconv.execution._rewind import Rewind, rewind_bytes, rewind_within
from fullconv.execution._rolling import Rolling
from fullconv.execution._same_gradient import same_gradient
from fullconv.tracing import Stages, stages


class Descents:
    """Ways down images and back, for one network.

    Args:
        planner: Of its windows.
    """

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self._modes: tuple[object, ...] = ()
        self._stages: dict[tuple[object, ...], Stages | None] = {}
        self._plans: dict[tuple[object, ...], Rewind | None] = {}
        self._same: dict[tuple[object, ...], bool] = {}

    def plan(
        self,
        channels: int,
        shape: tuple[int, ...],
        cover: Cover,
        passes: float = WITH_BACKWARD,
    ) -> Rewind | None:
        """Return how to run down an image of this shape and back, where these windows cost more.

        Args:
            channels: Channels of the image.
            shape: Its shape, in px per axis.
            cover: One of it that fits.
            passes: What a window costs, in forward passes.

        Returns:
            None, too, where it does not fit the memory, an operator cannot stop at a row, or numbers
            are dropped: they would be others on the way back.
        """
        memory = self._planner.memory
        if memory is None or len(cover) < 2 or self._random(channels, shape):
            return None
        geometry = self._planner.geometry(channels, shape)
        costs = self._planner.costs(channels, geometry)
        price = passes * float(costs.operations(cover.sides).sum())
        least = Rewind(rows=1, every=1).cost * float(costs.operations(shape))
        if price <= least:
            return None
        found = self._found(channels, shape, memory, float(costs.kept_bytes(shape)))
        if found is None or price <= found.cost * float(costs.operations(shape)):
            return None
        return found

    def peak_bytes(self, channels: int, shape: tuple[int, ...], plan: Rewind) -> float:
        """Return the most that going down such an image and back takes at once."""
        found = self._staged(channels, shape)
        assert found is not None
        costs = self._planner.costs(channels, self._planner.geometry(channels, shape))
        return rewind_bytes(found, plan, float(costs.kept_bytes(shape)))

    def rolling(self, channels: int, shape: tuple[int, ...]) -> Rolling:
        """Return the network as it runs down images for which there is a plan."""
        found = self._staged(channels, shape)
        assert found is not None
        return Rolling(self._planner.net, found)

    def _random(self, channels: int, shape: tuple[int, ...]) -> bool:
        """Return whether the network draws random numbers."""
        try:
            return self._planner.draws(channels, shape)
        except NotLocalError:
            return True

    def _found(
        self, channels: int, shape: tuple[int, ...], memory: int, kept_bytes: float
    ) -> Rewind | None:
        found = self._staged(channels, shape)
        key = memory, cast_now(self._planner.net), channels, *shape
        if found is not None and key not in self._plans:
            same = self._is_same(channels, shape)
            self._plans[key] = rewind_within(found, kept_bytes, memory) if same else None
        return self._plans.get(key)

    def _is_same(self, channels: int, shape: tuple[int, ...]) -> bool:
        """Return whether running down gives the network's own gradient, as long as its layers stay."""
        net, geometry = self._planner.net, self._planner.geometry(channels, shape)
        key = cast_now(net), channels, len(shape)
        if key not in self._same:
            self._same[key] = same_gradient(net, channels, geometry)
        return self._same[key]

    def _staged(self, channels: int, shape: tuple[int, ...]) -> Stages | None:
        """Return the stages of the network for images of this shape, as long as its layers stay."""
        if self._modes != self._planner.modes:
            self._modes = self._planner.modes
            self._stages.clear()
            self._plans.clear()
            self._same.clear()
        net = self._planner.net
        key = cast_now(net), channels, *shape
        if key not in self._stages:
            period = self._planner.geometry(channels, shape).axes[0].period
            self._stages[key] = stages(net, channels, shape, period)
        return self._stages[key]
