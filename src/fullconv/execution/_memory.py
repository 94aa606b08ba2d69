"""Amounts of memory: as people write them, what the machine has, and what a forward pass takes."""

from __future__ import annotations

import ctypes
import re
import sys
from math import ceil, inf

import psutil

from fullconv.errors import BadConfigError
from fullconv.execution._control_groups import left_by_groups
from fullconv.execution._limits import left_by_limits
from fullconv.tracing import Program, Value

UNITS = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip

# What a pass takes beyond the tensors that the network names, or keeps for backward: gradients on
# their way down, copies in other layouts, scratch space inside convolutions. Measured on CPU: 1.05 to
# 1.3 times the named tensors.
WORKSPACE = 1.3

# glibc's M_MMAP_THRESHOLD, and the size from which on a block is given back when it is freed; its
# largest, and with M_TRIM_THRESHOLD as much of the heap's end, where blocks are to be kept.
M_MMAP_THRESHOLD, MAPPED_BYTES = -3, 2**16
M_TRIM_THRESHOLD, KEPT_BYTES = -1, 2**25


def parse_memory(memory: str | int) -> int:
    """Return an amount of memory in bytes.

    Args:
        memory: Bytes, or text such as "2 GiB", "500MB", or "80%" of what is free now.

    Raises:
        BadConfigError: If it is not such an amount, less than a byte, or more than floats can count.

    Examples:
        >>> parse_memory("2 GiB")
        2147483648
    """
    text = str(memory).strip().lower()
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*(%|[a-z]*)", text)
    if not match or (match[2] != "%" and match[2] not in UNITS) or float(match[1]) <= 0:
        raise BadConfigError(
            f"`memory` must be an amount such as '2 GiB', '500MB', '80%' or bytes, got {memory!r}"
        )
    amount = (
        available_bytes() * min(float(match[1]), 100) / 100
        if match[2] == "%"
        else float(match[1]) * UNITS[match[2]]
    )
    if amount < 1:
        raise BadConfigError(f"`memory` must be a byte at least, got {memory!r}")
    if amount == inf:
        raise BadConfigError(
            f"`memory` must be fewer bytes than floats can count, got {str(memory)[:9]}... with "
            f"{len(text)} characters: give '100%' for all that is free"
        )
    return int(amount)


def in_words(num_bytes: float) -> str:
    """Return an amount as people write it, rounded up: ``12.3 MiB``."""
    unit, name = (2**20, "MiB") if num_bytes >= 2**20 else (2**10, "KiB")
    return f"{ceil(num_bytes / unit * 10) / 10} {name}"


def available_bytes() -> int:
    """Return the memory that this process may still take: what is free, within all its limits."""
    left = (left_by_groups(), left_by_limits())
    return min([psutil.virtual_memory().available, *(room for room in left if room is not None)])


def return_freed_memory() -> None:
    """Have the C library give freed blocks back to the system at once, where it can be told to.

    By itself it keeps those below 32 MiB, and they fragment: the process grew to 2.1 times the bytes
    that were in use.
    """
    _tell_the_allocator(MAPPED_BYTES)


def keep_freed_memory() -> None:
    """Have the C library keep freed blocks for the next ones of their size, after `return_freed_memory`.

    Where the same sizes come again and again, they hardly fragment, and new pages for each block took
    as long as the computation: a step over 2048 x 2048 px, down the image and back, 2.2 times as long.
    """
    _tell_the_allocator(KEPT_BYTES)


def _tell_the_allocator(mapped_bytes: int) -> None:
    """Have blocks from this size on mapped by themselves, and given back when they are freed."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt:
            mallopt(M_MMAP_THRESHOLD, mapped_bytes)
            mallopt(M_TRIM_THRESHOLD, 2 * mapped_bytes)


def give_back_freed_memory() -> None:
    """Have the C library give back to the system what it keeps of freed blocks, this once."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim:
            trim(0)


def forward_bytes(program: Program) -> int:
    """Return the most bytes that a forward pass without gradients holds at once, for one image.

    A value lives from the call that makes it until the last that reads it, or a view of it.
    """
    owner: dict[Value, Value] = {}
    last: dict[Value, int] = {}
    made: dict[Value, int] = {}
    for position, call in enumerate(program.calls):
        for value in call.inputs:
            last[owner.get(value, value)] = position
        for out in call.outputs:
            source = None if out.new_bytes else next(iter(call.inputs), None)
            owner[out] = owner.get(source, source) if source else out
            made.setdefault(owner[out], position)
            last[owner[out]] = position
    change = [0] * (len(program.calls) + 1)
    for value, position in made.items():
        change[position] += value.new_bytes
        change[last[value] + 1] -= value.new_bytes
    peak = held = 0
    for step in change:
        held += step
        peak = max(peak, held)
    return (peak + program.image.new_bytes) // program.image.shape[0]
