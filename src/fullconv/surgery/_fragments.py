"""The fragments of which a dense map is interleaved, and a dense network run on them.

Along an axis with `pieces` fragments, position ``y = q * pieces + r`` of the dense map is position q of
fragment r. Fragments lie along the batch, ``(pieces of axis 0, pieces of axis 1, ..., batch)``, first
axis outermost. Where the dense map does not end with a whole round of fragments, the last position of the
later ones is not there: it holds numbers that nothing uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_aggregate

from fullconv.surgery._steps import Convolution, Maximum, Mean, Pad, Step, convolve


@dataclass(frozen=True, slots=True, kw_only=True)
class Lattice:
    """How a dense map lies in fragments: its sizes, and the fragments along each spatial axis."""

    sizes: tuple[int, ...]
    pieces: tuple[int, ...]

    @property
    def ragged(self) -> list[int]:
        """The axes along which not all fragments have the same size."""
        axes = range(len(self.sizes))
        return [axis for axis in axes if self.sizes[axis] % self.pieces[axis]]


def split(x: Tensor, lattice: Lattice, into: tuple[int, ...], dim_of: Mapping[int, int]) -> Tensor:
    """Return each fragment split further, `into` so many along each axis.

    Args:
        x: Fragments.
        lattice: How they lie.
        into: Pieces of each fragment along each axis.
        dim_of: The axis of `x` along which each spatial axis runs.
    """
    if all(n == 1 for n in into):
        return x
    if _is_channels_last(x):
        moved = {axis: dim - 1 for axis, dim in dim_of.items()}
        return split(x.movedim(1, -1), lattice, into, moved).movedim(-1, 1)
    for axis, dim in dim_of.items():
        x = _lengthened(x, dim, -x.shape[dim] % into[axis])
    pieces = lattice.pieces
    shape = [*pieces, x.shape[0] // prod(pieces)]
    old, new = len(pieces), len(pieces) + 1
    order: list[int] = []
    behind: dict[int, int] = {}
    axis_at = {dim: axis for axis, dim in dim_of.items()}
    for dim in range(1, x.ndim):
        size = into[axis_at[dim]] if dim in axis_at else 1
        shape.append(x.shape[dim] // size)
        order.append(new)
        new += 1
        if dim in axis_at:
            shape.append(size)
            behind[axis_at[dim]] = new
            new += 1
    front: list[int] = []
    for axis in range(len(pieces)):
        front += [behind[axis], axis] if axis in behind else [axis]
    x = x.reshape(shape).permute(*front, old, *order)
    return x.reshape(-1, *x.shape[len(front) + 1 :])


def merged(x: Tensor, lattice: Lattice, dim_of: Mapping[int, int]) -> Tensor:
    """Return the dense map of which `x` are the fragments."""
    pieces = lattice.pieces
    x = x.reshape(*pieces, x.shape[0] // prod(pieces), *x.shape[1:])
    first, axis_at = len(pieces), {dim: axis for axis, dim in dim_of.items()}
    order, shape = [first], [x.shape[first]]
    for dim in range(1, x.ndim - first):
        order.append(first + dim)
        shape.append(x.shape[first + dim])
        if dim in axis_at:
            order.append(axis_at[dim])
            shape[-1] *= pieces[axis_at[dim]]
    x = x.permute(order).reshape(shape)
    for axis, dim in dim_of.items():
        x = x.narrow(dim, 0, lattice.sizes[axis])
    return x


def emptied(x: Tensor, lattice: Lattice, dim_of: Mapping[int, int], value: float) -> Tensor:
    """Return fragments with a value where they have ended already."""
    if not lattice.ragged:
        return x
    pieces, ended = lattice.pieces, None
    for axis in lattice.ragged:
        size = x.shape[dim_of[axis]]
        place = torch.arange(size, device=x.device) * pieces[axis]
        shape = [1] * (len(pieces) + x.ndim)
        shape[axis], shape[len(pieces) + dim_of[axis]] = pieces[axis], size
        start = torch.arange(pieces[axis], device=x.device)[:, None]
        past = (place + start >= lattice.sizes[axis]).reshape(shape)
        ended = past if ended is None else ended | past
    assert ended is not None
    apart = x.unflatten(0, (*pieces, x.shape[0] // prod(pieces)))
    return apart.masked_fill(ended, value).flatten(0, len(pieces))


class OnFragments(fx.Interpreter):
    """Runs the graph of a dense network on fragments of its maps."""

    def __init__(
        self,
        net: fx.GraphModule,
        steps: Mapping[str, Step],
        axis_of: Mapping[str, Mapping[int, int]],
    ) -> None:
        super().__init__(net)
        self._steps, self._axis_of = steps, axis_of
        self._lattices: dict[fx.Node, Lattice] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one call on fragments."""
        if n.op == "placeholder":
            image: Tensor = super().run_node(n)
            sizes = tuple(image.shape[2:])
            self._lattices[n] = Lattice(sizes=sizes, pieces=(1,) * len(sizes))
            return image
        if n.name in self._steps:
            return self._read(n, self._steps[n.name])
        if n.op == "output":
            return map_aggregate(n.args[0], self._merged)
        inputs = [m for m in n.all_input_nodes if m in self._lattices]
        if inputs:
            self._lattices[n] = self._lattices[inputs[0]]
        return super().run_node(n)

    def _merged(self, leaf: Any) -> Any:
        if not isinstance(leaf, fx.Node) or leaf not in self._lattices:
            return self.env[leaf] if isinstance(leaf, fx.Node) else leaf
        dim_of = {axis: dim for dim, axis in self._axis_of[leaf.name].items()}
        return merged(self.env[leaf], self._lattices[leaf], dim_of)

    def _read(self, n: fx.Node, step: Step) -> Tensor:
        """Read neighbouring positions in each fragment, and split it where strides were."""
        source = n.all_input_nodes[0]
        lattice, dim_of = self._lattices[source], {a: d for d, a in step.axis_of.items()}
        x: Tensor = self.env[source]
        y = self._done(n, step, x, lattice, dim_of)
        sizes, into = list(lattice.sizes), [1] * len(lattice.sizes)
        for dim, plan in step.plans.items():
            if dim in step.axis_of:
                axis = step.axis_of[dim]
                sizes[axis], into[axis] = plan.size(sizes[axis]), plan.pieces
        result = Lattice(sizes=tuple(sizes), pieces=lattice.pieces)
        y = split(y, result, tuple(into), dim_of)
        pieces = tuple(a * b for a, b in zip(lattice.pieces, into, strict=True))
        self._lattices[n] = Lattice(sizes=tuple(sizes), pieces=pieces)
        return y

    def _done(
        self, n: fx.Node, step: Step, x: Tensor, lattice: Lattice, dim_of: Mapping[int, int]
    ) -> Tensor:
        args, _ = self.fetch_args_kwargs_from_env(n)
        taps = step.taps(dilated=False)
        layer = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
        fill = layer.fill if isinstance(layer, Maximum | Mean | Pad) else 0.0
        if step.reads_padding:
            x = emptied(x, lattice, dim_of, fill)
        match layer:
            case Maximum():
                y = layer.run(x, taps)
                # Infinities that nothing uses would still make gradients of weights NaN.
                return self._without_infinities(y, step, lattice, dim_of)
            case Mean():
                there = x.new_ones(x.shape[0], 1, *x.shape[2:])
                return layer.run(x, taps, emptied(there, lattice, dim_of, 0.0))
            case Pad() | Convolution():
                return layer.run(x, taps)
            case None:
                return convolve(x, args[1], args[2], taps, args[6])
            case _:
                return convolve(x, layer.weight, layer.bias, taps, layer.groups)

    def _without_infinities(
        self, y: Tensor, step: Step, lattice: Lattice, dim_of: Mapping[int, int]
    ) -> Tensor:
        if not step.reads_padding:
            return y
        sizes = list(lattice.sizes)
        for dim, axis in step.axis_of.items():
            if dim in step.plans:
                plan = step.plans[dim]
                sizes[axis] = plan.window.windows(sizes[axis], plan.spacing.dilation)
        return emptied(y, Lattice(sizes=tuple(sizes), pieces=lattice.pieces), dim_of, 0.0)


def _lengthened(x: Tensor, dim: int, more: int) -> Tensor:
    """Return `x` with its last position repeated: numbers of the kind that are there anyway.

    Nothing uses them, so they have no gradient.
    """
    if not more:
        return x
    shape = list(x.shape)
    shape[dim] = more
    return torch.cat([x, x.narrow(dim, x.shape[dim] - 1, 1).detach().expand(shape)], dim)


def _is_channels_last(x: Tensor) -> bool:
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim)
    if last is None or x.is_contiguous():
        return False
    return x.is_contiguous(memory_format=last)
