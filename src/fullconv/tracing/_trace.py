"""From a network to its geometry: periods from sizes, reach from operators, phases from reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from fullconv.errors import FullconvError, NotLocalError
from fullconv.geometry import Axis, Geometry
from fullconv.tracing._axis import axis_of
from fullconv.tracing._images import check_images
from fullconv.tracing._paths import (
    OTHER_PATH,
    check_loops,
    check_path,
    check_settings,
    cut_short,
    same_path,
    same_settings,
)
from fullconv.tracing._periods import Span, span_of
from fullconv.tracing._program import Program
from fullconv.tracing._sizes import Sizes, check_map, find_start, legal_sizes
from fullconv.tracing._subject import Subject

Legal = tuple[tuple[int, int] | None, ...]

# An image so many periods longer than the smallest is no small one: networks run as they usually do.
USUAL_PERIODS, USUAL_PX = 32, 256
# So many periods more, along the axes that are not followed, leave positions clear of the border.
SPARE_PERIODS = 2
# So many sizes in a row show a branch on remainders of the size, by up to one number more.
IN_A_ROW = 6


def trace(
    net: nn.Module,
    channels: int = 3,
    ndim: int | None = None,
    shape: tuple[int, ...] | None = None,
) -> Geometry:
    """Return the geometry of a network: field, stride, period, halo, map shapes, exact windows.

    The network runs on tensors without numbers and every operator is followed; nothing is computed
    and no weight memory is used. It is traced as it is: in training mode a BatchNorm is not local.
    Axes are followed one by one: a branch that reads no pixel along one of them (positions between the
    taps of a transposed convolution hold its bias alone) counts along the others all the same, and the
    field is wider than it need be there. It is never too narrow.

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
    sizes = Sizes(Subject(net, channels))
    axes = len(shape) if shape else ndim or _num_axes(net)
    _check_loops(sizes, axes)
    start = shape or _start(sizes, axes)
    if shape and not _takes(sizes, shape):
        start = _start(sizes, axes)
    return _traced_somewhere(sizes, start, shape)


def trace_for(net: nn.Module, channels: int, shape: tuple[int, ...]) -> Geometry:
    """Return the geometry of a network for images of one shape, and their windows.

    As `trace` does, but images that do not differ by multiples of the period count as not legal: to
    find which other sizes are takes hundreds of runs.

    Raises:
        NotLocalError: As `trace`.
        UnknownOperatorError: As `trace`.
        FullconvError: If the network does not take the shape; with the nearest that it takes.
    """
    sizes = Sizes(Subject(net, channels))
    _check_loops(sizes, len(shape))
    if not _takes(sizes, shape):
        trace(net, channels, shape=shape).map_shape(shape)
    return _traced_somewhere(sizes, shape, shape, only=shape)


def _check_loops(sizes: Sizes, axes: int) -> None:
    """Refuse recurrent layers that run along an axis on a small image: on large ones they take minutes."""
    if not any(isinstance(module, nn.RNNBase) for module in sizes.subject.net.modules()):
        return
    try:
        start = find_start(sizes, axes)
    except FullconvError:  # then it is to be seen on the shape that is asked for, if at all
        return
    check_loops(sizes.subject, start)


def _start(sizes: Sizes, axes: int) -> tuple[int, ...]:
    """Return a shape that the network takes, or say that it seems to take other axes."""
    try:
        return find_start(sizes, axes)
    except FullconvError as error:
        likely = _num_axes(sizes.subject.net)
        if isinstance(error, NotLocalError) or axes == likely:
            raise
        raise FullconvError(
            f"`shape` must have a size for each spatial axis of the network, by its first layer "
            f"{likely}, got {axes}, and an error for all sizes tried: {error}"
        ) from error


def _takes(sizes: Sizes, shape: tuple[int, ...]) -> bool:
    """Return whether the network takes a shape, at least on fake tensors."""
    if sizes.map_shape(shape) is None:
        sizes.use_fake_tensors()
    return sizes.map_shape(shape) is not None


def _traced_somewhere(
    sizes: Sizes,
    start: tuple[int, ...],
    shape: tuple[int, ...] | None,
    only: tuple[int, ...] | None = None,
) -> Geometry:
    """Return the geometry from a shape that the network takes, or from a larger one."""
    try:
        return _traced(sizes, start, shape, only)
    except NotLocalError as error:
        larger = tuple(4 * size for size in start)
        if not error.why.startswith(OTHER_PATH) or sizes.map_shape(larger) is None:
            raise
        found = _traced_on_larger(sizes, larger, error)
        if shape:
            raise
        return found


def _traced_on_larger(sizes: Sizes, start: tuple[int, ...], refused: NotLocalError) -> Geometry:
    """Return the geometry from a larger image, or refuse a network for what it does there.

    On small images PyTorch itself takes other paths, where axes have a single position.
    """
    try:
        return _traced(sizes, start, None, None)
    except NotLocalError as error:
        if error.why.startswith(OTHER_PATH):
            raise refused from None
        raise


def _traced(
    sizes: Sizes,
    start: tuple[int, ...],
    shape: tuple[int, ...] | None,
    only: tuple[int, ...] | None,
) -> Geometry:
    """Return the geometry from a shape that the network takes; `shape` as for `trace`.

    `only` is a shape whose sizes modulo the period are the only ones looked at; None for all sizes.
    """
    subject, axes = sizes.subject, len(start)
    base = subject.record(start)
    check_map(base, axes)
    spans = tuple(span_of(subject, start, axis, base) for axis in range(axes))
    legal = tuple(
        legal_sizes(sizes, start, axis, spans[axis].period, only[axis] if only else None)
        for axis in range(axes)
    )
    residues = _residues(shape, start, legal, spans)
    smallest = tuple(_smallest(legal[k][residues[k]]) for k in range(axes))
    usual = _usual(subject, smallest, spans)
    shortest = _on_the_path(subject, smallest, spans, usual)
    for n in range(1, IN_A_ROW + 1):
        row = tuple(s + n * span.period for s, span in zip(shortest, spans, strict=True))
        check_path(subject.net, usual, subject.record(row))
    found, least = _followed(subject, shortest, spans)
    uncut = _on_the_path(subject, shortest, spans, usual, uncut=True)
    if uncut != shortest:  # refusals that hold on smaller images too came first: they are cheaper
        shortest = uncut
        found, least = _followed(subject, shortest, spans)
    for axis, span in enumerate(spans):
        check_settings(base, span.longer, f"along axis {axis}")
    check_settings(usual, subject.record(shortest), "")
    check_images(subject, least)
    return Geometry(
        axes=tuple(
            replace(axis, residue=residues[k], legal=legal[k], shortest=shortest[k])
            for k, axis in enumerate(found)
        )
    )


def _num_axes(net: nn.Module) -> int:
    """Return the spatial axes of the first convolution or pooling layer."""
    for module in net.modules():
        name = type(module).__name__
        if ("Conv" in name or "Pool" in name) and name[-2:] in ("1d", "2d", "3d"):
            return int(name[-2])
    return 2


def _residues(
    shape: tuple[int, ...] | None,
    start: tuple[int, ...],
    legal: Sequence[Legal],
    spans: Sequence[Span],
) -> tuple[int, ...]:
    """Return the image sizes modulo the period to trace for: those of `shape`, or 0 where legal."""
    periods = [span.period for span in spans]
    if shape and all(legal[k][shape[k] % p] for k, p in enumerate(periods)):
        return tuple(size % p for size, p in zip(shape, periods, strict=True))
    return tuple(0 if legal[k][0] else start[k] % p for k, p in enumerate(periods))


def _smallest(entry: tuple[int, int] | None) -> int:
    assert entry is not None, "the size that the network ran at is legal"
    return entry[0]


def _usual(subject: Subject, smallest: tuple[int, ...], spans: Sequence[Span]) -> Program:
    """Return the program on an image that is not small, of the sizes modulo the period to trace."""
    return subject.record(
        tuple(
            size + max(USUAL_PERIODS, USUAL_PX // span.period) * span.period
            for size, span in zip(smallest, spans, strict=True)
        )
    )


def _followed(
    subject: Subject, shortest: tuple[int, ...], spans: Sequence[Span]
) -> tuple[list[Axis], tuple[int, ...]]:
    """Return the axes as they are on a small image, and its shape."""
    least = tuple(s + SPARE_PERIODS * span.period for s, span in zip(shortest, spans, strict=True))
    return [axis_of(subject, least, axis, span) for axis, span in enumerate(spans)], least


def _on_the_path(
    subject: Subject,
    smallest: tuple[int, ...],
    spans: Sequence[Span],
    usual: Program,
    *,
    uncut: bool = False,
) -> tuple[int, ...]:
    """Return the shape of a small image on which the network runs as it usually does.

    With `uncut`, its slices also take as much as they usually do.
    """
    periods, more = [span.period for span in spans], 0
    while True:
        shape = tuple(s + more * p for s, p in zip(smallest, periods, strict=True))
        program = _small_program(subject, shape)
        if program and _alike(program, usual) and not (uncut and cut_short(program, usual)):
            return shape
        if all(2 * a >= b for a, b in zip(shape, usual.image.shape[2:], strict=True)):
            check_path(subject.net, usual, program or usual)
            return shape  # what its settings depend on is refused later, if nothing else is
        more = max(1, 2 * more)


def _alike(program: Program, usual: Program) -> bool:
    return not same_path(program, usual) and not same_settings(program, usual)


def _small_program(subject: Subject, shape: tuple[int, ...]) -> Program | None:
    """Return the program on a small image, or None if a layer that keeps shapes refuses it."""
    try:
        return subject.record(shape)
    except FullconvError:
        raise
    except ValueError:
        return None
