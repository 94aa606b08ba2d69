"""From logits and labels to the loss of each unit that counts, and their sum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fullconv.execution._checks import check_losses, out_of_range
from fullconv.execution._units import Terms

# With fewer classes, PyTorch's softmax over the last axis (on a CPU) takes 5 to 10 times as long as over
# another one.
VECTOR = 16


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the cross entropy of each unit, `(n,)`, of logits `(n, classes)` and labels `(n,)`.

    The same as PyTorch's, to rounding, with the units along the last axis where classes are few.
    """
    last = logits.shape[1] < VECTOR
    losses = F.cross_entropy(
        logits.t()[None] if last else logits, labels[None] if last else labels, weight,
        ignore_index=ignore_index, reduction="none", label_smoothing=label_smoothing,
    )  # fmt: skip
    return losses[0] if last else losses


def unit_losses(
    criterion: Callable[[Tensor, Tensor], Tensor], rows: Sequence[Tensor], terms: Sequence[Terms]
) -> Tensor:
    """Return the loss of each unit, `(n,)`, from logits `(n, classes)` in parts."""
    logits = torch.cat(list(rows)) if len(rows) > 1 else rows[0]
    if logits.dtype in {torch.bfloat16, torch.float16}:
        logits = logits.float()
    labels = torch.cat([each.targets for each in terms]).to(logits.device)
    try:
        losses = _unit_loss(criterion)(logits, labels)
    except IndexError as error:
        raise out_of_range(labels, logits.shape[1]) from error
    return check_losses(losses, len(labels))


def _unit_loss(criterion: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the criterion, or what does the same sooner."""
    # One derived from it does as it likes.
    derived = type(criterion) is not nn.CrossEntropyLoss
    if not isinstance(criterion, nn.CrossEntropyLoss) or derived or criterion.reduction != "none":
        return criterion
    return partial(
        cross_entropy,
        weight=criterion.weight,
        ignore_index=criterion.ignore_index,
        label_smoothing=criterion.label_smoothing,
    )


def ignored_by(criterion: Callable[..., Any]) -> int | None:
    """Return the label of the units that a criterion leaves out; None if it names none."""
    if isinstance(criterion, partial):
        given = criterion.keywords.get("ignore_index")
        return ignored_by(criterion.func) if given is None else given
    if criterion in {F.cross_entropy, F.nll_loss, cross_entropy}:
        return -100
    return getattr(criterion, "ignore_index", None)


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
