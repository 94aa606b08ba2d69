"""A network as tracing runs it: on images without numbers.

It runs on meta tensors: on a copy whose weights are meta tensors too, so nothing is computed and no
weight memory is taken. Where that does not do (tensors made inside `forward`, branches on values), it
runs on fake tensors, which are slower and know which device they pretend to be on.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from traceback import walk_tb
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.parameter import UninitializedParameter
from torch.overrides import TorchFunctionMode

from fullconv.errors import FullconvError, NotLocalError, named
from fullconv.tracing._program import LOOPS, Program, write_down

# Two images, so that a batch axis is never mistaken for an axis of size one.
BATCH = 2
# Operators of the largest networks number some ten thousand.
MOST_CALLS = 100_000
# They take values out of PyTorch.
OUTSIDE = frozenset({Tensor.numpy, Tensor.tolist, Tensor.__array__})


def check_weights(net: nn.Module) -> None:
    """Refuse a network whose lazy modules have not seen an image.

    Raises:
        FullconvError: If one has not.
    """
    if any(isinstance(p, UninitializedParameter) for p in (*net.parameters(), *net.buffers())):
        raise FullconvError(
            f"`net` must have its weights, got a {type(net).__name__} with lazy modules: run it "
            "once on an image first"
        )


class Subject:
    """A network under study.

    Args:
        net: Takes `(batch, channels, *spatial)`; returns one tensor `(batch, classes, *map)`.
        channels: Channels of the image.
        batch: Images that it runs on.
    """

    def __init__(self, net: nn.Module, channels: int, batch: int = BATCH) -> None:
        check_weights(net)
        self.net, self.channels, self.batch = net, channels, batch
        with _plainly():
            self._hollow = hollow(net)
        self.on_meta = self._hollow is not net

    def record(
        self,
        shape: tuple[int, ...],
        most: int = MOST_CALLS,
        batch: int | None = None,
        *,
        casts: bool = False,
    ) -> Program:
        """Return the operators that the network runs on an image.

        Args:
            shape: Spatial shape of the image, in px.
            most: Operators after which to give up.
            batch: Images that it runs on; None for those of this subject.
            casts: Whether what autocast casts, as it is on now or inside the network, must be among
                the operators.
        """
        if self.on_meta and not casts:  # meta tensors are not cast
            try:
                with _plainly(), _Casts(self._device) as seen:
                    image, before = self._example(self._hollow, shape, batch), _now(self._hollow)
                    program = write_down(self._hollow, image, self._hollow, most)
                    written = _written(self._hollow, before)
                    return replace(program, casts=seen.on, written=written)
            except Exception as error:  # whatever it is, fake tensors say it better
                if isinstance(error, NotLocalError) and error.why == LOOPS[0]:
                    raise
                program = self._record_fake(shape, most, batch)
                self.on_meta = False
                return program
        return self._record_fake(shape, most, batch)

    def _record_fake(self, shape: tuple[int, ...], most: int, batch: int | None) -> Program:
        seen, before = _Casts(self._device), _now(self.net)
        with _plainly(), buffers_kept(self.net), _fake_tensors(), self._inside(), seen:
            program = write_down(self.net, self._example(self.net, shape, batch), self.net, most)
            written = _written(self.net, before)
        return replace(program, casts=seen.on, written=written)

    def run(self, shape: tuple[int, ...]) -> Any:
        """Return what the network returns, for its shape alone."""
        if self.on_meta:
            with _plainly():
                return self._hollow(self._example(self._hollow, shape))
        with _plainly(), buffers_kept(self.net), _fake_tensors(), self._inside():
            return self.net(self._example(self.net, shape))

    @property
    def _device(self) -> str:
        """The kind of device of the network's weights."""
        return next((t.device.type for t in (*self.net.parameters(), *self.net.buffers())), "cpu")

    @contextmanager
    def _inside(self) -> Generator[None]:
        """Refuse a network that takes its values out of PyTorch, by the name of the module."""
        try:
            with _OnlyOperators():
                yield
        except _LeftOperators as error:
            raise FullconvError(
                f"`net` must compute with PyTorch's operators, got `{error}` of a tensor in "
                f"{named(*self.raised_by(error))}: what is computed elsewhere cannot be followed"
            ) from error

    def _example(self, net: nn.Module, shape: tuple[int, ...], batch: int | None = None) -> Tensor:
        """Return an empty batch on the device and of the type of the network's weights."""
        weights = [p for p in [*net.parameters(), *net.buffers()] if p.is_floating_point()]
        device = "cpu" if net is self.net else "meta"
        like = weights[0] if weights else torch.empty(0, device=device)
        size = batch or self.batch, self.channels, *shape
        return torch.empty(size, dtype=like.dtype, device=like.device)

    def raised_by(self, error: BaseException) -> tuple[str, str]:
        """Return path and class of the innermost module that was running when an error was raised."""
        names = {id(m): name for net in (self._hollow, self.net) for name, m in net.named_modules()}
        path, module = "", self.net
        for frame, _ in walk_tb(error.__traceback__):
            found = frame.f_locals.get("self")
            if id(found) in names:
                path, module = names[id(found)], found
        return path, type(module).__name__


def record(
    net: nn.Module,
    channels: int,
    shape: tuple[int, ...],
    batch: int = BATCH,
    *,
    casts: bool = False,
) -> Program:
    """Return the operators that a network runs on images of that spatial shape, in px.

    Args:
        net: The network.
        channels: Channels of an image.
        shape: Of an image, in px per axis.
        batch: Images.
        casts: Whether what autocast casts must be among them.
    """
    return Subject(net, channels, batch).record(shape, casts=casts)


class _Casts(TorchFunctionMode):
    """Sees whether autocast is on while a network runs."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self._device = device
        self.on = self._now()

    def _now(self) -> bool:
        return self._device != "meta" and torch.is_autocast_enabled(self._device)

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        self.on = self.on or self._now()
        return func(*args, **(kwargs or {}))


class _LeftOperators(Exception):
    """Values are taken out of PyTorch."""


class _OnlyOperators(TorchFunctionMode):
    """Raises where values would be taken out of PyTorch: tensors without numbers give anything."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        if func in OUTSIDE:
            raise _LeftOperators(func.__name__)
        return func(*args, **(kwargs or {}))


@contextmanager
def _plainly() -> Generator[None]:
    """Run without gradients; not in inference mode, where operators would arrive undivided."""
    with torch.inference_mode(False), torch.no_grad():
        yield


@contextmanager
def _fake_tensors() -> Generator[None]:
    """Run on tensors without numbers.

    Autocast keeps weights that it has cast. Those of real runs and of these must not meet.
    """
    cached = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    torch.clear_autocast_cache()  # a network that has made its own autocast keeps them all the same
    try:
        with quietly(), FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        torch.clear_autocast_cache()
        torch.set_autocast_cache_enabled(cached)


@contextmanager
def quietly() -> Generator[None]:
    """Keep PyTorch from logging what fails on tensors without numbers: the error that is raised tells."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    was, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = was


def _now(net: nn.Module) -> dict[str, tuple[int, int]]:
    """Return which floating-point buffers a network has, and how often each has been written into."""
    named = net.named_buffers()
    return {name: (id(b), b._version) for name, b in named if b.is_floating_point()}


def _written(net: nn.Module, before: dict[str, tuple[int, int]]) -> tuple[str, ...]:
    """Return the buffers that are others now, or were written into."""
    return tuple(name for name, state in _now(net).items() if before.get(name) != state)


@contextmanager
def buffers_kept(net: nn.Module) -> Generator[None]:
    """Put back what a run in training mode writes into buffers: integer counters are really counted.

    Those that stayed as they were are not written, since a graph may hold them.
    """
    before = [(buffer, buffer._version, buffer.clone()) for buffer in net.buffers()]
    try:
        yield
    finally:
        for buffer, version, content in before:
            if buffer._version != version or _differs(buffer, content):
                buffer.copy_(content)


def _differs(buffer: Tensor, content: Tensor) -> bool:
    """Return whether a buffer was written into; BatchNorm does so without a new version."""
    return not buffer.is_meta and not torch.equal(buffer, content)


def hollow(net: nn.Module) -> nn.Module:
    """Return a copy of the network without numbers; the network itself where it cannot be copied.

    Copying with the tensors already "copied" takes no weight memory. (`functional_call` would do
    without a copy, but leaves modules that are registered twice without their weights.)
    """
    memo = {id(t): torch.empty_like(t, device="meta") for t in (*net.parameters(), *net.buffers())}
    memo |= {
        id(p): nn.Parameter(memo[id(p)], requires_grad=p.requires_grad) for p in net.parameters()
    }
    try:
        return copy.deepcopy(net, memo)
    except Exception:  # noqa: BLE001 - locks, open files, tensors with a graph: whatever it holds
        return net
