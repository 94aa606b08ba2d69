"""The process as a whole: what is left of its memory for windows."""

from __future__ import annotations

import psutil
import torch
from torch import nn

from fullconv.errors import FullconvError
from fullconv.execution import parse_memory
from fullconv.prediction._predict import predict

# What the first windows add for good, whatever their size: kernels compiled for their shapes,
# buffers of threads. Measured on CPU with a U-Net: 22 to 53 MB.
FIRST_RUN_BYTES = 64 * 2**20


def best_device() -> torch.device:
    """Return the GPU if there is one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def process_memory(memory: str | int) -> int:
    """Return how many bytes a whole process may have, given as "2 GiB", bytes, or a share.

    A share, such as "80%", is one of what the process has now and what is free besides.
    """
    if str(memory).strip().endswith("%"):
        free = parse_memory("100%")
        return int((free + _resident_bytes()) * parse_memory(memory) / max(1, free))
    return parse_memory(memory)


def left_for_windows(memory: int, net: nn.Module, *, held_bytes: int) -> int:
    """Return the bytes that windows may add if the process is to stay within its memory.

    On a GPU, where the windows are, it is the memory of PyTorch's allocator there that counts.

    Args:
        memory: Bytes for the whole process.
        net: The network, on its device.
        held_bytes: What will be held in main memory besides: image, labels, probabilities.

    Raises:
        FullconvError: If nothing is left.
    """
    _load_everything()
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    if device.type == "cuda":
        used = torch.cuda.memory_allocated(device)
    else:
        used = _resident_bytes() + held_bytes + FIRST_RUN_BYTES
    if used >= memory:
        raise FullconvError(
            f"`memory` must hold the whole process, got {_mib(memory)} where program, network and "
            f"image take {_mib(used)} before the first window: try {_mib(used + 2**28)}"
        )
    return memory - used


def _load_everything() -> None:
    """Predict a pixel, so that what tracing and convolving load (some 100 MB) counts as used."""
    predict(nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 1), memory=2**20)


def _resident_bytes() -> int:
    return psutil.Process().memory_info().rss


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.0f} MiB"
