"""The table of rules: one per operator, from the reach of its inputs to that of its outputs.

A rule is a function `(step) -> Reach | list[Reach]`. Rules say which positions read which; whether
that is the same for every unit, and hence local, is checked after each call in `_sweep`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor

from fullconv.errors import UnknownOperatorError
from fullconv.tracing._program import Call, Value
from fullconv.tracing._reach import Reach, hull

FREEZE = "use statistics that do not depend on the image (`net.eval()`, a frozen BatchNorm)"
LOCAL_NORM = "replace it by a norm over the channels of each position (channel LayerNorm)"
WHOLE = "use whole images only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One call, with what its inputs reach along the axis that is being traced.

    Attributes:
        call: The operator, its arguments by name and its outputs.
        reach_of: The reach of each value so far; none for constants.
        growing: By how much each axis of each value grows with one period of the image.
        made_by: The call that made each value.
    """

    call: Call
    reach_of: dict[Value, Reach]
    growing: dict[Value, dict[int, int]]
    made_by: dict[Value, Call]

    def __getitem__(self, name: str) -> Any:
        """Return an argument of the call by name."""
        return self.call.args[name]

    def reach(self, name: str) -> Reach:
        """Return the reach of a tensor argument, or refuse one that does not depend on the image."""
        found = self.reach_of.get(self.call.args[name])
        if found is None:
            self.refuse(
                f"its `{name}` does not depend on the image where other arguments do, which no rule "
                "follows"
            )
        return found

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor argument."""
        return self.call.args[name].shape

    def grows(self, name: str, dim: int) -> bool:
        """Return whether an axis of a tensor argument grows with the image."""
        value = self.call.args[name]
        return dim % len(value.shape) in self.growing[value]

    @property
    def out(self) -> tuple[int, ...]:
        """Shape of the first output."""
        return self.call.outputs[0].shape

    def refuse(self, why: str, *remedies: str) -> NoReturn:
        """Raise the `NotLocalError` of this call."""
        raise self.call.refused(why, *(remedies or (WHOLE,)))


Rule = Callable[[Step], Reach | Sequence[Reach]]
_RULES: dict[Any, Rule] = {}


def rule(*ops: Any) -> Callable[[Rule], Rule]:
    """Register how operators pass on what their inputs reach. Use as a decorator.

    Args:
        ops: Operators, for example ``torch.ops.mylib.blur.default``.

    Examples:
        >>> import fullconv as fc, torch
        >>> fc.rule(torch.ops.aten.erfinv.default)(fc.tracing.pointwise)  # doctest: +ELLIPSIS
        <function pointwise at ...>
    """

    def register(function: Rule) -> Rule:
        for op in ops:
            _RULES[op] = function
        return function

    return register


def is_pointwise(op: Any) -> bool:
    """Return whether each position of an operator's result reads the same position of each input."""
    known = _RULES.get(op)
    return known is pointwise or (known is None and torch.Tag.pointwise in op.tags)


def find(call: Call) -> Rule:
    """Return the rule of a call.

    Raises:
        UnknownOperatorError: If there is none.
    """
    known = pointwise if is_pointwise(call.op) else _RULES.get(call.op)
    if known is None:
        raise UnknownOperatorError(
            f"`{call.op}` must have a geometry rule, and has none; it is run by {call.where}. "
            "If each position reads the same position alone, paste "
            f"`fullconv.rule(torch.ops.{call.op})(fullconv.tracing.pointwise)`; otherwise register a "
            f"function of your own with `@fullconv.rule(torch.ops.{call.op})`"
        )
    return known


def pointwise(step: Step) -> Reach | Sequence[Reach]:
    """Give every position what the same position of each input reaches."""
    reaches = [step.reach_of[value] for value in step.call.inputs if value in step.reach_of]
    return [hull(reaches)] * max(1, len(step.call.outputs))


def along(dim: int, reach: Reach, change: Callable[[Tensor], Tensor]) -> Reach:
    """Return the reach with a change done along one axis; nothing to do where nothing varies."""
    return reach if reach.size(dim) == 1 else reach.map(change)
