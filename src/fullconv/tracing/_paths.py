"""Whether a network does the same on images of two sizes: the same operators, with the same settings."""

from __future__ import annotations

from sys import maxsize
from typing import Any

import torch
from torch import nn

from fullconv.errors import FullconvError, NotLocalError
from fullconv.tracing._nested import leaves
from fullconv.tracing._program import LOOPS, Call, Program
from fullconv.tracing._rules import WHOLE
from fullconv.tracing._sizes import px, short
from fullconv.tracing._subject import Subject
from fullconv.tracing._sweep import RANDOM, UNIFORM

aten = torch.ops.aten

NO_OPERATOR = "none"
OTHER_PATH = "the network takes another path"

# Arguments that say how large a result is; all others must not depend on the size of the image.
SIZES = frozenset({
    "size", "output_size", "end", "split_size", "split_sizes", "repeats",
})  # fmt: skip


def same_path(program: Program, longer: Program) -> Call | None:
    """Return the call with which two programs part, of the program that runs more; None if none."""
    one, other = sorted((program.calls, longer.calls), key=len, reverse=True)
    for n, call in enumerate(one):
        if n == len(other) or (call.op, call.module) != (other[n].op, other[n].module):
            return call
    return None


def same_settings(program: Program, longer: Program) -> tuple[Call, str] | None:
    """Return the first call with a setting that differs between two programs of one path, or None.

    A dilation, a padding or a factor that is computed from the size of the image is another one in a
    window.
    """
    for one, other in zip(program.calls, longer.calls, strict=True):
        made = not one.inputs and one.op not in UNIFORM | RANDOM  # from nothing, such as `arange`
        if made and [v.shape for v in one.outputs] != [v.shape for v in other.outputs]:
            continue  # coordinates: what they are added to is refused, if anything
        for name in one.args:
            if name in SIZES and not made:
                continue
            if name == "start" and _first(one) == _first(other):
                continue
            if _numbers(one.args[name]) != _numbers(other.args[name]):
                return one, name
    return None


def cut_short(program: Program, usual: Program) -> bool:
    """Return whether slices take less of a small image than of a usual one, of the same path.

    Along its other axes, what lies behind such slices would not be seen.
    """
    return any(
        _beyond(one) > _beyond(other)
        or any(0 in a.shape and 0 not in b.shape for a, b in zip(one.outputs, other.outputs, strict=True))
        for one, other in zip(program.calls, usual.calls, strict=True)
    )  # fmt: skip


def _beyond(call: Call) -> int:
    """Return how many bounds of a slice lie beyond the axis that it cuts."""
    if call.op not in (aten.slice.Tensor, aten.slice_scatter.default):
        return 0
    size = call.args["self"].shape[call.args["dim"]]
    bounds = (call.args["start"], call.args["end"])
    return sum(bound is not None and size < abs(bound) < maxsize for bound in bounds)


def _first(call: Call) -> int | None:
    """Return the first position that a slice takes, however it is counted; None for other calls."""
    if call.op is not aten.slice.Tensor:
        return None
    bounds = slice(call.args["start"], call.args["end"])
    return bounds.indices(call.args["self"].shape[call.args["dim"]])[0]


def _numbers(argument: Any) -> list[Any]:
    """Return the numbers in an argument."""
    return [leaf for leaf in leaves(argument) if isinstance(leaf, int | float | complex)]


def recorded(
    subject: Subject, start: tuple[int, ...], axis: int, more: int, base: Program
) -> Program:
    """Return the program on an image longer by `more` px along an axis; it must run the same calls."""
    shape = (*start[:axis], start[axis] + more, *start[axis + 1 :])
    try:
        program = subject.record(shape, most=4 * len(base.calls) + 1000)
    except FullconvError:
        raise
    except Exception as error:
        module, module_class = subject.raised_by(error)
        raise NotLocalError.at(
            module=module,
            module_class=module_class,
            operator=NO_OPERATOR,
            why=f"it takes an image of {px(start)}, and none of {px(shape)}: {short(error)}",
            remedies=(
                "build the network for images of any size, where it has an option for that",
                "use images of that size only",
            ),
        ) from error
    check_path(subject.net, base, program)
    return program


def check_loops(subject: Subject, start: tuple[int, ...]) -> None:
    """Refuse a network that runs more operators on an image that is twice as long along an axis.

    Raises:
        NotLocalError: If it does, by the layer that does.
    """
    most = len(subject.record(start).calls)
    for axis, size in enumerate(start):
        try:
            subject.record((*start[:axis], 2 * size, *start[axis + 1 :]), most=most)
        except Exception as error:  # a size that it does not take says nothing of loops
            if isinstance(error, NotLocalError) and error.why == LOOPS[0]:
                raise


def check_path(net: nn.Module, base: Program, program: Program) -> None:
    """Refuse a network by the module in which two of its programs part.

    That is not a layer of PyTorch, which does the same on any image, but the module that calls it.
    """
    different = same_path(base, program)
    if different:
        path = different.module
        while path and type(net.get_submodule(path)).__module__.startswith("torch.nn."):
            path = path.rpartition(".")[0]
        sizes = [px(p.image.shape[2:]) for p in (program, base)]
        raise NotLocalError.at(
            module=path,
            module_class=type(net.get_submodule(path)).__name__,
            operator=str(different.op),
            why=f"{OTHER_PATH} at {sizes[0]} than at {sizes[1]}",
            remedies=(WHOLE, "let `forward` do the same whatever the size of the image"),
        )


def check_settings(program: Program, longer: Program, where: str) -> None:
    """Refuse the first call with a setting that differs between two programs of one path."""
    different = same_settings(program, longer)
    if different:
        call, name = different
        raise call.refused(
            f"its `{name}` is computed from the size of the image {where}, so it is another one in "
            "a window",
            "let it be a constant",
            WHOLE,
        )
