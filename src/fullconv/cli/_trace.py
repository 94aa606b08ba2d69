"""`fullconv trace`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from fullconv.cli._settings import read_table
from fullconv.cli._show import output
from fullconv.errors import BadConfigError

if TYPE_CHECKING:
    from torch import nn

    from fullconv.geometry import Geometry

AXES = {1: "x", 2: "yx", 3: "zyx"}


def trace(
    net: str,
    /,
    *,
    channels: int = 3,
    classes: int = 2,
    options: dict[str, str] | None = None,
    shape: Annotated[tuple[int, ...] | None, Parameter(consume_multiple=True)] = None,
    picture: Path | None = None,
    effective: bool = False,
) -> None:
    """Show the geometry of a network: what a unit of its map sees, and which windows are exact.

    Args:
        net: Name of a network, or `package.module:factory`.
        channels: Channels of the images.
        classes: Channels of the map.
        options: Options of the network, each a flag of its own, such as `--options.width 32`.
        shape: Size of an image in px, such as `980 980`: its map's size is shown, and it is drawn.
        picture: Draw field and window on an image of that size into this SVG file.
        effective: Measure what a unit attends to within its field, and draw it into the picture: the
            magnitude of its gradient. It takes a run with numbers.
    """
    from fullconv.images import check_file
    from fullconv.networks import build
    from fullconv.reporting import picture_of
    from fullconv.runs import write_text
    from fullconv.tracing import layers
    from fullconv.verifying import effective_field, half_width

    if picture and picture.suffix.lower() != ".svg":
        raise BadConfigError(f"`--picture` draws an SVG file, got {picture}: let it end in .svg")
    if picture:
        check_file(picture)
    network = build(net, classes=classes, channels=channels, **read_table(options)).eval()
    found = _geometry(network, channels, shape)
    steps = Table("layer", "class", "operator", "field (px)", "stride (px)")
    for layer in layers(network, channels):
        sights = (" x ".join(map(str, values)) for values in (layer.field, layer.stride))
        steps.add_row(layer.module, layer.kind, layer.operator, *sights)
    table = Table("axis", "field (px)", "stride (px)", "period (px)", "halo (px)", title=net)
    rows = zip(
        AXES[len(found.axes)], found.field, found.stride, found.period, found.halo, strict=True
    )
    for axis, field, stride, period, (before, after) in rows:
        table.add_row(axis, str(field), str(stride), str(period), f"{before} + {after}")
    output().print(steps, table)
    size = tuple(shape or found.nearest_shapes((980,) * len(found.axes))[-1])
    sizes = (" x ".join(map(str, values)) for values in (size, found.map_shape(size)))
    output().print("an image of {} px has a map of {} units".format(*sizes))
    heat = effective_field(network, channels) if effective else None
    if heat is not None:
        sides = " x ".join(map(str, half_width(heat)))
        output().print(f"effective field: half of the gradient comes from {sides} px")
    if picture:
        write_text(picture, picture_of(found, size, heat))
        output().print(f"picture: {picture}")


def _geometry(network: "nn.Module", channels: int, shape: tuple[int, ...] | None) -> "Geometry":
    """Return the geometry of a network for images like one of that shape."""
    from fullconv.tracing import trace as trace_net

    found = trace_net(network, channels=channels)
    if shape is None:
        return found
    if len(shape) != len(found.axes):
        example = " ".join(["980"] * len(found.axes))
        raise BadConfigError(
            f"`--shape` must have a size in px for each of {len(found.axes)} axes, such as "
            f"`--shape {example}`, got {' '.join(map(str, shape))}"
        )
    found.map_shape(shape)
    return found if found.suits(shape) else trace_net(network, channels=channels, shape=shape)
