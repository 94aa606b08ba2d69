"""Which image sizes a network takes, and what maps it returns: by running it on empty tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
)
from torch.overrides import TorchFunctionMode

from fullconv.errors import FullconvError, named
from fullconv.tracing._program import Program, the_map
from fullconv.tracing._subject import Subject

# Sizes tried when no shape is given: multiples of most periods, small ones first, then the sizes of
# well-known networks, then every remainder modulo 64, then large ones.
FIRST_TRIES = (
    64, 128, 256, 512, 1024, 96, 192, 384, 240, 224, 227, 299, *range(193, 257), 572, 2048, 4096, 8192,
)  # fmt: skip


# A size so many periods above one that a network takes is large enough for any remainder.
SPARE_PERIODS = 8

# These return what they take in another form of the same shape; on empty tensors they are slow.
SAME_SHAPE = frozenset({
    F.batch_norm, F.layer_norm, F.group_norm, F.instance_norm, F.local_response_norm, F.dropout,
    F.relu, F.relu6, F.leaky_relu, F.gelu, F.silu, F.hardswish, F.elu,
})  # fmt: skip


# On real tensors these refuse an empty one; on empty tensors they don't, where padding fills it.
NEVER_EMPTY = frozenset({
    F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d,
    F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d,
    F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d,
})  # fmt: skip


class _ShapesAlone(TorchFunctionMode):
    """Skips what keeps the shape, and resizing, whose shape is plain arithmetic."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        if args and func in SAME_SHAPE:
            return args[0]
        if args and func in NEVER_EMPTY and not args[0].numel():
            raise RuntimeError(f"an operator gets an empty tensor, of shape {args[0].shape}")
        if func is F.interpolate:
            return _resized(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _resized(
    image: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    *_: Any,
    **__: Any,
) -> Tensor:
    """Return an empty tensor of the shape that ``F.interpolate`` would return."""
    old = image.shape[2:]
    if size is None:
        scales = (
            [scale_factor] * len(old) if isinstance(scale_factor, (int, float)) else scale_factor
        )
        new = [int(n * float(s)) for n, s in zip(old, scales or (), strict=True)]
    else:
        new = [size] * len(old) if isinstance(size, int) else list(size)
    if 0 in old or (0 in new and mode != "area"):
        raise RuntimeError(f"sizes must be greater than 0, got {[*old]} resized to {new}")
    return image.new_empty(*image.shape[:2], *new)


class Sizes:
    """The map shape of any image shape, by running a network on tensors without numbers."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self._known: dict[tuple[int, ...], tuple[int, ...] | Exception] = {}

    def map_shape(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the spatial shape of the map, or None if the network does not take the shape."""
        if shape not in self._known:
            self._known[shape] = self._measure(shape)
        known = self._known[shape]
        return None if isinstance(known, Exception) else known

    @property
    def refusals(self) -> dict[tuple[int, ...], Exception]:
        """The shapes tried that the network does not take, and what it said."""
        return {s: known for s, known in self._known.items() if isinstance(known, Exception)}

    def use_fake_tensors(self) -> None:
        """Run on fake tensors from now on."""
        self.subject.on_meta = False
        self._known.clear()

    def _measure(self, shape: tuple[int, ...]) -> tuple[int, ...] | Exception:
        try:
            with _ShapesAlone():
                output = self.subject.run(shape)
            found = tuple(the_map(output).shape[2:])
        except FullconvError:
            raise
        except Exception as error:  # noqa: BLE001 - any refusal of a shape, in whatever words the network has
            return error
        if len(found) != len(shape):
            return _NoMap(f"it returns a tensor of shape {tuple(the_map(output).shape)}")
        return found if all(found) else ValueError(f"the map would have shape {found}")


class _NoMap(ValueError):
    """A network takes an image, and returns something else than a map."""


def find_start(sizes: Sizes, ndim: int) -> tuple[int, ...]:
    """Return a shape that the network takes.

    Raises:
        NotLocalError: If it takes none because it branches on values.
        FullconvError: If it takes none of those tried; with what it said, and in which module.
    """
    shapes = [(size,) * ndim for size in FIRST_TRIES]
    taken = _first_taken(sizes, shapes)
    if taken is None and sizes.subject.on_meta:
        said = sizes.refusals
        sizes.use_fake_tensors()
        taken = _first_taken(sizes, _other_words(sizes, said))
    if taken is None:
        raise _none_taken(sizes)
    return taken


def _first_taken(sizes: Sizes, shapes: Iterable[tuple[int, ...]]) -> tuple[int, ...] | None:
    return next((shape for shape in shapes if sizes.map_shape(shape) is not None), None)


def _other_words(sizes: Sizes, said: dict[tuple[int, ...], Exception]) -> Iterator[tuple[int, ...]]:
    """Yield the shapes on which fake tensors may do better than meta tensors did.

    Not those that are refused in the same words, whatever the numbers in them: one of each will do.
    """
    alike: set[str] = set()
    for shape, error in said.items():
        if _words(error) not in alike:
            yield shape
            if _words(sizes.refusals[shape]) == _words(error):
                alike.add(_words(error))


def _words(error: Exception) -> str:
    return re.sub(r"\d+", "", str(error))


def _none_taken(sizes: Sizes) -> FullconvError:
    """Return the error of a network that takes none of the images tried."""
    tried = sizes.refusals
    telling = (_NoMap, DataDependentOutputException, DynamicOutputShapeException)
    shape = next((s for s, error in tried.items() if isinstance(error, telling)), list(tried)[-1])
    reason = tried[shape]
    try:
        check_map(sizes.subject.record(shape), len(shape))
    except FullconvError as error:
        return error
    except Exception as error:  # noqa: BLE001 - any refusal of a shape
        reason = error
    place = named(*sizes.subject.raised_by(reason))
    if isinstance(reason, TypeError) and "forward()" in str(reason):
        return FullconvError(
            f"`net` must take one image as its only argument, got an error in {place}: {short(reason)}. "
            "Wrap it in a module whose `forward(image)` gives it the others"
        )
    return FullconvError(
        "`net` must take images of more than one size, got an error for each of those tried, from "
        f"{min(FIRST_TRIES)} to {max(FIRST_TRIES)} px with {sizes.subject.channels} channels. At "
        f"{px(shape)} it is in {place}: {short(reason)}. Give a shape that it takes as `shape`, the channels of its "
        "images as `channels`; a classifier with Linear layers must be made fully convolutional first"
    )


def check_map(program: Program, axes: int) -> None:
    """Refuse a network that does not return a map with so many spatial axes."""
    got = program.output.shape
    if len(got) != axes + 2:
        raise FullconvError(
            f"`net` must return a map (batch, classes, *map) with {axes} spatial axes, got one of "
            f"shape {got} for an image of shape {program.image.shape}: a network that gives one "
            "answer for an image must be made fully convolutional first"
        )


def legal_sizes(
    sizes: Sizes, shape: tuple[int, ...], axis: int, period: int, only: int | None = None
) -> tuple[tuple[int, int] | None, ...]:
    """Return, for each size modulo `period` along an axis, the smallest legal one and its map size.

    Args:
        sizes: The network's sizes.
        shape: A shape that it takes; the other axes keep it.
        axis: The axis that varies.
        period: In px.
        only: A size, in px: others than those that are this one modulo the period get None.
    """

    def measure(size: int) -> int | None:
        if size <= 0:
            return None
        alike = (size,) * len(shape)  # the same runs serve all axes
        found = sizes.map_shape(alike) or sizes.map_shape((*shape[:axis], size, *shape[axis + 1 :]))
        return found[axis] if found else None

    known = shape[axis]
    units = (measure(known + period) or 0) - (measure(known) or 0)
    wanted = range(period) if only is None else {only % period}
    return tuple(_table(measure, known, period, units, wanted))


def _table(
    measure: Callable[[int], int | None],
    known: int,
    period: int,
    units: int,
    wanted: Container[int],
) -> Iterator[tuple[int, int] | None]:
    """Yield the smallest legal size of each remainder; the one before is a good first guess."""
    guess = 0
    for residue in range(period):
        if residue not in wanted:
            yield None
            continue
        large = known + (residue - known) % period
        size = _smallest(measure, large, period, units, guess + 1 if guess else residue or period)
        guess = size or 0
        yield None if size is None else (size, measure(size) or 0)


def _smallest(
    measure: Callable[[int], int | None], large: int, period: int, units: int, guess: int
) -> int | None:
    """Return the smallest legal size that is `large` modulo the period, or None.

    Sizes above a legal one of the same remainder are legal, and their maps grow by `units` in a
    period, so a search by halves finds it.
    """
    large += SPARE_PERIODS * period
    map_size = measure(large)
    if map_size is None:
        return None
    ahead = map_size - large // period * units

    def fits(size: int) -> bool:
        return measure(size) == ahead + size // period * units

    if (large - guess) % period == 0 and guess <= large and fits(guess):
        if not fits(guess - period):
            return guess
        large = guess
    low, high = large % period - period, large
    while high - low > period:
        middle = low + (high - low) // period // 2 * period
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def px(shape: Sequence[int]) -> str:
    """Return a shape in px as people write it."""
    return f"{' x '.join(map(str, shape))} px"


def short(error: Exception) -> str:
    """Return the first line of an error's message, or its type where it has none."""
    text = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]} …"
