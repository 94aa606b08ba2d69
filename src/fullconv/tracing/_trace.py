"""From a network to its geometry: periods from sizes, reach from operators, phases from reach."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import lcm

import torch
from torch import nn

from fullconv.errors import FullconvError, NotLocalError
from fullconv.geometry import Axis, Geometry, Phase
from fullconv.tracing._program import Program, record
from fullconv.tracing._reach import NOTHING, Reach
from fullconv.tracing._rules import WHOLE
from fullconv.tracing._sizes import Sizes, find_start, legal_sizes
from fullconv.tracing._sweep import same_path, sweep

# By how much an image is lengthened to see the stride of every layer: a multiple of most strides.
LENGTHENINGS = (64 * 9 * 5, 64 * 9 * 5 * 7 * 11 * 13)
# A field larger than this is taken for one that never ends.
LONGEST_PX = 40_000


def trace(
    net: nn.Module,
    channels: int = 3,
    ndim: int | None = None,
    shape: tuple[int, ...] | None = None,
) -> Geometry:
    """Return the geometry of a network: field, stride, period, halo, map shapes, exact windows.

    The network runs on tensors without numbers and every operator is followed; nothing is computed
    and no weight memory is used. It is traced as it is: in training mode a BatchNorm is not local.

    Args:
        net: Takes `(batch, channels, *spatial)` and returns one tensor `(batch, classes, *map)`.
        channels: Channels of the image.
        ndim: Spatial axes, 1 to 3; by default those of the network's first convolution or pooling.
        shape: Trace for images of this shape (and all that differ by multiples of the period).
            By default a shape that is a multiple of the period, where the network takes one.

    Raises:
        NotLocalError: If some layer looks at the whole image; it names the module and the remedies.
        UnknownOperatorError: If an operator has no rule; `fullconv.rule` adds one.
        FullconvError: If the network takes no image, or returns something else than one map.

    Examples:
        >>> import torch, fullconv as fc
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.MaxPool2d(2))
        >>> g = fc.trace(net)
        >>> g.field, g.stride, g.map_shape((100, 50))
        ((4, 4), (2, 2), (49, 24))
    """
    sizes = Sizes(net, channels)
    axes = len(shape) if shape else ndim or _num_axes(net)
    start = shape or find_start(sizes, net, channels, axes)
    if shape and sizes.map_shape(shape) is None:
        sizes.use_fake_tensors()
        start = (
            shape if sizes.map_shape(shape) is not None else find_start(sizes, net, channels, axes)
        )
    base = record(net, channels, start)
    _check_map(base, axes)
    periods = tuple(_period(net, channels, start, axis, base) for axis in range(axes))
    legal = tuple(legal_sizes(sizes, start, axis, periods[axis]) for axis in range(axes))
    residues = _residues(shape, start, legal, periods)
    least = tuple(_least(legal[k][residues[k]], periods[k]) for k in range(axes))
    return Geometry(
        axes=tuple(
            replace(
                _axis(net, channels, least, axis, periods[axis]),
                residue=residues[axis],
                legal=legal[axis],
            )
            for axis in range(axes)
        )
    )


def _num_axes(net: nn.Module) -> int:
    """Return the spatial axes of the first convolution or pooling layer."""
    for module in net.modules():
        name = type(module).__name__
        if ("Conv" in name or "Pool" in name) and name[-2:] in ("1d", "2d", "3d"):
            return int(name[-2])
    return 2


def _check_map(program: Program, axes: int) -> None:
    got = program.output.shape
    if len(got) != axes + 2:
        raise FullconvError(
            f"`net` must return a map (batch, classes, *map) with {axes} spatial axes, got one of "
            f"shape {got} for an image of shape {program.image.shape}: a network that gives one "
            "answer for an image must be made fully convolutional first"
        )


def _period(net: nn.Module, channels: int, start: tuple[int, ...], axis: int, base: Program) -> int:
    """Return the pixels after which every layer's grid repeats: from how much each value grows."""
    for more in LENGTHENINGS:
        longer = _recorded(net, channels, start, axis, more, base)
        found = lcm(*_numerators(base, longer, more))
        once = _recorded(net, channels, start, axis, found, base)
        if _grows_alike(base, once, longer, Fraction(more, found)):
            return found
    raise NotLocalError.at(
        module="",
        module_class=type(net).__name__,
        operator="sizes",
        why=f"the sizes of its layers do not grow evenly with axis {axis} of the image",
        remedies=(WHOLE,),
    )


def _recorded(
    net: nn.Module, channels: int, start: tuple[int, ...], axis: int, more: int, base: Program
) -> Program:
    """Return the program on an image longer by `more` px along an axis; it must run the same calls."""
    shape = (*start[:axis], start[axis] + more, *start[axis + 1 :])
    try:
        program = record(net, channels, shape)
    except FullconvError:
        raise
    except Exception as error:
        raise FullconvError(
            f"`net` must take images of more than one size, got an error for {shape} px: {error}"
        ) from error
    different = same_path(base, program)
    if different:
        raise NotLocalError.at(
            module=different.module,
            module_class=different.module_class,
            operator=str(different.op),
            why=f"the network takes another path at {shape} px than at {start} px",
            remedies=(WHOLE, "let `forward` do the same whatever the size of the image"),
        )
    return program


def _growth(one: Program, other: Program) -> list[int]:
    """Return by how much each growing axis of each value differs between two programs."""
    pairs = [(one.output, other.output)]
    for a, b in zip(one.calls, other.calls, strict=True):
        pairs += zip(a.outputs, b.outputs, strict=True)
    return [m - n for a, b in pairs for n, m in zip(a.shape, b.shape, strict=True)]


def _numerators(base: Program, longer: Program, more: int) -> list[int]:
    return [Fraction(more, grown).numerator for grown in _growth(base, longer) if grown]


def _grows_alike(base: Program, once: Program, longer: Program, times: Fraction) -> bool:
    return all(
        b == a * times for a, b in zip(_growth(base, once), _growth(base, longer), strict=True)
    )


def _residues(
    shape: tuple[int, ...] | None,
    start: tuple[int, ...],
    legal: tuple[tuple[tuple[int, int] | None, ...], ...],
    periods: tuple[int, ...],
) -> tuple[int, ...]:
    """Return the image sizes modulo the period to trace for: those of `shape`, or 0 where legal."""
    if shape and all(legal[k][shape[k] % p] for k, p in enumerate(periods)):
        return tuple(size % p for size, p in zip(shape, periods, strict=True))
    return tuple(0 if legal[k][0] else start[k] % p for k, p in enumerate(periods))


def _least(entry: tuple[int, int] | None, period: int) -> int:
    """Return a small legal size with a few periods to spare, for the axes that are not swept."""
    assert entry is not None, "the size that the network ran at is legal"
    return entry[0] + 2 * period


def _axis(net: nn.Module, channels: int, least: tuple[int, ...], axis: int, period: int) -> Axis:
    """Return the geometry along one axis, from an image long enough to have an inside."""
    size = max(least[axis], least[axis] + (256 // period) * period)
    while size <= LONGEST_PX:
        start = (*least[:axis], size, *least[axis + 1 :])
        base = record(net, channels, start)
        longer = _recorded(net, channels, start, axis, period, base)
        with torch.device("cpu"):
            found = sweep(base, longer, axis=axis, period=period)
        if found is None:
            raise _no_map(net, base)
        phases = _phases(*found, period)
        if phases:
            return Axis(period=period, phases=phases, residue=0, legal=())
        size = least[axis] + (2 * size // period + 1) * period
    raise NotLocalError.at(
        module="",
        module_class=type(net).__name__,
        operator="field",
        why=f"its field is larger than {LONGEST_PX} px along axis {axis}, if it ends at all",
        remedies=(WHOLE,),
    )


def _no_map(net: nn.Module, program: Program) -> NotLocalError:
    return NotLocalError.at(
        module="",
        module_class=type(net).__name__,
        operator=str(program.calls[-1].op) if program.calls else "none",
        why="the axes of its output do not grow with those of the image, one with each",
        remedies=("return a map (batch, classes, *map)", WHOLE),
    )


def _phases(reach: Reach, units: int, period: int) -> tuple[Phase, ...]:
    """Return the phases of a map from one period in its middle; none if the border is everywhere."""
    start, stop, first, last = reach.parts.reshape(4, -1).tolist()
    length = len(start)
    whole = [
        q
        for q in range(length // units)
        if all(
            abs(first[i]) < NOTHING // 2 and abs(last[i]) < NOTHING // 2
            for i in range(q * units, (q + 1) * units)
        )
    ]
    if not whole:
        return ()
    q = whole[len(whole) // 2]
    moved = q * period
    return tuple(
        _phase(start[i] - moved, -stop[i] - moved, first[i] - moved, -last[i] - moved)
        for i in range(q * units, (q + 1) * units)
    )


def _phase(start: int, stop: int, first: int, last: int) -> Phase:
    """Return a phase; a unit that depends on no pixel has an empty field where it lies."""
    if start > NOTHING // 2:
        start = stop = first
    return Phase(start=start, stop=stop, first=min(first, start), last=max(last, stop))
