"""One plan for all processes of a distributed run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


def least_of_ranks(amount: int) -> int:
    """Return the least of an amount over the ranks of a run; alone, the amount itself."""
    if not _together():
        return amount
    device = torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
    found = torch.tensor(amount, dtype=torch.int64, device=device)
    dist.all_reduce(found, dist.ReduceOp.MIN)
    return int(found)


def first_rank_says(make: Callable[[], T]) -> T:
    """Return what the first rank of a run makes, on all of them; alone, what is made here.

    Raises:
        Exception: What it raised, on all ranks too.
    """
    if not _together():
        return make()
    said: list[object] = [None, None]
    if dist.get_rank() == 0:
        try:
            said[0] = make()
        except Exception as error:  # noqa: BLE001 - the others wait for it
            said[1] = error
    dist.broadcast_object_list(said, src=0)
    if isinstance(said[1], Exception):
        raise said[1]
    return said[0]  # pyright: ignore[reportReturnType] (what `make` returned there)


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()
