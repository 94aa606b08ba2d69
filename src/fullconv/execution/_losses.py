"""From logits and labels to the loss of each unit that counts, and their sum."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fullconv.execution._checks import check_losses, out_of_range
from fullconv.execution._units import Terms


def unit_losses(
    criterion: Callable[[Tensor, Tensor], Tensor], rows: Sequence[Tensor], terms: Sequence[Terms]
) -> Tensor:
    """Return the loss of each unit, `(n,)`, from logits `(n, classes)` in parts."""
    logits = torch.cat(list(rows)) if len(rows) > 1 else rows[0]
    if logits.dtype in {torch.bfloat16, torch.float16}:
        logits = logits.float()
    labels = torch.cat([each.targets for each in terms]).to(logits.device)
    try:
        losses = criterion(logits, labels)
    except IndexError as error:
        raise out_of_range(labels, logits.shape[1]) from error
    return check_losses(losses, len(labels))


def counted(owned: Tensor, terms: Terms) -> Tensor:
    """Return the logits of those units of a map, `(classes, *units)`, that count: `(n, classes)`."""
    last = owned.movedim(0, -1)
    return last.flatten(0, -2) if terms.keep is None else last[terms.keep]


def weighed(losses: Tensor, terms: Sequence[Terms]) -> Tensor:
    """Return the sum of losses `(n,)`, each as often as its unit counts."""
    if all(each.counts is None for each in terms):
        return losses.sum()
    counts = torch.cat([_counts(each).to(losses) for each in terms])
    # Where nothing counts the loss may be anything, even infinite.
    return torch.where(counts > 0, losses, 0).mul(counts).sum()


def _counts(found: Terms) -> Tensor:
    return torch.ones(len(found.targets)) if found.counts is None else found.counts
