"""Which image sizes a network takes, and what maps it returns: by running it on empty tensors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from fullconv.errors import FullconvError
from fullconv.tracing._program import example, record, the_map

# Sizes tried when no shape is given: multiples of most periods, small ones first, then the sizes of
# well-known networks, then every remainder modulo 64.
FIRST_TRIES = (64, 128, 256, 512, 1024, 96, 192, 384, 240, 224, 227, 299, *range(193, 257), 572)


# These return what they take in another form of the same shape; on empty tensors they are slow.
SAME_SHAPE = frozenset({
    F.batch_norm, F.layer_norm, F.group_norm, F.instance_norm, F.dropout, F.relu, F.leaky_relu,
    F.gelu, F.silu, F.hardswish, F.elu,
})  # fmt: skip


class _ShapesAlone(TorchFunctionMode):
    """Skips what keeps the shape."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        return args[0] if args and func in SAME_SHAPE else func(*args, **(kwargs or {}))


class Sizes:
    """The map shape of any image shape, by running a network on tensors without numbers."""

    def __init__(self, net: nn.Module, channels: int) -> None:
        self._net, self._channels = net, channels
        self._known: dict[tuple[int, ...], tuple[int, ...] | Exception] = {}
        self._hollow = _hollow(net)
        self._run: Callable[[tuple[int, ...]], Any] = self._run_on_meta

    def map_shape(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the spatial shape of the map, or None if the network does not take the shape."""
        if shape not in self._known:
            self._known[shape] = self._measure(shape)
        known = self._known[shape]
        return None if isinstance(known, Exception) else known

    def use_fake_tensors(self) -> None:
        """Run on fake tensors from now on: slower, but tensors made inside `forward` may be real."""
        self._run = self._run_on_fake
        self._known.clear()

    def _measure(self, shape: tuple[int, ...]) -> tuple[int, ...] | Exception:
        try:
            with torch.inference_mode(False), torch.no_grad(), _ShapesAlone():
                output = self._run(shape)
            found = tuple(the_map(output).shape[2:])
        except FullconvError:
            raise
        except Exception as error:  # noqa: BLE001 - any refusal of a shape, in whatever words the network has
            return error
        return found if all(found) else ValueError(f"the map would have shape {found}")

    def _run_on_meta(self, shape: tuple[int, ...]) -> Any:
        return self._hollow(example(self._hollow, self._channels, shape))

    def _run_on_fake(self, shape: tuple[int, ...]) -> Tensor:
        with FakeTensorMode(allow_non_fake_inputs=True):
            return self._net(example(self._net, self._channels, shape))


def _hollow(net: nn.Module) -> nn.Module:
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


def find_start(sizes: Sizes, net: nn.Module, channels: int, ndim: int) -> tuple[int, ...]:
    """Return a shape that the network takes.

    Raises:
        NotLocalError: If it takes none because it branches on values.
        FullconvError: If it takes none of those tried; with what it said.
    """
    for _ in range(2):
        for size in FIRST_TRIES:
            if sizes.map_shape((size,) * ndim) is not None:
                return (size,) * ndim
        sizes.use_fake_tensors()
    reason = "the map would be empty"
    try:
        record(net, channels, FIRST_TRIES[:1] * ndim)
    except FullconvError:
        raise
    except Exception as error:  # noqa: BLE001 - any refusal of a shape
        reason = _short(error)
    raise FullconvError(
        "`net` must take images of more than one size, got an error for each of those tried, from "
        f"{min(FIRST_TRIES)} to {max(FIRST_TRIES)} px: {reason}. Give a shape that it takes as "
        "`shape`; a classifier with Linear layers must be made fully convolutional first"
    )


def legal_sizes(
    sizes: Sizes, shape: tuple[int, ...], axis: int, period: int
) -> tuple[tuple[int, int] | None, ...]:
    """Return, for each size modulo `period` along an axis, the smallest legal one and its map size.

    Args:
        sizes: The network's sizes.
        shape: A shape that it takes; the other axes keep it.
        axis: The axis that varies.
        period: In px.
    """

    def measure(size: int) -> int | None:
        found = sizes.map_shape((*shape[:axis], size, *shape[axis + 1 :])) if size > 0 else None
        return found[axis] if found else None

    return tuple(_table(measure, shape[axis], period))


def _table(
    measure: Callable[[int], int | None], known: int, period: int
) -> Iterator[tuple[int, int] | None]:
    """Yield the smallest legal size of each remainder; the one before is a good first guess."""
    guess = 0
    for residue in range(period):
        large = known + (residue - known) % period
        size = _smallest(measure, large, period, guess + 1 if guess else residue or period)
        guess = size or 0
        yield None if size is None else (size, measure(size) or 0)


def _smallest(
    measure: Callable[[int], int | None], large: int, period: int, guess: int
) -> int | None:
    """Return the smallest legal size that is `large` modulo the period, or None.

    Sizes above a legal one of the same remainder are legal, so a search by halves finds it.
    """
    if (large - guess) % period == 0 and guess <= large and measure(guess) is not None:
        if measure(guess - period) is None:
            return guess
        large = guess
    for higher in (large, large + period, large + 8 * period):
        if measure(higher) is not None:
            low, high = higher % period - period, higher
            while high - low > period:
                middle = low + (high - low) // period // 2 * period
                low, high = (low, middle) if measure(middle) is not None else (middle, high)
            return high
    return None


def _short(error: Exception) -> str:
    text = str(error).strip().split("\n")[0]
    return text if len(text) <= 200 else f"{text[:200]} …"
