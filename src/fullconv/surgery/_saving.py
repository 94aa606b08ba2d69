"""Rewritten networks that are saved whole: with what they know of themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx


class Rewritten(fx.GraphModule):
    """A graph of calls that keeps its `meta` where pickle, `torch.save` too, would drop it."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to make the network again."""
        build, arguments = super().__reduce__()
        return _restored, (build, arguments, self.meta)


def _restored(
    build: Callable[..., fx.GraphModule], arguments: tuple[Any, ...], meta: dict[str, Any]
) -> Rewritten:
    plain = build(*arguments)  # PyTorch's own class, which would lose its `meta` when saved again
    net = Rewritten(plain, plain.graph, type(plain).__name__)
    net.__dict__ = vars(plain) | vars(net)  # what users have added is no part of the graph
    net.meta |= meta
    return net
