"""Steps that run out of memory, and go on with less.

What a step computes does not depend on how it is cut into windows. So one that fails for want of
memory is made again from its start, with the same random numbers, in smaller windows: its result is
the same, and nothing is lost but its time.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch

# What PyTorch's allocators say; on a CPU it is no exception of its own.
SIGNS = ("can't allocate memory", "not enough memory", "out of memory")


def is_shortage(error: BaseException) -> bool:
    """Return whether an error says that there was not enough memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def patiently(run: Callable[[], Any], make_room: Callable[[str], None]) -> Any:
    """Return what a run returns, run again for as long as it ends for want of memory.

    Args:
        run: Changes nothing that lasts if it fails, but the state of the random numbers.
        make_room: Lets the next run take less, given what was said; raises if it cannot.
    """
    while True:
        state = _random_state()
        try:
            return run()
        except Exception as error:
            if not is_shortage(error):
                raise
            said = str(error).strip().splitlines()[:1]
        # Behind the error, whose frames held what the run had made.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        make_room(said[0] if said else "out of memory")
        _go_back_to(state)


def _random_state() -> tuple[torch.Tensor, list[torch.Tensor]]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return torch.get_rng_state(), cuda


def _go_back_to(state: tuple[torch.Tensor, list[torch.Tensor]]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])
