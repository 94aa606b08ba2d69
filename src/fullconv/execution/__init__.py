"""Windows through the network, under a memory budget."""

from fullconv.execution._memory import available_bytes, forward_bytes, parse_memory
from fullconv.execution._windows import Windows, run_window

__all__ = ["Windows", "available_bytes", "forward_bytes", "parse_memory", "run_window"]
