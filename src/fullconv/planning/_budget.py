"""How much memory there is to plan with."""

from __future__ import annotations

import torch

from fullconv.execution import available_bytes, parse_memory
from fullconv.planning._ranks import least_of_ranks

# What is left free: other programs grow, and a GPU's allocator keeps pieces that nothing fits into.
MARGIN = {"cpu": 0.05, "cuda": 0.08}


def free_bytes(device: torch.device) -> int:
    """Return what is free now on a device, for this process: others' use and limits counted."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + kept
    return available_bytes()


def budget(memory: str | int | None, device: torch.device) -> int:
    """Return an amount of memory in bytes.

    Args:
        memory: "2 GiB", "500MB" or bytes; "80%" of what is free on the device; None for all that is
            free but a margin. All ranks of a distributed run get the least of any.
        device: Where steps run.

    Raises:
        BadConfigError: If it is no such amount, or not positive.
    """
    if memory is None:
        margin = MARGIN.get(device.type, MARGIN["cuda"])
        return least_of_ranks(int(free_bytes(device) * (1 - margin)))
    text = str(memory).strip()
    if device.type == "cuda" and text.endswith("%"):
        share = parse_memory(text) / max(1, parse_memory("100%"))
        return least_of_ranks(int(free_bytes(device) * share))
    return least_of_ranks(parse_memory(memory))
