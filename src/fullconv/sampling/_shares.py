"""All units, or a random share of them."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from torch import Tensor

from fullconv.sampling._large import Scattered, maps_of
from fullconv.sampling._numbers import share, whole
from fullconv.sampling._sampler import one_or_many


@dataclass(frozen=True, slots=True)
class Whole:
    """Every unit of every image: whole-image training."""

    def __call__(self, targets: Any, generator: torch.Generator) -> Any:
        """Return a boolean tensor of the shape of each map, true everywhere; None for large maps."""
        del generator
        if large := maps_of(targets):
            return None if large[1] else [None for _ in large[0]]
        maps, single = one_or_many(targets)
        units = [torch.ones_like(target, dtype=torch.bool) for target in maps]
        return units[0] if single else units


@dataclass(frozen=True, slots=True)
class Sampled:
    """A random share of the units: each cell is kept with the same probability, independently.

    The loss over them is that of random patches (Long, Shelhamer & Darrell 2015, section 3.4). To
    keep the expected number of terms, take ``1 / keep`` times as many images per step.

    Args:
        keep: Probability that a cell is kept, above 0 and at most 1.
        cell: Side of a cell, in units along each axis. The paper's "final-layer cell" can be read in
            two ways: 1 makes each unit of the map a cell; the network's period (in units) makes each
            position of its coarsest layer one, such as 32 for FCN-32s.

    Raises:
        BadConfigError: If an argument is out of range.

    Examples:
        >>> import torch, fullconv as fc
        >>> units = fc.Sampled(keep=0.25)(torch.zeros(100, 100), torch.Generator().manual_seed(0))
        >>> units.shape, round(units.float().mean().item(), 1)
        (torch.Size([100, 100]), 0.2)
    """

    keep: float
    cell: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep", share("keep", self.keep))
        object.__setattr__(self, "cell", whole("cell", self.cell))

    @property
    def images(self) -> float:
        """Images to take in place of one, for the same expected number of terms."""
        return 1 / self.keep

    def __call__(self, targets: Any, generator: torch.Generator) -> Any:
        """Return a boolean tensor of the shape of each map; for large maps, what gives parts of it."""
        if large := maps_of(targets):
            seeds = torch.randint(2**31, (len(large[0]),), generator=generator).tolist()
            found = [
                Scattered(tuple(target.shape), keep=self.keep, cell=self.cell, seed=seed)
                for target, seed in zip(large[0], seeds, strict=True)
            ]
            return found[0] if large[1] else found
        maps, single = one_or_many(targets)
        units = [self._kept(target, generator) for target in maps]
        return units[0] if single else units

    def _kept(self, target: Tensor, generator: torch.Generator) -> Tensor:
        cells = [ceil(size / self.cell) for size in target.shape]
        kept = torch.rand(cells, generator=generator) < self.keep
        for axis, size in enumerate(target.shape):
            kept = kept.repeat_interleave(self.cell, axis).narrow(axis, 0, size)
        return kept.to(target.device)
