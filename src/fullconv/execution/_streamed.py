"""A network whose map and gradients are those of the whole image, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from fullconv.errors import FullconvError
from fullconv.execution._cost import WITH_BACKWARD
from fullconv.execution._descents import Descents
from fullconv.execution._dropout import Agreement
from fullconv.execution._handed import Sums, gradients, refuse_graph
from fullconv.execution._memory import keep_freed_memory, parse_memory, return_freed_memory
from fullconv.execution._pixels import laid_out, like_weights
from fullconv.execution._planner import Planner
from fullconv.execution._reads import Cover
from fullconv.execution._rewind import Rewind
from fullconv.execution._rewinding import Rewinding
from fullconv.execution._rolling import Read
from fullconv.geometry import Window


class Streamed(nn.Module):
    """The same network, map and gradients, in parts that fit a memory budget.

    Forward computes the map part by part and keeps almost nothing; backward runs each part again, with
    the gradient of its part of the map. So any loss on the map will do (Dice, for instance), for one
    more forward pass. Where the loss is a sum over units, `StepLoss` needs no more.

    Args:
        net: Takes `(batch, channels, *spatial)`, returns a map `(batch, classes, *map)`.
        memory: What a pass may add to images, map and gradients: "2 GiB", "500MB", "80%" or bytes.

    Examples:
        >>> import torch, fullconv as fc
        >>> net = fc.Streamed(torch.nn.Conv2d(3, 2, 3, padding=1), memory="8 MiB")
        >>> net(torch.rand(1, 3, 300, 400)).square().mean().backward()
    """

    def __init__(self, net: nn.Module, memory: str | int) -> None:
        super().__init__()
        self.net = net
        self._planner = Planner(getattr(net, "_orig_mod", net), parse_memory(memory))
        self._descents = Descents(self._planner)

    def forward(self, images: Tensor) -> Tensor:
        """Return the map of a batch of images, `(batch, classes, *map)`.

        Raises:
            NotLocalError: If it takes several windows and a layer looks at the whole image.
            FullconvError: If the network does not take the images' shape, or `memory` is too little.
        """
        if torch.compiler.is_compiling():  # planning is no part of a graph
            plainly: Any = torch.compiler.disable(self._map)
            return plainly(images)
        return self._map(images)

    def _map(self, images: Tensor) -> Tensor:
        if not isinstance(images, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance] (users' data)
            raise FullconvError(
                "`images` must be a tensor (batch, channels, *spatial), got a "
                f"{type(images).__name__}: `torch.as_tensor` makes one of an array"
            )
        self._planner.look()
        batch, channels, *shape = images.shape
        sides = tuple(shape)
        cover = self._planner.whole_cover(channels, sides, batch)
        if len(cover) == 1 and tuple(cover.sides[:, 0]) == sides:
            with self._planner.sized(channels, sides):
                return self.net(laid_out(images, self.net))
        leaves = [p for p in self.net.parameters() if p.requires_grad]
        down = self._descents.plan(channels, sides, cover, 1 + WITH_BACKWARD)
        if down is not None:
            return _Descent.apply(self, down, cover, images, *leaves)  # pyright: ignore[reportReturnType] (untyped)
        return_freed_memory()
        return _Stream.apply(self, self._parts(images, cover), images, *leaves)  # pyright: ignore[reportReturnType] (untyped)

    @property
    def modes(self) -> tuple[object, ...]:
        """The layers and settings of the network, as they are now."""
        self._planner.look()
        return self._planner.modes

    def check_modes(self, modes: tuple[object, ...]) -> None:
        """Refuse a gradient for a map that was made in other modes."""
        if self.modes != modes:
            raise FullconvError(
                "`net` must stay as it is until the gradient of its map is known, got other layers, "
                "modes or settings: call `backward` before `train()`, `eval()` and the like"
            )

    def _parts(self, images: Tensor, cover: Cover) -> list[tuple[slice, Window]]:
        """Return which images and which window each run of the network takes."""
        batch, channels = images.shape[:2]
        device = like_weights(self.net).device.type
        return [
            (slice(start, start + most), window)
            for window in cover.windows()
            for most in [self._planner.most_together(channels, window.reads.shape, batch, device)]
            for start in range(0, batch, most)
        ]

    def descent(self, images: Tensor, plan: Rewind) -> Rewinding:
        """Return a way down images of this shape, and back."""
        keep_freed_memory()
        return Rewinding(self._descents.rolling(images.shape[1], tuple(images.shape[2:])), plan)

    def reader(self, images: Tensor, number: int) -> Read:
        """Return what reads rows of one image."""
        return lambda a, b: laid_out(images[number : number + 1, :, a:b], self.net)

    def agreement(self, images: Tensor) -> Agreement:
        """Return what makes dropout the same in all windows of one pass."""
        return self._planner.agreement(images.shape[1], tuple(images.shape[2:]))

    def agreeing(
        self, images: Tensor, part: tuple[slice, Window], agree: Agreement
    ) -> AbstractContextManager[Any]:
        """Return what makes dropout the same in a window as in all others."""
        which, window = part
        return agree([(number, window) for number in range(*which.indices(len(images)))])

    def run(self, images: Tensor, part: tuple[slice, Window]) -> Tensor:
        """Return the units that a window owns."""
        which, window = part
        read = images[(which, slice(None), *window.reads.slices)]
        found: Tensor = self.net(laid_out(read, self.net))
        return found[(slice(None), slice(None), *window.inside.slices)]


class _Stream(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        net: Streamed,
        parts: Sequence[tuple[slice, Window]],
        images: Tensor,
        *leaves: Tensor,
    ) -> Tensor:
        ctx.net, ctx.parts, ctx.modes = net, parts, net.modes
        ctx.agree = net.agreement(images)
        ctx.context = _autocast_as_now(images.device.type)
        ctx.save_for_backward(images, *leaves)
        found: Tensor | None = None
        for part in parts:
            with net.agreeing(images, part, ctx.agree):
                units = net.run(images, part)
            if found is None:
                stops = [window.units.stop for _, window in parts]
                shape = [max(each) for each in zip(*stops, strict=True)]
                found = units.new_empty((len(images), units.shape[1], *shape))
            found[_place(part)] = units
        assert found is not None
        return found

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        refuse_graph()
        ctx.net.check_modes(ctx.modes)
        images, *leaves = ctx.saved_tensors
        # They may have been computed: each part goes back to them, and no further.
        images = images.detach().requires_grad_(ctx.needs_input_grad[2])
        inputs = ([images] if ctx.needs_input_grad[2] else []) + leaves
        sums = Sums(len(inputs))
        for part in ctx.parts:
            with ctx.net.agreeing(images, part, ctx.agree):
                with torch.enable_grad(), ctx.context():
                    units = ctx.net.run(images, part)
                sums.add(gradients(units, inputs, outputs[0][_place(part)]))
        return None, None, *([] if ctx.needs_input_grad[2] else [None]), *sums.found


class _Descent(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        net: Streamed,
        plan: Rewind,
        cover: Cover,
        images: Tensor,
        *leaves: Tensor,
    ) -> Tensor:
        ctx.net, ctx.plan, ctx.modes = net, plan, net.modes
        ctx.save_for_backward(images, *leaves)
        shape = cover.blocks.highs.max(1).tolist()
        found: Tensor | None = None
        for number in range(len(images)):
            ctx.way = net.descent(images, plan)  # the last one is gone back first
            for first, piece in ctx.way.down(net.reader(images, number)):
                if found is None:
                    found = piece.new_empty((len(images), piece.shape[1], *shape))
                found[number, :, first : first + piece.shape[2]] = piece[0]
        assert found is not None
        return found

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        refuse_graph()
        ctx.net.check_modes(ctx.modes)
        images, *leaves = ctx.saved_tensors
        # They may have been computed: each part goes back to them, and no further.
        images = images.detach().requires_grad_(ctx.needs_input_grad[3])
        inputs = ([images] if ctx.needs_input_grad[3] else []) + leaves
        sums = Sums(len(inputs))
        way: Rewinding = ctx.way
        for number in reversed(range(len(images))):
            grads = outputs[0][number : number + 1]

            def outer(first: int, piece: Tensor, grads: Tensor = grads) -> tuple[Tensor, Tensor]:
                return piece, grads[:, :, first : first + piece.shape[2]]

            sums.add(way.back(ctx.net.reader(images, number), inputs, outer))
        return None, None, None, *([] if ctx.needs_input_grad[3] else [None]), *sums.found


def _place(part: tuple[slice, Window]) -> tuple[slice, ...]:
    which, window = part
    return which, slice(None), *window.units.slices


def _autocast_as_now(device: str) -> Callable[[], AbstractContextManager[Any]]:
    """Return what brings back today's autocast in backward."""
    enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    return lambda: torch.autocast(device, dtype, enabled=enabled)
