"""A network as a graph of calls: its modules, functions and methods, in the order in which they run.

The graph is that of evaluation. Modules of PyTorch are its leaves, and so is whatever cannot be
followed inside: such a module is called as it is. Dropout stays dropout: a function that drops nothing
in evaluation becomes the module that drops in training.
"""

from __future__ import annotations

from dataclasses import dataclass
from traceback import walk_tb
from typing import Any, NoReturn

import torch.nn.functional as F
from torch import fx, nn

from fullconv.errors import SurgeryError
from fullconv.surgery._copying import same_weights
from fullconv.tracing import check_weights, hollow

# Traced networks have some hundred modules; each that cannot be followed costs one more attempt.
MOST_ATTEMPTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """A network and the graph of its calls.

    Attributes:
        root: A copy of the network with the same weights, in which modules may be replaced.
        graph: Its calls in evaluation.
        meta: A copy without numbers, in evaluation.
    """

    root: nn.Module
    graph: fx.Graph
    meta: nn.Module

    def num_uses(self, module: nn.Module) -> int:
        """Return how many calls take a parameter of a module, which may be tied to another's."""
        own = set(module.parameters())
        return sum(bool(own & self._parameters(node)) for node in self.graph.nodes)

    def _parameters(self, node: fx.Node) -> set[nn.Parameter]:
        """Return the parameters that a call takes by itself, not as what another one returned."""
        path = str(node.target)
        if node.op == "call_module":
            return set(self.root.get_submodule(path).parameters())
        parameter = attribute(self.root, path) if node.op == "get_attr" else None
        return {parameter} if isinstance(parameter, nn.Parameter) else set()

    def refuse(self, node: fx.Node, why: str, remedy: str) -> NoReturn:
        """Raise the `SurgeryError` of a call."""
        module, where = _place(self.root, node)
        raise SurgeryError.at(module=module, where=where, why=why, remedy=remedy)


DROPOUTS: dict[Any, type[nn.Module]] = {
    F.dropout: nn.Dropout, F.alpha_dropout: nn.AlphaDropout, F.dropout1d: nn.Dropout1d,
    F.dropout2d: nn.Dropout2d, F.dropout3d: nn.Dropout3d,
    F.feature_alpha_dropout: nn.FeatureAlphaDropout,
}  # fmt: skip


def attribute(root: nn.Module, path: str) -> Any:
    """Return a tensor, or whatever else a network holds, by its path."""
    parent, _, name = path.rpartition(".")
    return getattr(root.get_submodule(parent), name)


class _OfAnImage(nn.Module):
    """A network called with an image alone: its other arguments keep their defaults."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Any) -> Any:
        return self.net(image)


PREFIX = "net"


class _Tracer(fx.Tracer):
    """Follows the modules of the network that are not PyTorch's, but for those known to be opaque."""

    def __init__(self, opaque: set[str]) -> None:
        super().__init__()
        self._opaque = opaque

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether a module is called as it is."""
        # What drops paths or blocks in training does nothing in evaluation: inside there is nothing.
        name = type(m).__name__
        drops = ("Drop" in name or name == "StochasticDepth") and not list(m.children())
        return (
            drops
            or type(m).__module__.startswith(__package__ or "")
            or module_qualified_name.removeprefix(f"{PREFIX}.") in self._opaque
            or super().is_leaf_module(m, module_qualified_name)
        )


def capture(net: nn.Module) -> Captured:
    """Return the calls of a network as a graph.

    Raises:
        SurgeryError: If the network's own `forward` cannot be followed.
        FullconvError: If the network cannot be copied, or has lazy modules without weights.
    """
    check_weights(net)
    root = same_weights(net)
    if type(root).__module__.startswith("torch.nn.modules") and not list(root.children()):
        root = nn.Sequential(root)  # a single layer is a leaf, and no network
    modes = {name: module.training for name, module in root.named_modules()}
    root.eval()
    graph = _graph(root)
    _restore_dropout(root, graph)
    meta = hollow(root)
    for name, module in root.named_modules():
        module.training = modes.get(name, modes[""])
    return Captured(root=root, graph=graph, meta=meta)


def _restore_dropout(root: nn.Module, graph: fx.Graph) -> None:
    """Replace functions of dropout, which are off in evaluation, by modules."""
    for node in list(graph.nodes):
        if node.op != "call_function" or node.target not in DROPOUTS:
            continue
        named = dict(zip(("input", "p", "training"), node.args, strict=False)) | node.kwargs
        if named.get("training", True):
            continue  # it drops in evaluation, too
        name = f"{node.name}_module"
        root.add_module(name, DROPOUTS[node.target](named.get("p", 0.5)).eval())
        with graph.inserting_before(node):
            module = graph.call_module(name, (named["input"],))
        module.meta = dict(node.meta)
        node.replace_all_uses_with(module)
        graph.erase_node(node)


def _graph(root: nn.Module) -> fx.Graph:
    opaque: set[str] = set()
    for _ in range(MOST_ATTEMPTS):
        try:
            return _followed(root, opaque)
        except Exception as error:
            module = _raised_by(root, error)
            if not module or module in opaque:
                raise _not_followed(root, module, error) from error
            opaque.add(module)
    raise _not_followed(root, "", RuntimeError(f"{MOST_ATTEMPTS} modules cannot be followed"))


def _followed(root: nn.Module, opaque: set[str]) -> fx.Graph:
    """Return the graph of a network, in which the modules `opaque` are leaves."""
    wrapped = _OfAnImage(root)
    graph = _Tracer(opaque).trace(wrapped)
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            node.target = node.target.removeprefix(f"{PREFIX}.")
        if node.op == "get_attr" and hasattr(wrapped, node.target):  # made inside `forward`
            root.register_buffer(node.target, getattr(wrapped, node.target), persistent=False)
    return graph


def _raised_by(root: nn.Module, error: BaseException) -> str:
    """Return the path of the innermost module whose `forward` was running."""
    names = {id(module): name for name, module in root.named_modules()}
    path = ""
    for frame, _ in walk_tb(error.__traceback__):
        path = names.get(id(frame.f_locals.get("self")), path)
    return path


def _not_followed(root: nn.Module, module: str, error: Exception) -> SurgeryError:
    kind = type(root.get_submodule(module)).__name__
    made_there = "not installed as a submodule" in str(error)
    return SurgeryError.at(
        module=module,
        where=f"`{module}` ({kind})" if module else f"`net` itself ({kind})",
        why="its `forward` makes modules"
        if made_there
        else f"its `forward` cannot be followed ({type(error).__name__}: {error})",
        remedy="make them in `__init__`, or call functions such as torch.flatten"
        if made_there
        else "put what depends on values or shapes into a module of its own, which is called as it is",
    )


def _place(root: nn.Module, node: fx.Node) -> tuple[str, str]:
    """Return the path of the module that makes a call, and the place in words."""
    stack: dict[str, Any] = node.meta.get("nn_module_stack") or {}
    if node.op == "call_module":
        module = str(node.target)
        return module, f"`{module}` ({type(root.get_submodule(module)).__name__})"
    module = str(list(stack.values())[-1][0]) if stack else PREFIX
    module = "" if module == PREFIX else module.removeprefix(f"{PREFIX}.")
    kind = type(root.get_submodule(module)).__name__
    name = str(node.target) if isinstance(node.target, str) else _name(node.target)
    return module, f"`{name}` in `{module}` ({kind})" if module else f"`{name}` in `net` ({kind})"


def _name(function: Any) -> str:
    return getattr(function, "__name__", str(function))
