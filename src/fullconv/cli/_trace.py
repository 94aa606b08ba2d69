"""`fullconv trace`."""

from rich.table import Table

from fullconv.cli._show import output

AXES = {1: "x", 2: "yx", 3: "zyx"}


def trace(net: str, /, *, channels: int = 3, classes: int = 2) -> None:
    """Show the geometry of a network: what a unit of its map sees, and which windows are exact.

    Args:
        net: Name of a network, or `package.module:factory`.
        channels: Channels of the images.
        classes: Channels of the map.
    """
    from fullconv.networks import build
    from fullconv.tracing import trace as trace_net

    found = trace_net(build(net, classes=classes, channels=channels).eval(), channels=channels)
    table = Table("axis", "field (px)", "stride (px)", "period (px)", "halo (px)", title=net)
    rows = zip(
        AXES[len(found.axes)], found.field, found.stride, found.period, found.halo, strict=True
    )
    for axis, field, stride, period, (before, after) in rows:
        table.add_row(axis, str(field), str(stride), str(period), f"{before} + {after}")
    output().print(table)
