"""What oneDNN keeps and takes for a layer of `torch.nn.LSTM` on CPU, one direction at a time.

Forward returns a block of its own for backward, the workspace, which is empty on tensors without
numbers. Forward writes gates and the cells' states into it, backward the gradients of states; other parts
of it are never written, and so take no memory. Which ones was read from the pages that PyTorch 2.13
takes, in 32 bits and in 16, and the scratch space from its allocations. `nn.GRU` and `nn.RNN` need
nothing of this: they run as plain operators, one position after another.

Shapes: a sequence is `(length, batch, channels)`, weights are `(4 * hidden, ...)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

REVERSED = 7  # the position of that argument
LINE = 64  # bytes that rows of states are aligned to
FLOAT = torch.float32.itemsize
# So many sequences at least have their gates in scratch space one position at a time, forward.
MANY = 128


def workspace_bytes(func: Any, args: Sequence[Any]) -> int:
    """Return the bytes that forward writes into a workspace; 0 for operators that return none."""
    if func.overloadpacket is not torch.ops.aten.mkldnn_rnn_layer:
        return 0
    (length, batch, channels, hidden), each = _sizes(args), args[0].element_size()
    there = length * batch * (_aligned(4 * hidden, each) + hidden * each)
    if args[REVERSED]:  # the way back through a sequence has copies of what goes in and comes out
        there += 2 * (length + 1) * batch * _aligned(max(channels, hidden), each)
    return there


def lstm_scratch(args: Sequence[Any], made: Sequence[Tensor]) -> int:
    """Return the bytes that forward takes besides: weights in blocks, and gates."""
    del made
    length, batch, _, hidden = _sizes(args)
    if args[0].element_size() < FLOAT:
        return _bytes(*args[1:3])
    positions = 1 if batch >= MANY else length
    return _bytes(*args[1:3]) + positions * batch * _aligned(4 * hidden, FLOAT)


def lstm_backward_scratch(args: Sequence[Any], made: Sequence[Tensor]) -> int:
    """Return the bytes that backward takes besides: gradients of states, weights in blocks, gates or results."""
    del made
    length, batch, channels, hidden = _sizes(args)
    back = 3 * _aligned(max(channels, hidden), FLOAT) + hidden * FLOAT
    there = (length + 1) * batch * back
    if args[0].element_size() < FLOAT:
        return there + 3 * _bytes(*args[1:3]) + length * batch * hidden * FLOAT
    return there + 2 * _bytes(*args[1:3]) + length * batch * _aligned(4 * hidden, FLOAT)


def _sizes(args: Sequence[Any]) -> tuple[int, int, int, int]:
    """Return length, batch and channels of the sequences, and hidden channels."""
    length, batch, channels = args[0].shape
    return length, batch, channels, args[2].shape[1]


def _aligned(count: int, each: int) -> int:
    """Return the bytes of a row of numbers: whole lines, and one more where rows would be 256 apart."""
    line = LINE // each
    filled = -(-count // line) * line
    return (filled + line if filled % 256 == 0 else filled) * each


def _bytes(*tensors: Tensor) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
