"""Samplers: which units of which images count in a step.

A sampler is any function ``(targets, generator) -> units``. `targets` is one map of labels
``(*map_shape)``, or a list of such maps; the units are of the same kind: for each map a tensor of
its shape, boolean (which units count) or floating (how much each counts), or a list of boxes of
units, which may overlap. None stands for all units. What is random comes from `generator` alone.
"""

from fullconv.sampling._balanced import Balanced
from fullconv.sampling._hard import Hard
from fullconv.sampling._large import Counted, Drawn, is_large
from fullconv.sampling._patchwise import Patchwise
from fullconv.sampling._sampler import Sampler, Units, generator
from fullconv.sampling._shares import Sampled, Whole

__all__ = [
    "Balanced",
    "Counted",
    "Drawn",
    "Hard",
    "Patchwise",
    "Sampled",
    "Sampler",
    "Units",
    "Whole",
    "generator",
    "is_large",
]
