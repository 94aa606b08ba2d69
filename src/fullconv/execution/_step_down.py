"""The loss of an image that the network runs down, and its gradient on the way back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from fullconv.execution._descents import Descents
from fullconv.execution._jobs import OneWindow
from fullconv.execution._losses import counted, unit_losses, weighed
from fullconv.execution._memory import keep_freed_memory
from fullconv.execution._pixels import laid_out, like_weights, read
from fullconv.execution._rewinding import Rewinding
from fullconv.execution._rolling import Read, Rolling
from fullconv.geometry import Box


class StepDown:
    """Whole images of a step that are run from their first row to their last.

    Args:
        net: The network.
        criterion: From logits and labels to one loss per unit.
        descents: The ways down.
    """

    def __init__(
        self, net: nn.Module, criterion: Callable[[Tensor, Tensor], Tensor], descents: Descents
    ) -> None:
        self._net, self._criterion, self._descents = net, criterion, descents

    def there(self, job: OneWindow) -> Tensor:
        """Return the summed loss of an image, without gradients."""
        assert job.down is not None
        total = self._zero()
        for first, piece in self._rolling(job)(self._rows_of(job), job.down.rows):
            share = self._share(job, first, piece)
            total += 0 if share is None else share
        return total

    def there_and_back(
        self, job: OneWindow, scale: float, leaves: Sequence[Tensor]
    ) -> tuple[Tensor, Sequence[Tensor | None]]:
        """Return the summed loss of an image times `scale`, and its gradient for each leaf."""
        assert job.down is not None
        total = self._zero()

        def outer(first: int, piece: Tensor) -> tuple[Tensor, None] | None:
            share = self._share(job, first, piece)
            if share is None:
                return None
            total.add_(share.detach(), alpha=scale)
            return share * scale, None

        grads = Rewinding(self._rolling(job), job.down).back(self._rows_of(job), leaves, outer)
        return total, grads

    def _share(self, job: OneWindow, first: int, piece: Tensor) -> Tensor | None:
        """Return the summed loss of some rows of a map; None where none of their units counts."""
        box = _rows(first, first + piece.shape[2], job.window.units.stop[1:])
        terms = job.find(box)
        if not len(terms.targets):
            return None
        losses = unit_losses(self._criterion, [counted(piece[0], terms)], [terms])
        return weighed(losses, [terms])

    def _rolling(self, job: OneWindow) -> Rolling:
        keep_freed_memory()
        return self._descents.rolling(job.image.shape[0], job.window.reads.shape)

    def _rows_of(self, job: OneWindow) -> Read:
        """Return what reads rows of an image."""
        like, columns = like_weights(self._net), job.window.reads.stop[1:]

        def rows(start: int, stop: int) -> Tensor:
            part = read(job.image, _rows(start, stop, columns), like)
            return laid_out(part[None], self._net)

        return rows

    def _zero(self) -> Tensor:
        like = like_weights(self._net)
        return torch.zeros((), device=like.device, dtype=like.dtype)


def _rows(start: int, stop: int, columns: tuple[int, ...]) -> Box:
    return Box(start=(start, *(0 for _ in columns)), stop=(stop, *columns))
