"""Losses of a step, as a sum over its images divided by a weight that is known beforehand.

Written so, a step may be computed image by image: each adds ``total / weight`` with the weight of
the whole step, and the gradients add up exactly. The units labelled `ignore` never count.

Class weights multiply the loss of a unit and leave the divisor alone: they average to 1 over the data
set, not within each step, so that a step with few units of a rare class does not overrate the others.

Shapes: ``N`` images, ``K`` classes, ``H`` and ``W`` px.
"""

import copy
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fullconv.execution import cross_entropy
from fullconv.training._config import ClassWeights, LossName


class Criterion(Protocol):
    """A loss that is a sum over images."""

    def total(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the sum over images of logits ``(N, K, H, W)`` and targets ``(N, H, W)``."""
        ...

    def weight(self, targets: Tensor) -> Tensor:
        """Return what these targets add to the divisor of the step."""
        ...


@runtime_checkable
class UnitCriterion(Criterion, Protocol):
    """A loss that is a sum over units."""

    ignore: int

    def each(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each unit, of logits ``(n, K)`` and targets ``(n,)``."""
        ...

    def weights_of(self, targets: Tensor) -> Tensor:
        """Return what each of these targets adds to the divisor, in their shape; 0 if ignored."""
        ...


class CrossEntropy(nn.Module):
    """Cross entropy: mean over the step's valid units, or their sum as in the paper."""

    weights: Tensor | None

    def __init__(
        self, *, weights: Sequence[float] | None = None, ignore: int = 255, mean: bool = True
    ) -> None:
        super().__init__()
        self.ignore = ignore
        self.mean = mean
        self.register_buffer("weights", _tensor(weights), persistent=False)

    def total(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the summed cross entropy of the valid units."""
        return F.cross_entropy(
            logits, targets, self.weights, ignore_index=self.ignore, reduction="sum"
        )

    def weight(self, targets: Tensor) -> Tensor:
        """Return the number of valid units; 0 for the sum."""
        if not self.mean:
            return torch.zeros((), device=targets.device)
        return (targets != self.ignore).sum().float()

    def each(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the cross entropy of each unit; 0 for those ignored."""
        return cross_entropy(logits, targets, self.weights, ignore_index=self.ignore)

    def weights_of(self, targets: Tensor) -> Tensor:
        """Return 1 for each unit, 0 for those ignored; 0 for the sum."""
        if not self.mean:
            return torch.zeros(targets.shape, device=targets.device)
        return (targets != self.ignore).float()


class Focal(nn.Module):
    """Focal loss (Lin et al., 2017), exponent 2, by kornia: mean over the step's valid units."""

    weights: Tensor | None

    def __init__(self, *, weights: Sequence[float] | None = None, ignore: int = 255) -> None:
        super().__init__()
        self.ignore = ignore
        self.register_buffer("weights", _tensor(weights), persistent=False)

    def total(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the summed focal loss of the valid units."""
        from kornia.losses import focal_loss

        return focal_loss(
            logits, targets, None, reduction="sum", weight=self.weights, ignore_index=self.ignore
        )

    def weight(self, targets: Tensor) -> Tensor:
        """Return the number of valid units."""
        return (targets != self.ignore).sum().float()

    def each(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the focal loss of each unit; 0 for those ignored."""
        from kornia.losses import focal_loss

        losses = focal_loss(
            logits, targets, None, reduction="none", weight=self.weights, ignore_index=self.ignore
        )
        return losses.sum(1)

    def weights_of(self, targets: Tensor) -> Tensor:
        """Return 1 for each unit, 0 for those ignored."""
        return (targets != self.ignore).float()


class Dice(nn.Module):
    """Soft Dice loss by kornia: mean over images of the mean over the classes in their masks."""

    weights: Tensor | None

    def __init__(self, *, weights: Sequence[float] | None = None, ignore: int = 255) -> None:
        super().__init__()
        self.ignore = ignore
        self.register_buffer("weights", _tensor(weights), persistent=False)

    def total(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the Dice loss summed over the images that have a valid unit."""
        from kornia.losses import dice_loss

        mean = dice_loss(logits, targets, "macro", weight=self.weights, ignore_index=self.ignore)
        # That of images without a valid unit is 1, and no gradient. They are not left out beforehand:
        # steps are planned on tensors without numbers, which cannot be asked which these are.
        return mean * len(targets) - (len(targets) - self.weight(targets))

    def weight(self, targets: Tensor) -> Tensor:
        """Return the number of images that have a valid unit."""
        return (targets != self.ignore).flatten(1).any(1).sum().float()


def criterion(
    name: LossName, *, weights: Sequence[float] | None = None, ignore: int = 255
) -> CrossEntropy | Focal | Dice:
    """Return a loss by name.

    Args:
        name: ``cross-entropy``, ``cross-entropy-sum``, ``focal`` or ``dice``.
        weights: One weight per class; None for 1 each.
        ignore: Label of the units that do not count.
    """
    match name:
        case "cross-entropy":
            return CrossEntropy(weights=weights, ignore=ignore)
        case "cross-entropy-sum":
            return CrossEntropy(weights=weights, ignore=ignore, mean=False)
        case "focal":
            return Focal(weights=weights, ignore=ignore)
        case "dice":
            return Dice(weights=weights, ignore=ignore)


def on(device: torch.device, criterion: Criterion) -> Criterion:
    """Return a loss whose weights are on a device; the loss itself stays where it is."""
    return copy.deepcopy(criterion).to(device) if isinstance(criterion, nn.Module) else criterion


def class_weights(name: ClassWeights, counts: Sequence[int]) -> list[float] | None:
    """Return one weight per class, averaging to 1 over the units; None for 1 each.

    Args:
        name: ``balanced`` makes each class's share of the loss the same, ``sqrt`` makes it go with
            the square root of the class's frequency, ``none`` leaves it at the frequency.
        counts: Units of each class. A class without units gets 0.
    """
    if name == "none":
        return None
    power = -1.0 if name == "balanced" else -0.5
    raw = [count**power if count else 0.0 for count in counts]
    scale = sum(counts) / sum(w * count for w, count in zip(raw, counts, strict=True))
    return [w * scale for w in raw]


def _tensor(weights: Sequence[float] | None) -> Tensor | None:
    return None if weights is None else torch.tensor(weights, dtype=torch.float32)
