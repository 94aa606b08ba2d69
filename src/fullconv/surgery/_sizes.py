"""Whether a network does on images of other sizes what it does on the one that it was written down for.

Padding as TensorFlow has it ("same"), or cropping to an even size, depends on the size of the image: each
unit of the map is moved with it, which no image shows that is longer by a multiple of the strides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import fx, nn

from fullconv.surgery._capture import Captured
from fullconv.surgery._local import PADS
from fullconv.surgery._operators import Operator, aten, operators

# After strides of so many px a map is one position longer, and of the other parity.
MORE_PX = (1, 2, 4, 8, 16, 32)
KNOWN = {"torch", "_operator", "builtins", "math", "fullconv"}
SETTINGS = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
REMEDY = "pad or crop by the same numbers for all sizes"

Settings = tuple[Any, ...]


def check_sizes(captured: Captured, net: nn.Module, graph: fx.Graph, shape: Sequence[int]) -> None:
    """Raise if a call pads, crops or strides otherwise on images that are a little longer.

    Args:
        captured: The network, to name the call.
        net: What the graph calls, without numbers.
        graph: The calls.
        shape: Of an image that the network takes: ``(channels, *spatial)``.

    Raises:
        SurgeryError: It names the call.
    """
    if not any(_may_ask_for_a_size(net, node) for node in graph.nodes):
        return
    weights = [p for p in net.parameters() if p.is_floating_point()]
    dtype = weights[0].dtype if weights else torch.float32
    channels, *spatial = shape
    found = [
        _settings(net, graph, torch.empty(1, channels, *larger, dtype=dtype, device="meta"))
        for larger in ([n + more for n in spatial] for more in (0, *MORE_PX))
    ]
    for node in graph.nodes:
        if len({one[node] for one in found if node in one}) > 1:
            why = "what it pads or crops depends on the size of the image, and would move the map"
            captured.refuse(node, why, REMEDY)


def _may_ask_for_a_size(net: nn.Module, node: fx.Node) -> bool:
    """Return whether a call is for a size, or of what PyTorch does not know: what it does is unknown."""
    match node.op:
        case "call_module":
            kind = type(net.get_submodule(str(node.target))).__module__
            return not kind.startswith(("torch.nn.", "fullconv.surgery."))
        case "call_method":
            return node.target in ("size", "shape")
        case "call_function":
            asks = node.target is getattr or getattr(node.target, "__name__", "") == "size"
            module = (
                getattr(node.target, "__module__", None) or "torch"
            )  # of some of PyTorch's: None
            return asks or module.partition(".")[0] not in KNOWN
        case _:
            return False


def _settings(net: nn.Module, graph: fx.Graph, image: torch.Tensor) -> dict[fx.Node, Settings]:
    """Return what each call does with windows and borders; as far as the network takes the image."""
    run = _Run(net, graph)
    try:
        run.run(image)
    except Exception:  # noqa: BLE001 - whatever the network makes of such an image
        return run.found
    return run.found


class _Run(fx.Interpreter):
    """One run that writes down what each call does with windows and borders."""

    def __init__(self, net: nn.Module, graph: fx.Graph) -> None:
        super().__init__(net, graph=graph)
        self.found: dict[fx.Node, Settings] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Return what a call returns."""
        result, ops = operators(lambda: super(_Run, self).run_node(n))
        self.found[n] = tuple(setting for o in ops for setting in _of_operator(o))
        return result


def _of_operator(op: Operator) -> Iterator[Settings]:
    """Yield what moves or spreads positions; what begins where its map does is as good as nothing."""
    if op.op in PADS:
        pads = tuple(op.args[PADS[op.op]])
        if any(pads):
            yield op.op, pads
    elif op.op is aten.slice.Tensor:
        size = op.args["self"].shape[op.args["dim"]]
        start, _, step = slice(op.args["start"], None, op.args["step"]).indices(size)
        if (start, step) != (0, 1):
            yield op.op, op.args["dim"], start, step
    elif op.op is aten.convolution.default or "kernel_size" in op.args:
        yield op.op, *(_frozen(op.args.get(name)) for name in SETTINGS)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value
