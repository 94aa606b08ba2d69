"""A network with stride → one with a unit at every position: strides removed, dilation carried on."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import nn

from fullconv.geometry import Geometry
from fullconv.surgery._capture import capture
from fullconv.surgery._copying import same_weights
from fullconv.surgery._dense import Dense
from fullconv.surgery._local import obstacle
from fullconv.surgery._operators import are_views
from fullconv.surgery._reading import (
    ARGUMENTS,
    Reading,
    is_parametrized_convolution,
    reading,
    whole_index,
)
from fullconv.surgery._rewriting import Call, Rewriting, Value, holds_tensors, keeps_axes, nodes
from fullconv.surgery._sizes import check_sizes
from fullconv.surgery._spacing import Plan, Spacing, Window, plan
from fullconv.surgery._steps import CONVOLVE, Convolution, Divisor, Maximum, Mean, Pad, Step
from fullconv.surgery._stitch import check_stride
from fullconv.tracing import trace

CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
KNOWN = "write it as convolutions, pooling, padding and calls on each position by itself"


def densify(net: nn.Module, stride: int = 1, channels: int = 3, ndim: int | None = None) -> Dense:
    """Return the network with a unit at every position of the image, or at every `stride`-th.

    A network with a stride of s answers for one of s positions (per axis). The dense one answers for all
    of them in one pass: layers keep all phases of their strides, and later layers read positions that
    much further apart (filter rarefaction, Long, Shelhamer & Darrell 2015, section 3.2; the à trous
    algorithm). Every s-th unit is what the network gives, unit for unit. Those between are, without
    padding, what it gives for the image cropped so many px later (shift-and-stitch). With padding they
    see the image where a cropped image would be padded: padding begins where the image ends, in every
    layer, as it does for the units of the network itself.

    Args:
        net: From an image to a map; local, not upsampling. It is left as it was, and shares its weights.
        stride: Px between the units of the dense map; divides the network's stride along every axis.
        channels: Channels of the image.
        ndim: Spatial axes; by default those of the network's first convolution or pooling.

    Returns:
        A network from images ``(batch, channels, *spatial)`` to maps. It runs by dilation or on fragments
        of the map, whichever is faster (see `Dense`).

    Raises:
        NotLocalError: If a layer looks at the whole image.
        SurgeryError: If a layer has no dense counterpart, as what pads or crops by what depends on the
            image's size; it names the layer.
        FullconvError: If `stride` does not divide the network's.

    Examples:
        >>> import torch
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.Conv2d(8, 4, 3)).eval()
        >>> dense = densify(net)
        >>> image = torch.randn(1, 3, 20, 30)
        >>> net(image).shape, dense(image).shape
        (torch.Size([1, 4, 7, 12]), torch.Size([1, 4, 13, 23]))
        >>> torch.allclose(dense(image)[..., 5, 8], net(image[..., 5:13, 8:16])[..., 0, 0], atol=1e-6)
        True
    """
    geometry = trace(same_weights(net).eval(), channels, ndim)
    check_stride(geometry, stride)
    captured = capture(net)
    check_sizes(captured, captured.meta, captured.graph, (channels, *_shape(geometry)))
    work = _Work(rewriting=Rewriting(captured=captured), target=stride)
    for node in captured.graph.nodes:
        match node.op:
            case "placeholder":
                image = work.rewriting.image(node, channels, _shape(geometry))
                work.rewriting.values[node] = work.placed(image, (Spacing(),) * len(geometry.axes))
            case "output":
                work.rewriting.graph.output(nodes(work.rewriting.known(node.args[0])))
            case _:
                work.rewriting.values[node] = work.value(work.rewriting.call(node))
    return Dense(work.rewriting.network(f"Dense{type(net).__name__}"), work.steps, work.axis_of)


def _shape(geometry: Geometry) -> tuple[int, ...]:
    """Return an image that is large enough for every layer."""
    shape = tuple(axis.field + 2 * axis.period for axis in geometry.axes)
    return geometry.nearest_shapes(shape)[-1]


@dataclass(slots=True, kw_only=True)
class _Work:
    """A dense network in the making.

    Attributes:
        rewriting: The new graph so far.
        target: Px between the units that are wanted.
        spacings: Of each tensor that depends on the image: the spacing along each spatial axis.
        steps: What reads neighbouring positions, by the name of the call in the new graph.
    """

    rewriting: Rewriting
    target: int
    spacings: dict[Value, tuple[Spacing, ...]] = field(
        default_factory=dict[Value, tuple[Spacing, ...]]
    )
    steps: dict[str, Step] = field(default_factory=dict[str, Step])

    @property
    def axis_of(self) -> dict[str, dict[int, int]]:
        """The spatial axis along which each axis of each tensor runs, by the name of its call."""
        return {value.node.name: value.axis_of for value in self.spacings if value.is_tensor}

    def placed(self, value: Value, spacing: tuple[Spacing, ...]) -> Value:
        """Return a value, and keep its spacing in mind."""
        self.spacings[value] = spacing
        return value

    def value(self, call: Call) -> Value:
        """Return what a call becomes."""
        items = call.args[0] if call.args else None
        if not call.inputs:
            value = self.rewriting.as_it_is(call)
            if isinstance(items, Value) and items in self.spacings and not items.is_tensor:
                return self.placed(value, self.spacings[items])
            return value
        if not holds_tensors(call.old):
            return self.rewriting.as_it_is(call)
        found = reading(self.rewriting, call)
        spacing = self._spacing(call)
        if found is None or not any(d in call.inputs[0].axis_of for d in found.windows):
            return self.placed(self._by_position(call), spacing)
        if all(w.is_idle for d, w in found.windows.items() if d in call.inputs[0].axis_of):
            return self.placed(self._by_position(call), spacing)
        return self._read(call, found)

    def _spacing(self, call: Call) -> tuple[Spacing, ...]:
        """Return the spacing that all inputs of a call have."""
        first, *others = call.inputs
        spacing = self.spacings[first]
        for other in others:
            shared = set(first.axis_of.values()) & set(other.axis_of.values())
            assert all(spacing[axis] == self.spacings[other][axis] for axis in shared)
        return spacing

    def _by_position(self, call: Call) -> Value:
        """Make a call that works on each position by itself, as it is."""
        try:
            value = self.rewriting.as_it_is(call)
        except Exception as error:  # noqa: BLE001 - whatever the call makes of a dense map
            why = f"it does not take a dense map ({type(error).__name__}: {error})"
            call.refuse(self.rewriting, why, KNOWN)
        why = obstacle(value.runs, windows=False)
        if not why and value.is_tensor and not _keeps(call, value):
            why = "it changes the axes along which positions lie"
        if why:
            call.refuse(self.rewriting, why, KNOWN)
        return value

    def _read(self, call: Call, found: Reading) -> Value:
        """Make a call that reads neighbouring positions, with a dense map."""
        x = call.inputs[0]
        match found.kind:
            case "convolution":
                return self._convolution(call, x, found)
            case "maximum":
                return self._module(call, x, found, Maximum)
            case "mean":
                return self._module(call, x, found, partial(Mean, divisor=_divisor(found)))
            case "pad":
                return self._module(call, x, found, partial(Pad, mode=found.fill))
            case _:
                index = tuple(
                    slice(None) if d in found.windows else part
                    for d, part in enumerate(whole_index(call, x))
                )
                if any(part != slice(None) for part in index):
                    x = self.placed(
                        self.rewriting.emit(call, operator.getitem, (x, index)), self.spacings[x]
                    )
                return self._module(call, x, found, partial(Pad, mode=0.0))

    def _module(
        self,
        call: Call,
        x: Value,
        found: Reading,
        build: Callable[[Step], nn.Module],
        beside: str = "",
    ) -> Value:
        step, spacing = self._step(x, found)
        value = self.rewriting.module(call, build(step), x, beside=beside)
        self.steps[value.node.name] = step
        return self.placed(value, spacing)

    def _step(self, x: Value, found: Reading) -> tuple[Step, tuple[Spacing, ...]]:
        """Return what a call does on a dense map, and the spacing of what it makes."""
        axis_of, spacings = x.axis_of, list(self.spacings[x])
        plans: dict[int, Plan] = {}
        for d, window in sorted(found.windows.items()):
            if d in axis_of:
                plans[d] = plan(window, spacings[axis_of[d]], self.target)
                spacings[axis_of[d]] = plans[d].result
            else:  # along this axis nothing becomes dense
                plans[d] = Plan(
                    window=window,
                    spacing=Spacing(),
                    result=Spacing(coarse=window.stride, fine=window.stride),
                )
        return Step(plans=plans, axis_of=axis_of), tuple(spacings)

    def _convolution(self, call: Call, x: Value, found: Reading) -> Value:
        windows = found.windows
        if isinstance(found.fill, str) or any(w.before != w.after for w in windows.values()):
            pads = {d: Window(before=w.before, after=w.after) for d, w in windows.items()}
            pad = Reading(kind="pad", windows=pads, fill=found.fill)
            x = self._module(call, x, pad, partial(Pad, mode=found.fill), beside="pad")
            found = replace(
                found, windows={d: replace(w, before=0, after=0) for d, w in windows.items()}
            )
        step, spacing = self._step(x, found)
        value = self._convolved(call, x, step)
        self.steps[value.node.name] = step
        return self.placed(value, spacing)

    def _convolved(self, call: Call, x: Value, step: Step) -> Value:
        node, taps = call.node, step.taps(dilated=True).values()
        settings = {
            "stride": tuple(t.stride for t in taps),
            "padding": tuple(t.before for t in taps),
            "dilation": tuple(t.dilation for t in taps),
        }
        if node.op != "call_module":
            named = dict(zip(ARGUMENTS, call.args, strict=False)) | call.kwargs
            bias, groups = named.get("bias"), named.get("groups", 1)
            args = (x, named["weight"], bias, *settings.values(), groups)
            return self.rewriting.emit(call, CONVOLVE[len(settings["stride"])], args)
        module: Any = self.rewriting.captured.root.get_submodule(str(node.target))
        kind = CONVOLUTIONS[len(settings["stride"])]
        if is_parametrized_convolution(self.rewriting, call):
            return self.rewriting.module(call, Convolution(step, module), x)
        if type(module).forward is not kind.forward:
            call.refuse(self.rewriting, "its weight is not that of a plain convolution", KNOWN)
        layer = kind(
            module.in_channels, module.out_channels, module.kernel_size, groups=module.groups,
            bias=module.bias is not None, device="meta", **settings,
        )  # fmt: skip
        layer.weight, layer.bias = module.weight, module.bias
        return self.rewriting.module(call, layer, x)


def _keeps(call: Call, value: Value) -> bool:
    """Return whether a call leaves the axes of its map as they are: all of them, and as long."""
    sizes: dict[int, set[tuple[int, ...]]] = {}
    for x in (*call.inputs, value):
        for d, axis in x.axis_of.items():
            sizes.setdefault(axis, set()).add(tuple(new.shape[d] for new in x.new))
    axes = {axis for x in call.inputs for axis in x.axis_of.values()}
    kept = sorted(value.axis_of.values()) == sorted(axes)
    views = are_views(call.ops, same_numel=False)
    return (
        kept
        and all(len(found) == 1 for found in sizes.values())
        and (not views or keeps_axes(call.inputs[0], value))
    )


def _divisor(found: Reading) -> Divisor | int:
    """Return what a mean divides by."""
    args = found.op.args if found.op else {}
    if args.get("divisor_override"):
        return int(args["divisor_override"])
    windows = found.windows.values()
    if not args.get("count_include_pad", True) and any(
        w.before or w.after or w.ceil for w in windows
    ):
        return "map"
    return "padded" if any(w.ceil for w in windows) else "window"
