"""The exact gradient of a map that a network makes while it runs down an image.

The network runs down once and keeps its state, the rows that are still read, at some of its passes.
Then it goes back up: each pass runs again from its state, forward and backward, with the gradient
that the passes below it found for the state that it left. So nothing but one more forward pass is
computed twice, however large the field is; with states at every few passes only, two of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from fullconv.execution._handed import Sums, gradients
from fullconv.execution._rewind import Rewind
from fullconv.execution._rolling import Kept, Pass, Read, Rolling, State, passes
from fullconv.tracing import Value

# From the first row of a piece of the map, and the piece: what to go back from, and its gradient (None
# for 1); None where nothing depends on the piece.
Outer = Callable[[int, Tensor], tuple[Tensor, Tensor | None] | None]


class Rewinding:
    """One way down an image, and back up.

    Args:
        rolling: The network.
        plan: How many rows at a time, and how often its state is kept.
    """

    def __init__(self, rolling: Rolling, plan: Rewind) -> None:
        self._rolling, self._every = rolling, plan.every
        self._passes = list(passes(rolling.stages, plan.rows))
        self._states: dict[int, State] = {}

    def down(self, read: Read) -> Iterator[tuple[int, Tensor]]:
        """Yield the map from its first row to its last, and keep states on the way.

        Args:
            read: Returns rows `[start, stop)` of the image, `(1, channels, rows, ...)`.
        """
        self._states[0] = {}
        yield from self._down(read, 0, len(self._passes), self._every)

    def back(self, read: Read, leaves: Sequence[Tensor], outer: Outer) -> list[Tensor | None]:
        """Return the gradient of each leaf; None for those that the map does not depend on.

        Args:
            read: As for `down`; without that, states are made first.
            leaves: Weights of the network, and perhaps the image.
            outer: Called for each piece of the map, from the last one to the first.
        """
        last = (len(self._passes) - 1) // self._every * self._every
        if last not in self._states:
            self._states[0] = {}
            deque(self._down(read, 0, last, self._every), maxlen=0)
        sums = Sums(len(leaves))
        later: dict[Value, Tensor] = {}
        for number in reversed(range(len(self._passes))):
            if number not in self._states:
                deque(self._down(read, number // self._every * self._every, number, 1), maxlen=0)
            later, grads = self._back(read, number, leaves, outer, later)
            sums.add(grads)
        return sums.found

    def _down(self, read: Read, start: int, stop: int, every: int) -> Iterator[tuple[int, Tensor]]:
        """Run passes without gradients, and keep the states between them."""
        with torch.no_grad():
            constants, kept = self._rolling.constants(), self._rolling.kept(self._states[start])
        for number in range(start, stop):
            with torch.no_grad():
                made = self._rolling.go_on(self._passes[number], kept, read, constants)
                if (number + 1 - start) % every == 0:
                    state = _state(self._passes[number], kept)
                    self._states[number + 1] = {v: (a, t.clone()) for v, (a, t) in state.items()}
            yield from made

    def _back(
        self,
        read: Read,
        number: int,
        leaves: Sequence[Tensor],
        outer: Outer,
        later: dict[Value, Tensor],
    ) -> tuple[dict[Value, Tensor], Sequence[Tensor | None]]:
        """Return the gradients of the state that a pass starts from, and of the leaves."""
        state = {
            v: (first, part.requires_grad_(part.is_floating_point()))
            for v, (first, part) in self._states.pop(number).items()
        }
        with torch.enable_grad():
            kept = self._rolling.kept(state)
            pieces = self._rolling.go_on(
                self._passes[number], kept, read, self._rolling.constants()
            )
            ends = [end for first, piece in pieces if (end := outer(first, piece)) is not None]
            left = _state(self._passes[number], kept)
        ends += [(left[value][1], grad) for value, grad in later.items()]
        ends = [(end, grad) for end, grad in ends if end.requires_grad]
        inputs = {v: part for v, (_, part) in state.items() if part.requires_grad}
        if not ends:
            return {}, [None] * len(leaves)
        outputs, grads = [end for end, _ in ends], [grad for _, grad in ends]
        found = gradients(outputs, [*leaves, *inputs.values()], grads)
        count = len(leaves)
        wanted = dict(zip(inputs, found[count:], strict=True))
        return {v: grad for v, grad in wanted.items() if grad is not None}, found[:count]


def _state(one: Pass, kept: dict[Value, Kept]) -> State:
    """Return the rows that are still read behind a pass, and the first of each."""
    rows = {value: row for run in one.runs for value, row in run.dropped}
    return {
        value: (row, kept[value].take(row, stop))
        for value, row in rows.items()
        if (stop := kept[value].stop) > row
    }
