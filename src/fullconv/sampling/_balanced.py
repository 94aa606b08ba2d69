"""Units balanced over the classes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fullconv.sampling._large import draw_by_class, maps_of
from fullconv.sampling._numbers import check_ignore, whole
from fullconv.sampling._sampler import labels_of, one_or_many, spread_out, valid_units


@dataclass(frozen=True, slots=True)
class Balanced:
    """A number of units, the same for every class that is there.

    A class with fewer units than its share gives all it has, and the others share what is left.

    Args:
        count: Units per step.
        unbiased: True weighs each unit so that the expected loss is that of all units: rare classes
            are seen often but count little, which lowers the noise of the gradient and nothing else.
            False lets every class count the same, which changes what is learned: rare classes are
            predicted more often.
        ignore: Label of the units that do not count.

    Raises:
        BadConfigError: If an argument is out of range.
    """

    count: int
    unbiased: bool = False
    ignore: int | None = 255

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", whole("count", self.count))
        check_ignore(self.ignore)

    def __call__(self, targets: Any, generator: torch.Generator) -> Any:
        """Return for each map a boolean tensor of its shape; weights if unbiased.

        The weights of a step sum to its number of units, so that their mean is the estimate. For large
        maps, boxes of single units are returned, drawn with the help of an index of their classes.
        """
        if large := maps_of(targets):
            drawn = draw_by_class(
                large[0], partial(_quotas, count=self.count), generator, unbiased=self.unbiased
            )
            return drawn[0] if large[1] else drawn
        maps, single = one_or_many(targets)
        labels = torch.cat([labels_of(target).flatten().cpu() for target in maps])
        valid = valid_units(labels, self.ignore)
        classes, sizes = labels[valid].unique(return_counts=True)
        quotas = _quotas(sizes.tolist(), self.count)
        kept = torch.zeros(labels.shape, dtype=torch.float32 if self.unbiased else torch.bool)
        drawn, there = sum(quotas), int(sizes.sum())
        for label, size, quota in zip(classes, sizes.tolist(), quotas, strict=True):
            chosen = _some(labels == label, quota, generator)
            kept[chosen] = size * drawn / (quota * there) if self.unbiased else True
        units = spread_out(kept, maps)
        return units[0] if single else units


def _some(mask: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return the positions of `count` random ones among the true ones."""
    places = mask.nonzero().flatten()
    return places[torch.randperm(len(places), generator=generator)[:count]]


def _quotas(sizes: list[int], count: int) -> list[int]:
    """Return how many each class gives: the same for all, as far as they have them."""
    quotas = [0] * len(sizes)
    left = count
    waiting = sorted(range(len(sizes)), key=lambda i: sizes[i])
    for position, index in enumerate(waiting):
        # Rounding up gives the rarest classes the odd unit; every class gives one at least.
        share = max(1, -(-left // (len(waiting) - position)))
        quotas[index] = min(sizes[index], share)
        left = max(0, left - quotas[index])
    return quotas
