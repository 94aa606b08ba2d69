"""Windows through the network, under a memory budget: forward, and exact losses with their gradient."""

from fullconv.execution._cost import multiplications
from fullconv.execution._handed import add_up, gradients, handed
from fullconv.execution._memory import available_bytes, forward_bytes, parse_memory
from fullconv.execution._pixels import like_weights, read
from fullconv.execution._step_loss import StepLoss
from fullconv.execution._streamed import Streamed
from fullconv.execution._windows import Windows, run_window

__all__ = [
    "StepLoss",
    "Streamed",
    "Windows",
    "add_up",
    "available_bytes",
    "forward_bytes",
    "gradients",
    "handed",
    "like_weights",
    "multiplications",
    "parse_memory",
    "read",
    "run_window",
]
