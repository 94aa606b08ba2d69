"""A new graph that grows call by call beside the old one, with the shapes that its values will have.

Nothing is computed: every call is run on tensors without numbers as soon as it is written down. The
old network runs on the patch, the new one on the patch and on images that are longer along each
spatial axis in turn. So it is known of every value of the new network which axes run along the image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor, fx, nn
from torch.fx.node import Argument, map_aggregate
from torch.utils._pytree import tree_leaves

from fullconv.errors import FullconvError
from fullconv.surgery._capture import Captured, attribute
from fullconv.surgery._operators import Operator, operators
from fullconv.surgery._saving import Rewritten
from fullconv.tracing import hollow

# By so many px: a multiple of most strides.
LONGER = 2**6 * 3**2 * 5 * 7 * 11
BATCH = 2

# What a tensor is to the new network:
#   map     what the old network has, for images of any size
#   folded  a map, of which the old network has another view
#   flat    a map, which the old network has flattened to one vector per patch
#   unit    (batch, features, *grid): the vector of each patch
#   rows    (batch * grid, ...): what the old network has, patch by patch
Kind = Literal["map", "folded", "flat", "unit", "rows"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Value:
    """One value of both networks.

    Attributes:
        node: What makes it in the new graph.
        old: What the old network has, without numbers, at the patch.
        new: What the new one has: at the patch, and on images longer along axis 0, 1, ...
        kind: What it is (see above).
        grid: Of rows: the units that they are, one row each.
        runs: The operators that made each of `new`.
    """

    node: fx.Node
    old: Any
    new: tuple[Any, ...]
    kind: Kind = "map"
    grid: Value | None = None
    runs: tuple[tuple[Operator, ...], ...] = ()

    @property
    def is_tensor(self) -> bool:
        """Whether it is a tensor, and no number, shape or tuple."""
        return isinstance(self.new[0], Tensor)

    @property
    def axis_of(self) -> dict[int, int]:
        """The spatial axis of the image along which each axis runs that grows with it."""
        sizes = [x.shape for x in self.new]
        return {
            d: axis
            for axis, longer in enumerate(sizes[1:])
            for d, (a, b) in enumerate(zip(sizes[0], longer, strict=False))
            if a != b
        }

    @property
    def growing_dims(self) -> dict[int, list[int]]:
        """The axes that grow with each spatial axis of the image; one each, in a map."""
        sizes = [x.shape for x in self.new]
        found = {
            axis: [d for d, (a, b) in enumerate(zip(sizes[0], longer, strict=False)) if a != b]
            for axis, longer in enumerate(sizes[1:])
        }
        return {axis: dims for axis, dims in found.items() if dims}

    @property
    def num_rows(self) -> tuple[int, ...]:
        """Of each image, the rows that it has: the size of the first axis, or of the first of several."""
        firsts = [x[0] if isinstance(x, tuple | list) and x else x for x in self.new]
        return tuple(x.shape[0] for x in firsts if isinstance(x, Tensor) and x.ndim)

    @property
    def ndim(self) -> int:
        """Axes of the tensor in the new network."""
        return self.new[0].ndim


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of the old network.

    Attributes:
        node: The call itself.
        args: Its arguments, in which `Value`s stand for what was computed before.
        kwargs: Those by name.
        old: What it returns on the patch.
        ops: The operators that it runs.
    """

    node: fx.Node
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    old: Any
    ops: tuple[Operator, ...]

    @property
    def inputs(self) -> list[Value]:
        """The tensors among the arguments that depend on the image."""
        found: list[Value] = []
        _with((self.args, self.kwargs), found.append)
        return [value for value in found if value.is_tensor and value.axis_of]

    def replaced(self, changed: dict[Value, Value]) -> Call:
        """Return the same call on other values."""
        args, kwargs = _with((self.args, self.kwargs), lambda value: changed.get(value, value))
        return replace(self, args=args, kwargs=kwargs)

    def refuse(self, rewriting: Rewriting, why: str, remedy: str) -> NoReturn:
        """Raise the `SurgeryError` of the call."""
        rewriting.captured.refuse(self.node, why, remedy)


@dataclass(slots=True, kw_only=True)
class Rewriting:
    """The new graph so far.

    Attributes:
        captured: The old network; new modules are put into its `root`.
        graph: The new graph.
        values: What each call of the old graph became.
    """

    captured: Captured
    graph: fx.Graph = field(default_factory=fx.Graph)
    values: dict[fx.Node, Value] = field(default_factory=dict[fx.Node, Value])
    _added: dict[str, nn.Module] = field(default_factory=dict[str, nn.Module])

    def image(self, node: fx.Node, channels: int, shape: tuple[int, ...]) -> Value:
        """Return the image as a value: the input of both networks."""
        shapes = [shape]
        shapes += [(*shape[:k], n + LONGER, *shape[k + 1 :]) for k, n in enumerate(shape)]
        weights = [p for p in self.captured.meta.parameters() if p.is_floating_point()]
        dtype = weights[0].dtype if weights else torch.float32
        images = [torch.empty(BATCH, channels, *s, dtype=dtype, device="meta") for s in shapes]
        new = self.graph.placeholder(str(node.target))
        return Value(node=new, old=images[0], new=tuple(images))

    def call(self, node: fx.Node) -> Call:
        """Return a call of the old graph with its arguments, run on the patch."""
        args, kwargs = self.known((node.args, dict(node.kwargs)))
        try:
            old, ops = self._run(node.op, node.target, *_with((args, kwargs), _old))
        except Exception as error:  # whatever the network makes of such an image
            shape = tuple(next(iter(self.values.values())).old.shape[1:])
            raise FullconvError(
                f"`patch` must be one that the network takes, got (channels, *patch) = {shape}: {error}"
            ) from error
        return Call(node=node, args=args, kwargs=kwargs, old=old, ops=ops)  # pyright: ignore[reportArgumentType] (fx's own types)

    def known(self, arguments: Any) -> Any:
        """Return arguments of the old graph with the values that its calls became."""

        def look(leaf: Argument) -> Any:
            return self.values[leaf] if isinstance(leaf, fx.Node) else leaf

        return map_aggregate(arguments, look)

    def emit(
        self,
        call: Call,
        target: Any,
        args: Sequence[Any],
        kwargs: dict[str, Any] | None = None,
        *,
        op: str = "call_function",
        kind: Kind = "map",
        grid: Value | None = None,
        old: Any = None,
    ) -> Value:
        """Write a call into the new graph and return its value.

        Args:
            call: The old call that it stands for.
            target: A function, the name of a method, or the path of a module.
            args: Arguments, with `Value`s.
            kwargs: Those by name.
            op: ``call_function``, ``call_method`` or ``call_module``.
            kind: What the value is.
            grid: Of rows: their units.
            old: What the old network has; by default what the old call returns.
        """
        kwargs = kwargs or {}
        given = [_with((tuple(args), kwargs), partial(_new, n)) for n in range(self._num_images())]
        done = [self._run(op, target, *arguments) for arguments in given]
        node = self.graph.create_node(op, target, *_with((tuple(args), kwargs), _node))
        node.meta = {
            k: v for k, v in call.node.meta.items() if k in ("nn_module_stack", "stack_trace")
        }
        return Value(
            node=node,
            old=call.old if old is None else old,
            new=tuple(result for result, _ in done),
            kind=kind,
            grid=grid,
            runs=tuple(ops for _, ops in done),
        )

    def module(
        self,
        call: Call,
        module: nn.Module,
        *args: Value,
        kind: Kind = "map",
        grid: Value | None = None,
        old: Any = None,
        beside: str = "",
    ) -> Value:
        """Put a module into the new network, by the name of the one that it replaces, and call it.

        A module that replaces none is named by what it does `beside` the call.
        """
        path = self._path(call.node, beside and f"_{beside}")
        parent, _, name = path.rpartition(".")
        # Its own mode: norms may be frozen in a network that trains. What it holds has the old one's.
        module.training = self._is_training(call.node)
        self._added[path] = hollow(module).eval()
        setattr(self.captured.root.get_submodule(parent), name, module)
        return self.emit(call, path, args, op="call_module", kind=kind, grid=grid, old=old)

    def as_it_is(self, call: Call, *, kind: Kind = "map", grid: Value | None = None) -> Value:
        """Make the old call in the new network as well."""
        node = call.node
        return self.emit(
            call, node.target, call.args, call.kwargs, op=node.op, kind=kind, grid=grid
        )

    def network(self, name: str) -> Rewritten:
        """Return the new network, without the calls and modules that nothing uses."""
        net = Rewritten(self.captured.root, self.graph, name)
        net.graph.eliminate_dead_code(_writes_in_place)
        net.delete_all_unused_submodules()
        net.recompile()
        net.training = self.captured.root.training
        return net

    def _is_training(self, node: fx.Node) -> bool:
        """Return the mode of the module that a call is of, or for a function that of the network."""
        root = self.captured.root
        return (root.get_submodule(str(node.target)) if node.op == "call_module" else root).training

    def _path(self, node: fx.Node, suffix: str) -> str:
        """Return a path for a new module: without a suffix the old one's, where that is used only once."""
        if node.op == "call_module" and not suffix:
            path = str(node.target)
            uses = [n for n in node.graph.nodes if f"{n.target}.".startswith(f"{path}.")]
            if len(uses) == 1 and path not in self._added:
                return path
        path = node.name + suffix
        while path in self._added or hasattr(self.captured.root, path):
            path += "_"
        return path

    def _num_images(self) -> int:
        first = next(value for value in self.values.values())
        return len(first.new)

    def _run(
        self, op: str, target: Any, args: Any, kwargs: Any
    ) -> tuple[Any, tuple[Operator, ...]]:
        if op == "call_module" and target in self._added:
            return operators(lambda: self._added[target](*args, **kwargs))
        return operators(lambda: _run(self.captured.meta, op, target, args, kwargs))


def _run(meta: nn.Module, op: str, target: Any, args: Any, kwargs: Any) -> Any:
    """Run one call on tensors without numbers."""
    match op:
        case "call_module":
            return meta.get_submodule(target)(*args, **kwargs)
        case "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
        case "get_attr":
            return attribute(meta, str(target))
        case _:
            return target(*args, **kwargs)


def nodes(arguments: Any) -> Any:
    """Return arguments with the nodes of the new graph for the values in them."""
    return _with(arguments, _node)


def _node(value: Value) -> fx.Node:
    return value.node


def _old(value: Value) -> Any:
    return value.old


def _new(n: int, value: Value) -> Any:
    return value.new[n]


def _with(values: Any, look: Callable[[Value], Any]) -> Any:
    """Return arguments with each `Value` in them replaced."""

    def swap(leaf: Any) -> Any:
        return look(leaf) if isinstance(leaf, Value) else leaf

    return map_aggregate(values, swap)


def _writes_in_place(node: fx.Node) -> bool:
    """Return whether a call counts even if nothing uses what it returns."""
    return node.op in ("placeholder", "output") or str(node.target).rstrip("_") != str(node.target)


def holds_tensors(value: Any) -> bool:
    """Return whether a value is a tensor, or holds some, as a tuple or dict does."""
    return any(isinstance(leaf, Tensor) for leaf in tree_leaves(value))


def keeps_axes(x: Value, y: Value) -> bool:
    """Return whether a view leaves each growing axis as it is: as long, and as many before it."""
    return all(
        {(axis, s.shape[d], s.shape[:d].numel()) for d, axis in x.axis_of.items()}
        == {(axis, t.shape[d], t.shape[:d].numel()) for d, axis in y.axis_of.items()}
        for s, t in zip(x.new, y.new, strict=True)
    )
