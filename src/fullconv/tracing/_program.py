"""A network as the list of operators that it runs on an image of one shape.

The network runs on fake tensors: shapes are computed, numbers and weight memory are not. In-place
operators arrive as plain ones (functionalized), so every call turns values into new values.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch._subclasses.fake_tensor import DynamicOutputShapeException as DynamicShape
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

from fullconv.errors import FullconvError, NotLocalError

# Two images, so that a batch axis is never mistaken for an axis of size one.
BATCH = 2


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """One tensor of a program: its number, shape, and bytes of new memory (0 for views)."""

    index: int
    shape: tuple[int, ...]
    new_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One operator as it was run.

    Attributes:
        op: The operator, for example ``torch.ops.aten.convolution.default``.
        args: Its arguments by name, defaults filled in, tensors as `Value`.
        outputs: The values that it returned, in order.
        module: Path of the innermost module that ran it; empty for the network itself.
        module_class: Class name of that module.
    """

    op: Any
    args: dict[str, Any]
    outputs: tuple[Value, ...]
    module: str
    module_class: str

    @property
    def where(self) -> str:
        """The place in the network in words."""
        return (
            f"`{self.module}` ({self.module_class})"
            if self.module
            else f"the network itself ({self.module_class})"
        )

    @property
    def inputs(self) -> list[Value]:
        """The tensors among the arguments."""
        return [leaf for leaf in tree_flatten(self.args)[0] if isinstance(leaf, Value)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The operators that a network runs on an image, and what it returns."""

    image: Value
    calls: tuple[Call, ...]
    output: Value
    dtype_bytes: int


@dataclass(slots=True)
class _Modules:
    """The stack of modules being run."""

    stack: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    @contextmanager
    def watching(self, net: nn.Module) -> Generator[None]:
        """Keep the stack up to date while the network runs."""
        handles: list[Any] = []
        for name, module in net.named_modules():
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


class _Recorder(TorchDispatchMode):
    """Writes down every operator."""

    def __init__(self, modules: _Modules) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._modules = modules
        self._values: dict[int, Value] = {}
        self._alive: list[Tensor] = []  # keeps ids unique
        self._storages: set[int] = set()

    def value(self, tensor: Tensor) -> Value:
        """Return the value of a tensor, a new one when it is seen for the first time."""
        known = self._values.get(id(tensor))
        if known is None:
            storage = tensor.untyped_storage()._cdata
            fresh = storage not in self._storages
            self._storages.add(storage)
            size = tensor.numel() * tensor.element_size() if fresh else 0
            known = Value(len(self._values), tuple(tensor.shape), size)
            self._values[id(tensor)] = known
            self._alive.append(tensor)
        return known

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func.namespace != "prim":
            self._write(func, args, kwargs, result)
        return result

    def _write(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> None:
        bound = {a.name: a.default_value for a in func._schema.arguments if a.has_default_value()}
        bound |= dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
        values = tree_map_only(Tensor, self.value, bound)
        outputs = [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor)]
        path, name = self._modules.stack[-1] if self._modules.stack else ("", "")
        self.calls.append(
            Call(
                op=func,
                args=values,
                outputs=tuple(self.value(t) for t in outputs),
                module=path,
                module_class=name,
            )
        )


def record(net: nn.Module, channels: int, shape: tuple[int, ...]) -> Program:
    """Run the network on a fake image and return the operators that it ran.

    Args:
        net: Takes `(batch, channels, *spatial)`; returns one tensor `(batch, classes, *map)`.
        channels: Channels of the image.
        shape: Spatial shape of the image, in px.

    Raises:
        NotLocalError: If the network branches on values.
        FullconvError: If it returns something else than one tensor.
    """

    def run(image: Tensor) -> Tensor:
        return the_map(net(image))

    modules = _Modules()
    recorder = _Recorder(modules)
    # In inference mode operators would arrive undivided (linear, conv2d …).
    plain, fake = torch.inference_mode(False), FakeTensorMode(allow_non_fake_inputs=True)
    with plain, torch.no_grad(), _buffers_kept(net), modules.watching(net), fake:
        image = example(net, channels, shape)
        with recorder:
            try:
                output = torch.func.functionalize(run)(image)  # pyright: ignore[reportPrivateImportUsage]
            except (DataDependentOutputException, DynamicShape) as error:
                raise _branches(error, modules) from error
    return Program(
        image=recorder.value(image),
        calls=tuple(recorder.calls),
        output=recorder.value(output),
        dtype_bytes=image.element_size(),
    )


@contextmanager
def _buffers_kept(net: nn.Module) -> Generator[None]:
    """Put back what a run in training mode writes into buffers: integer counters are really counted."""
    before = [(buffer, buffer._version, buffer.clone()) for buffer in net.buffers()]
    try:
        yield
    finally:
        for buffer, version, content in before:
            if buffer._version != version:
                buffer.copy_(content)


def example(net: nn.Module, channels: int, shape: tuple[int, ...]) -> Tensor:
    """Return an empty batch on the device and of the type of the network's weights."""
    weights = [p for p in [*net.parameters(), *net.buffers()] if p.is_floating_point()]
    like = weights[0] if weights else torch.empty(0)
    return torch.empty(BATCH, channels, *shape, dtype=like.dtype, device=like.device)


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


def _branches(error: Exception, modules: _Modules) -> NotLocalError:
    path, name = modules.stack[-1] if modules.stack else ("", "")
    return NotLocalError.at(
        module=path,
        module_class=name,
        operator=str(getattr(error, "func", error)),
        why="what it computes depends on the values of the image (data-dependent)",
        remedies=("use whole images only", "take the branch on values out of `forward`"),
    )
