"""A dense network, and which way of running it is the fastest here."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import product
from math import inf
from typing import Any, Literal, get_args

import torch
from torch import Tensor, fx, nn
from torch._guards import detect_fake_mode
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves, tree_map_only

from fullconv.errors import FullconvError
from fullconv.surgery._fragments import OnFragments
from fullconv.surgery._steps import Mean, Pad, Step
from fullconv.tracing import buffers_kept

Execution = Literal["auto", "dilation", "fragments"]
Way = tuple[str, torch.memory_format]
LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
# The fastest of so many runs counts, but nobody waits for a second one that takes long and is far behind.
RUNS, LONG_S, FAR = 3, 0.5, 3


class Dense(nn.Module):
    """A network with a unit at every position, or at every `stride`-th.

    It has two ways of running that give the same numbers: by *dilation*, on dense maps of which windows
    read positions far apart; and on *fragments*, the maps of which the dense ones are interleaved, side
    by side in the batch. Either may keep the channels of its maps together (channels_last). Which is
    fastest depends on the machine, the network and the image: by default each is timed once, with the
    first image of a size (to the next power of two; with gradient or without; of a type, or under
    autocast to it), and the fastest is taken from then on.

    Attributes:
        net: The network by dilation, of PyTorch's layers and pooling with dilation.
        execution: ``auto``, or ``dilation`` or ``fragments`` with the memory format that the image has.
    """

    def __init__(
        self,
        net: fx.GraphModule,
        steps: Mapping[str, Step],
        axis_of: Mapping[str, Mapping[int, int]],
    ) -> None:
        super().__init__()
        self.net = net
        self.execution: Execution = "auto"
        self._steps, self._axis_of = dict(steps), dict(axis_of)
        self._chosen: dict[Any, Way] = {}
        self.training = net.training

    def forward(self, image: Tensor) -> Any:
        """Return the map ``(batch, classes, *map)`` of images ``(batch, channels, *spatial)``."""
        ndim = 2 + len(next(iter(self._axis_of.values())))  # the first is the image
        if image.ndim != ndim:
            raise FullconvError(
                f"`image` must have {ndim} axes here, (batch, channels, *spatial), got one of shape "
                f"{tuple(image.shape)}: of a single image take image[None]"
            )
        return self._run(image, self._way(image))

    def __getstate__(self) -> dict[str, Any]:
        """Return what is saved: not what was fastest, which is another on another machine."""
        return self.__dict__ | {"_chosen": {}}

    def _run(self, image: Tensor, way: Way) -> Any:
        execution, memory_format = way
        if memory_format is not torch.preserve_format:
            image = image.contiguous(memory_format=memory_format)
        found = self.net(image) if execution == "dilation" else self._on_fragments(image)
        if memory_format is torch.preserve_format:
            return found
        return tree_map_only(Tensor, torch.Tensor.contiguous, found)

    def _on_fragments(self, image: Tensor) -> Any:
        return OnFragments(self.net, self._steps, self._axis_of).run(image)

    def _way(self, image: Tensor) -> Way:
        """Return the way to run an image."""
        if self.execution not in get_args(Execution):
            raise FullconvError(
                f"`execution` must be one of {', '.join(get_args(Execution))}, got {self.execution!r}"
            )
        hindrance = self._hindrance()
        if self.execution == "fragments" and hindrance:
            raise FullconvError(
                f"`execution` must be 'dilation' here, got 'fragments': {hindrance}"
            )
        if self.execution != "auto":
            return self.execution, torch.preserve_format
        # Where there are no numbers, or an operator is being written down, nothing can be timed.
        if image.is_meta or detect_fake_mode(image) or torch.compiler.is_compiling():
            return "dilation", torch.preserve_format
        key = (
            *(size.bit_length() for size in image.shape), image.dtype, image.device,
            image.is_contiguous(), self._wants_gradient(image), bool(hindrance),
            torch.is_autocast_enabled(image.device.type) and torch.get_autocast_dtype(image.device.type),
        )  # fmt: skip
        if key not in self._chosen:
            self._chosen[key] = self._fastest(
                image, ["dilation"] if hindrance else ["dilation", "fragments"]
            )
        return self._chosen[key]

    def _hindrance(self) -> str:
        """Return why the network cannot run on fragments; nothing if it can."""
        modules = dict(self.net.named_modules())
        if any(isinstance(m, _BatchNorm) and m.training for m in modules.values()):
            return "BatchNorm in training would count positions that fragments hold for nothing"
        for name, module in modules.items():
            if isinstance(module, Pad) and module.copies_within_fragments:
                return f"`{name}` pads with copies, of which fragments hold different numbers"
            if isinstance(module, Mean) and module.divisor == "padded":
                return f"`{name}` counts padding, of which fragments hold different numbers"
        plans = [plan for step in self._steps.values() for plan in step.plans.values()]
        if any(plan.stride > 1 and plan.spacing.dilation > 1 for plan in plans):
            return "a layer keeps a part of its stride on a map that was made dense"
        return ""

    def _wants_gradient(self, image: Tensor) -> bool:
        return torch.is_grad_enabled() and any(
            t.requires_grad for t in (image, *self.net.parameters())
        )

    def _fastest(self, image: Tensor, executions: list[str]) -> Way:
        """Return the way that took the shortest time to run the image, with its gradient if wanted."""
        formats = [torch.preserve_format]
        if image.ndim in LAST and image.is_contiguous():
            formats.append(LAST[image.ndim])
        ways = list(product(executions, formats))
        took = dict.fromkeys(ways, inf)
        devices = [image.device] if image.is_cuda else []
        with torch.random.fork_rng(devices), buffers_kept(self.net):
            # In turn, so that a machine that is busy for a moment is busy for all.
            for turn in range(RUNS):
                best = min(took.values())
                for way in ways:
                    if turn == 0 or took[way] <= max(LONG_S, FAR * best):
                        took[way] = min(took[way], self._seconds(image.detach(), way))
        return min(took, key=lambda way: took[way])

    def _seconds(self, image: Tensor, way: Way) -> float:
        """Return how long one run takes."""
        start = _now(image)
        found = self._run(image, way)
        if self._wants_gradient(image):
            total = torch.stack([t.float().sum() for t in tree_leaves(found)]).sum()
            weights = [p for p in self.net.parameters() if p.requires_grad]
            torch.autograd.grad(total, weights, allow_unused=True)
        return _now(image) - start


def _now(image: Tensor) -> float:
    if image.is_cuda:
        torch.cuda.synchronize(image.device)
    return time.perf_counter()
