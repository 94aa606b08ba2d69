"""The units with the largest loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fullconv.errors import FullconvError
from fullconv.sampling._large import maps_of
from fullconv.sampling._numbers import check_ignore, share
from fullconv.sampling._sampler import one_or_many, spread_out, valid_units


@dataclass(frozen=True, slots=True)
class Hard:
    """The share of the valid units with the largest loss: online hard example mining.

    (Shrivastava, Gupta & Girshick 2016.) It needs the losses of all units first, computed without
    gradients by `fullconv.StepLoss.losses`; only the chosen units are then learned from.

    Args:
        keep: Share of the step's valid units, above 0 and at most 1.
        ignore: Label of the units that do not count.

    Raises:
        BadConfigError: If an argument is out of range.

    Examples:
        >>> import torch, fullconv as fc
        >>> targets = torch.tensor([[0, 1], [1, 255]])
        >>> losses = torch.tensor([[0.1, 0.9], [0.5, 0.0]])
        >>> fc.Hard(keep=0.3).hardest(targets, losses)
        tensor([[False,  True],
                [False, False]])
    """

    keep: float
    ignore: int | None = 255

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep", share("keep", self.keep))
        check_ignore(self.ignore)

    def __call__(self, targets: Any, generator: torch.Generator) -> Any:
        """Return the valid units: those that `hardest` chooses among, once their losses are known."""
        del generator
        maps, single = one_or_many(targets)
        units = [valid_units(target, self.ignore) for target in maps]
        return units[0] if single else units

    def hardest(self, targets: Any, losses: Tensor | Sequence[Tensor]) -> Any:
        """Return which units are the hardest of the step, a boolean tensor for each map.

        Args:
            targets: One map of labels `(*map_shape)`, or a list of them.
            losses: The loss of each unit, in the same form.
        """
        if maps_of(targets):
            raise FullconvError(
                "`Hard` needs the loss of every unit in memory, got maps that are read in parts; take "
                "`Balanced` or `Patchwise` for them"
            )
        maps, single = one_or_many(targets)
        each, _ = one_or_many(losses)
        valid = torch.cat([valid_units(t, self.ignore).flatten().cpu() for t in maps])
        flat = torch.cat([loss.detach().flatten().float().cpu() for loss in each])
        count = min(int(valid.sum()), max(1, round(self.keep * int(valid.sum()))))
        order = torch.where(valid, flat, -torch.inf).topk(count).indices
        kept = torch.zeros(flat.shape, dtype=torch.bool)
        kept[order] = True
        units = spread_out(kept & valid, maps)
        return units[0] if single else units
