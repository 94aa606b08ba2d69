"""What a window costs: operations, and the bytes that its backward pass keeps.

Along each axis, every layer of a network is an affine function of the window's size, so its
operations and bytes are polynomials that are linear in each side: they are known everywhere once
they are known at the corners of a box of sizes. Recording the corners takes no numbers and no
memory; after that a price is arithmetic, for a million windows at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from fullconv.execution._memory import WORKSPACE, forward_bytes
from fullconv.geometry import Geometry
from fullconv.tracing import Call, Program, Value, hollow, record

# One side per axis, in px: numbers, or arrays of them.
Sizes = Sequence[Any] | NDArray[np.int64]

# What reading or writing one number costs, in operations of a convolution. Measured on CPU: between
# 20 and 100.
PASS = 40.0
# Backward takes two convolutions for each one of forward.
WITH_BACKWARD = 3.0


@dataclass(frozen=True, slots=True)
class Polynomial:
    """A quantity that is linear in each side of a window.

    Attributes:
        lows: One side per axis, in px.
        highs: Another side per axis, in px.
        corners: The quantity where each side is its low or high one, `(2,) * axes`.
    """

    lows: tuple[int, ...]
    highs: tuple[int, ...]
    corners: NDArray[np.float64]

    def __call__(self, sizes: Sizes) -> Any:
        """Return the quantity for windows of these sides; at least 0."""
        found = self.corners.reshape(self.corners.shape + (1,) * np.ndim(sizes[0]))
        for low, high, size in zip(self.lows, self.highs, sizes, strict=True):
            share = (np.asarray(size, dtype=np.float64) - low) / (high - low)
            found = found[0] * (1 - share) + found[1] * share
        return np.maximum(found, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What windows of one network cost, by their sides.

    Attributes:
        operations: Of a forward pass; multiplications and additions counted apart.
        forward_bytes: The most that a forward pass without gradients names at once.
        kept_bytes: What a forward pass keeps for its backward.
        draws: Whether it draws random numbers.
        written: Buffers that it writes into while it runs, by name.
    """

    operations: Polynomial
    forward_bytes: Polynomial
    kept_bytes: Polynomial
    draws: bool
    written: tuple[str, ...]

    def training_bytes(self, sizes: Sizes) -> Any:
        """Return the memory that a forward and backward pass over one window adds."""
        return WORKSPACE * np.maximum(self.kept_bytes(sizes), self.forward_bytes(sizes))


def costs_of(net: nn.Module, channels: int, geometry: Geometry) -> Costs:
    """Return what windows of a network cost, on images with that many channels."""
    start = tuple(axis.field + axis.period for axis in geometry.axes)
    lows = geometry.nearest_shapes(start)[-1]
    highs = tuple(low + 4 * axis.period for low, axis in zip(lows, geometry.axes, strict=True))
    found: dict[str, list[float]] = {"operations": [], "forward_bytes": [], "kept_bytes": []}
    draws, written = False, ()
    for shape in product(*zip(lows, highs, strict=True)):
        program = record(net, channels, shape)
        found["operations"].append(operations(program))
        found["forward_bytes"].append(forward_bytes(program))
        found["kept_bytes"].append(kept_bytes(net, channels, shape, program))
        written = program.written
        draws |= any(torch.Tag.nondeterministic_seeded in call.op.tags for call in program.calls)
    corners = (2,) * len(lows)
    return Costs(
        **{
            name: Polynomial(lows, highs, np.array(values, np.float64).reshape(corners))
            for name, values in found.items()
        },
        draws=draws,
        written=written,
    )


def operations(program: Program) -> float:
    """Return the operations of one image: of convolutions, and of passes over numbers."""
    total = sum(_multiplications(call) * 2.0 for call in program.calls)
    total += PASS * sum(prod(out.shape) for call in program.calls for out in call.outputs)
    return total / program.image.shape[0]


def multiplications(program: Program) -> int:
    """Return the multiplications in the convolutions and matrix products of one image."""
    return sum(_multiplications(call) for call in program.calls) // program.image.shape[0]


def _multiplications(call: Call) -> int:
    name = call.op.overloadpacket.__name__
    tensors = [v for v in call.args.values() if isinstance(v, Value)]
    if name == "convolution":
        image, weight = tensors[:2]
        # A transposed convolution multiplies for each unit that it reads, any other for each it makes.
        units = prod(image.shape) if call.args["transposed"] else prod(call.outputs[0].shape)
        return units * prod(weight.shape[1:])
    if name in {"mm", "bmm", "addmm", "baddbmm"}:
        left = tensors[-2]
        return prod(call.outputs[0].shape) * left.shape[-1]
    return 0


def kept_bytes(net: nn.Module, channels: int, shape: tuple[int, ...], program: Program) -> float:
    """Return the bytes that a forward pass over one image keeps for backward, its map included.

    Measured on tensors without numbers; where the network does not run on those, all that it makes.
    """
    twin = hollow(net)
    weights = {t.untyped_storage()._cdata for t in (*twin.parameters(), *twin.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    like = next((p for p in twin.parameters() if p.is_floating_point()), None)
    dtype = torch.float32 if like is None else like.dtype
    image = torch.empty(1, channels, *shape, device="meta", dtype=dtype)
    try:
        with torch.enable_grad(), saved_tensors_hooks(keep, lambda tensor: tensor):
            output = twin(image) if twin is not net else None
    except Exception:  # noqa: BLE001 - whatever cannot run without numbers
        output = None
    if not isinstance(output, Tensor):
        made = sum(out.new_bytes for call in program.calls for out in call.outputs)
        return made / program.image.shape[0]
    kept.setdefault(output.untyped_storage()._cdata, output.untyped_storage().nbytes())
    kept.setdefault(image.untyped_storage()._cdata, image.untyped_storage().nbytes())
    return float(sum(kept.values()))
