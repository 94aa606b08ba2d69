"""A network's structure copied, its weights not."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

from fullconv.errors import FullconvError

_Net = TypeVar("_Net", bound=nn.Module)


def same_weights(net: _Net) -> _Net:
    """Return a copy of a network that holds the very same parameters and buffers.

    Raises:
        FullconvError: If it holds something that cannot be copied, such as a lock or an open file.
    """
    try:
        return copy.deepcopy(net, {id(t): t for t in (*net.parameters(), *net.buffers())})
    except Exception as error:  # whatever it holds may refuse in its own way
        raise FullconvError(
            f"`net` must be one that `copy.deepcopy` copies, got a {type(net).__name__}: {error}"
        ) from error
