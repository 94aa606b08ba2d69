"""Windows through the network, under a memory budget: forward, and exact losses with their gradient."""

from fullconv.execution._ahead import Behind, ahead
from fullconv.execution._cost import WITH_BACKWARD, multiplications, operations
from fullconv.execution._descents import Descents
from fullconv.execution._down import Down
from fullconv.execution._evaluating import evaluating
from fullconv.execution._handed import Sums, gradients, handed
from fullconv.execution._losses import cross_entropy
from fullconv.execution._memory import (
    available_bytes,
    forward_bytes,
    give_back_freed_memory,
    in_words,
    parse_memory,
    return_freed_memory,
)
from fullconv.execution._passes import Passes
from fullconv.execution._pixels import laid_out, like_weights, read
from fullconv.execution._planner import Planner
from fullconv.execution._reads import Cover
from fullconv.execution._rewind import Rewind
from fullconv.execution._spread import Mask
from fullconv.execution._step_loss import StepLoss
from fullconv.execution._streamed import Streamed
from fullconv.execution._units import choose
from fullconv.execution._windows import Windows, run_window

__all__ = [
    "WITH_BACKWARD",
    "Behind",
    "Cover",
    "Descents",
    "Down",
    "Mask",
    "Passes",
    "Planner",
    "Rewind",
    "StepLoss",
    "Streamed",
    "Sums",
    "Windows",
    "ahead",
    "available_bytes",
    "choose",
    "cross_entropy",
    "evaluating",
    "forward_bytes",
    "give_back_freed_memory",
    "gradients",
    "handed",
    "in_words",
    "laid_out",
    "like_weights",
    "multiplications",
    "operations",
    "parse_memory",
    "read",
    "return_freed_memory",
    "run_window",
]
