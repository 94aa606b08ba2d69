"""A network as the list of operators that it runs on an image of one shape.

The network runs on fake tensors: shapes are computed, numbers and weight memory are not. In-place
operators arrive as plain ones (functionalized), so every call turns values into new values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain
from typing import Any
from zlib import crc32

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor
from torch._subclasses.fake_tensor import DynamicOutputShapeException as DynamicShape
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from fullconv.errors import FullconvError, NotLocalError, named
from fullconv.tracing._nested import leaves, replaced

BRANCHES = (
    "what it computes depends on the values of the image (data-dependent)",
    "use whole images only",
    "take the branch on values out of `forward`",
)
LOOPS = (
    "it runs more operators the larger the image is (a loop over positions, a recurrent layer)",
    "use whole images only",
)
# They carry numbers made inside `forward` into the network.
CONSTANTS = frozenset({
    torch.ops.aten.lift_fresh.default, torch.ops.aten.lift_fresh_copy.default,
    torch.ops.aten.lift.default,
})  # fmt: skip
MOST_NUMBERS = 4096

# Operators with one of these ask for numbers, which meta tensors do not have.
DATA_DEPENDENT = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """One tensor of a program: its number, shape, bytes of new memory (0 for views), and of a number."""

    index: int
    shape: tuple[int, ...]
    new_bytes: int = 0
    dtype_bytes: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One operator as it was run.

    Attributes:
        op: The operator, for example ``torch.ops.aten.convolution.default``.
        args: Its arguments by name, defaults filled in, tensors as `Value`.
        outputs: The values that it returned, in order.
        module: Path of the innermost module that ran it; empty for the network itself.
        module_class: Class name of that module.
        writes_shared: Whether it writes in place into memory that other values share.
    """

    op: Any
    args: dict[str, Any]
    outputs: tuple[Value, ...]
    module: str
    module_class: str
    writes_shared: bool = False

    @property
    def where(self) -> str:
        """The place in the network in words."""
        return named(self.module, self.module_class)

    @property
    def inputs(self) -> list[Value]:
        """The tensors among the arguments."""
        return [leaf for leaf in leaves(self.args) if isinstance(leaf, Value)]

    def refused(self, why: str, *remedies: str) -> NotLocalError:
        """Return the error of this call, for raising."""
        return NotLocalError.at(
            module=self.module,
            module_class=self.module_class,
            operator=str(self.op),
            why=why,
            remedies=remedies,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The operators that a network runs on an image, and what it returns.

    Attributes:
        image: The image.
        calls: The operators, in order.
        output: The map.
        weights: The parameters and buffers that it reads, by name.
        casts: Whether autocast was on, for all of it or inside.
        written: Floating-point buffers that it writes into while it runs, by name.
    """

    image: Value
    calls: tuple[Call, ...]
    output: Value
    weights: dict[str, Value] = field(default_factory=dict[str, Value])
    casts: bool = False
    written: tuple[str, ...] = ()


@dataclass(slots=True)
class Modules:
    """The stack of modules being run: path and class name of each, the innermost last."""

    stack: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    @contextmanager
    def watching(self, net: nn.Module) -> Generator[None]:
        """Keep the stack up to date while the network runs."""
        handles: list[Any] = []
        for name, module in net.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue  # it takes no hooks, and calls none
            enter = partial(self._enter, (name, type(module).__name__))
            handles.append(module.register_forward_pre_hook(enter))
            handles.append(module.register_forward_hook(self._leave, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, entry: tuple[str, str], *_: Any) -> None:
        self.stack.append(entry)

    def _leave(self, *_: Any) -> None:
        if self.stack:
            self.stack.pop()


def _numbers(constant: Tensor) -> list[Any]:
    """Return the numbers of a tensor made inside `forward`, as far as they are known; many as one."""
    known = constant.constant if isinstance(constant, FakeTensor) else constant
    if known is None or known.is_meta:
        return []
    with no_dispatch():
        if known.numel() <= MOST_NUMBERS:
            return known.flatten().tolist()
        return [crc32(known.contiguous().numpy().tobytes())]


def _normalized(image: Tensor, *settings: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return what a batch norm returns: the image's like, and statistics saved in training."""
    training = settings[4]
    saved = image.new_empty(image.shape[1] if training else 0)
    return torch.empty_like(image), saved, saved.clone()


def _resized(image: Tensor, size: Sequence[int], *_: Any, **__: Any) -> Tensor:
    return image.new_empty((*image.shape[:2], *size))


def _alike(image: Tensor) -> Tensor:
    return torch.empty_like(image)


def _convolved(image: Tensor, *settings: Any) -> Tensor:
    """Return what a convolution returns; of nothing it returns nothing, as on real tensors."""
    if not image.numel():
        raise RuntimeError(f"a convolution gets an empty tensor, of shape {tuple(image.shape)}")
    return torch.ops.aten.convolution.default(image, *settings)


# On tensors without numbers these are slow, or right only for sizes that real ones take.
SHORTCUTS: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.native_batch_norm.default: _normalized,
    torch.ops.aten.relu.default: _alike,
    torch.ops.aten.convolution.default: _convolved,
    torch.ops.aten.upsample_linear1d.default: _resized,
    torch.ops.aten.upsample_bilinear2d.default: _resized,
    torch.ops.aten.upsample_trilinear3d.default: _resized,
    torch.ops.aten.upsample_bicubic2d.default: _resized,
}


class _Recorder(TorchDispatchMode):
    """Writes down every operator."""

    def __init__(self, modules: Modules, most: int) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._most = most
        self._modules = modules
        self._values: dict[int, Value] = {}
        self._alive: list[Tensor] = []  # keeps ids unique
        self._sharing: Counter[int] = Counter()  # values per storage

    def value(self, tensor: Tensor) -> Value:
        """Return the value of a tensor, a new one when it is seen for the first time."""
        known = self._values.get(id(tensor))
        if known is None:
            storage = tensor.untyped_storage()._cdata
            size = 0 if self._sharing[storage] else tensor.numel() * tensor.element_size()
            self._sharing[storage] += 1
            known = Value(len(self._values), tuple(tensor.shape), size, tensor.element_size())
            self._values[id(tensor)] = known
            self._alive.append(tensor)
        return known

    def known(self, named: Iterable[tuple[str, Tensor]]) -> dict[str, Value]:
        """Return the values of those tensors that were seen."""
        return {name: self._values[id(t)] for name, t in named if id(t) in self._values}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        run: Callable[..., Any] = SHORTCUTS.get(func) or func
        try:
            if DATA_DEPENDENT & set(func.tags) and _asks_for_numbers(func, args):
                raise DataDependentOutputException(func)
            result = run(*args, **kwargs)
        except (DataDependentOutputException, DynamicShape) as error:
            raise self._refusal(func, *BRANCHES) from error
        if len(self.calls) >= self._most:
            raise self._refusal(func, *LOOPS)
        if func.namespace != "prim":
            self._write(func, args, kwargs, result)
        return result

    def _write(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> None:
        names, defaults = _arguments(func)
        bound = defaults | dict(zip(names, args, strict=False)) | kwargs
        values = replaced(bound, Tensor, self.value)
        if func in CONSTANTS:
            values["numbers"] = _numbers(args[0])
        outputs = [leaf for leaf in leaves(result) if isinstance(leaf, Tensor)]
        shared = func._schema.is_mutable and self._writes_shared(func, bound)
        path, name = self._modules.stack[-1] if self._modules.stack else ("", "")
        self.calls.append(
            Call(
                op=func,
                args=values,
                outputs=tuple(self.value(t) for t in outputs),
                module=path,
                module_class=name,
                writes_shared=shared,
            )
        )

    def _refusal(self, func: Any, why: str, *remedies: str) -> NotLocalError:
        path, name = self._modules.stack[-1] if self._modules.stack else ("", "")
        return NotLocalError.at(
            module=path, module_class=name, operator=str(func), why=why, remedies=remedies
        )

    def _writes_shared(self, func: Any, bound: dict[str, Any]) -> bool:
        """Return whether an operator in place writes into memory that other values share.

        Most operators arrive as plain ones; in place are only those inside composite operators.
        """
        written = [
            bound[a.name] for a in func._schema.arguments if a.alias_info and a.alias_info.is_write
        ]
        return any(
            self._sharing[tensor.untyped_storage()._cdata] > 1
            for tensor in written
            if isinstance(tensor, Tensor)
        )


@cache
def _arguments(func: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the names of an operator's arguments, and the values of those that may be left out."""
    schema = func._schema.arguments
    defaults = {a.name: a.default_value for a in schema if a.has_default_value()}
    return tuple(a.name for a in schema), defaults


def _asks_for_numbers(func: Any, args: Sequence[Any]) -> bool:
    """Return whether an operator on tensors without numbers cannot do without them."""
    tensors = [leaf for leaf in leaves(args) if isinstance(leaf, Tensor)]
    if func is torch.ops.aten.index.Tensor:  # only masks make a result of unknown size
        return any(t.is_meta and t.dtype in (torch.bool, torch.uint8) for t in tensors[1:])
    return any(t.is_meta for t in tensors)


def write_down(run: Callable[[Tensor], Any], image: Tensor, net: nn.Module, most: int) -> Program:
    """Run a network and return the operators that it ran.

    Args:
        run: Runs `net` on an image.
        image: Without numbers, `(batch, channels, *spatial)`.
        net: The network whose modules are named.
        most: Operators after which to give up.

    Raises:
        NotLocalError: If the network branches on values, or runs more operators.
        FullconvError: If it returns something else than one tensor.
    """
    try:
        return _written_down(torch.func.functionalize(run), image, net, most)  # pyright: ignore[reportPrivateImportUsage]
    except RuntimeError as error:
        # Neither old-style functions can be functionalized, nor what writes the image into buffers.
        if not any(cause in str(error) for cause in ("autograd.Function", "functional tensor")):
            raise
        # Without that, operators in place stay so.
        return _written_down(run, image, net, most)


def _written_down(
    run: Callable[[Tensor], Any], image: Tensor, net: nn.Module, most: int
) -> Program:
    modules = Modules()
    recorder = _Recorder(modules, most)
    with modules.watching(net), recorder:
        output = run(image)
    return Program(
        image=recorder.value(image),
        calls=tuple(recorder.calls),
        output=recorder.value(the_map(output)),
        weights=recorder.known(chain(net.named_parameters(), net.named_buffers())),
    )


def the_map(output: Any) -> Tensor:
    """Return the tensor that a network returned, or refuse anything else."""
    if isinstance(output, Tensor):
        return output
    kind = type(output).__name__
    names = f" with keys {sorted(output)}" if isinstance(output, dict) else ""
    raise FullconvError(
        f"`net` must return one tensor (batch, classes, *map), got a {kind}{names}: "
        "wrap it in a module whose `forward` returns the one that counts"
    )
