"""What a step takes, item by item, at the moment when it takes most."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from fullconv.planning._ledger import Course

_ITEMS = ("parameters", "gradients", "optimizer", "data", "saved")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """Bytes by purpose, when their sum is largest.

    Attributes:
        parameters: Weights and buffers.
        gradients: Of the weights, as far as they are there by then.
        optimizer: State of the optimiser.
        data: Images and labels of the step.
        saved: What forward kept for backward and is not yet let go.
        workspace: Gradients on their way down, copies, scratch space, kernels.
    """

    parameters: int
    gradients: int
    optimizer: int
    data: int
    saved: int
    workspace: int

    @property
    def total(self) -> int:
        """The sum: the peak."""
        return (
            self.parameters
            + self.gradients
            + self.optimizer
            + self.data
            + self.saved
            + self.workspace
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What forward keeps of one layer for backward.

    Attributes:
        module: Its path in the network; empty for the network itself and the loss.
        kind: Its class.
        saved_bytes: What it keeps.
    """

    module: str
    kind: str
    saved_bytes: int


def bill(course: Course, beyond: int) -> Bill:
    """Return the bill of a run.

    Args:
        course: Its memory, operator by operator.
        beyond: Bytes that are there besides: kernels, buffers of threads.
    """
    at = course.peak_tick
    there = {kind: int(course.alive([kind])[at]) for kind in _ITEMS}
    rest = int(course.alive(["passing"])[at] + course.scratch()[at])
    return Bill(**there, workspace=rest + beyond)


def layers(course: Course) -> tuple[Layer, ...]:
    """Return what each layer keeps for backward, in the order of their first tensors."""
    kept: Counter[tuple[str, str]] = Counter()
    for block in course.blocks:
        if block.kind == "saved":
            kept[block.module, block.module_class] += block.nbytes
    return tuple(Layer(module=m, kind=k, saved_bytes=n) for (m, k), n in kept.items())
