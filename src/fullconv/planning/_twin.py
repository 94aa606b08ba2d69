"""A network without numbers, on which a step is rehearsed: no memory is taken, nothing is computed."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.parameter import UninitializedParameter

from fullconv.errors import FullconvError


def twin(net: nn.Module, mode: FakeTensorMode, device: torch.device) -> nn.Module:
    """Return a copy of a network whose tensors have shapes, types and strides, and no numbers.

    Args:
        net: The network; it may be on the meta device.
        mode: What keeps tensors without numbers.
        device: Where the copy pretends to be.

    Raises:
        FullconvError: If the network cannot be copied, or has no weights yet.
    """
    net = getattr(net, "_orig_mod", net)  # a compiled one
    tensors = [*net.parameters(), *net.buffers()]
    if any(isinstance(t, UninitializedParameter) for t in tensors):
        raise FullconvError(
            f"`net` must have its weights, got a {type(net).__name__} with lazy modules: run it "
            "once on an image first"
        )
    memo = {id(tensor): _hollow(tensor, mode, device) for tensor in tensors}
    try:
        return copy.deepcopy(net, memo)  # pyright: ignore[reportArgumentType] (a memo of tensors)
    except Exception as error:
        raise FullconvError(
            f"`net` must be one that `copy.deepcopy` can copy, got a {type(net).__name__} that "
            f"cannot be: {error}; keep locks, open files and tensors with a graph out of it"
        ) from error


def _hollow(tensor: Tensor, mode: FakeTensorMode, device: torch.device) -> Tensor:
    with mode:
        found = torch.empty_strided(
            tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device
        )
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(found, requires_grad=tensor.requires_grad)
    return found


def device_of(net: nn.Module) -> torch.device:
    """Return where a network is; the CPU for one on the meta device, or without weights."""
    found = next((t.device for t in (*net.parameters(), *net.buffers())), torch.device("cpu"))
    return torch.device("cpu") if found.type == "meta" else found
