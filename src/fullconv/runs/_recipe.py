"""How to rebuild the network of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from fullconv.images import ClassTable

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that is needed to build the network of a run with fresh weights.

    Attributes:
        name: Name for `fullconv.networks.build`.
        channels: Channels of the images.
        table: The classes; the map has one channel for each.
        mean: Mean of each channel over the training images, in raw pixel values.
        std: Standard deviation of each channel.
        options: Options of the network.
    """

    name: str
    channels: int
    table: ClassTable
    mean: tuple[float, ...]
    std: tuple[float, ...]
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def build(self) -> "nn.Module":
        """Return the network on raw pixel values, with fresh weights, in training mode.

        Raises:
            BadConfigError: If there is no such network, or the name is that of something else.
        """
        from fullconv.networks import Normalized, build, check_builds_networks

        check_builds_networks(self.name)
        net = build(self.name, self.table.num_classes, self.channels, **self.options)
        return Normalized(net, self.mean, self.std)

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as JSON values."""
        return {**asdict(self), "classes": self.table.num_classes, "options": dict(self.options)}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Recipe":
        """Return the recipe that `to_json` described."""
        return Recipe(
            name=values["name"],
            channels=values["channels"],
            table=_table(values["table"]),
            mean=tuple(values["mean"]),
            std=tuple(values["std"]),
            options=dict(values["options"]),
        )


def _table(values: Mapping[str, Any]) -> ClassTable:
    return ClassTable(
        names=tuple(values["names"]),
        colours=_colours(values["colours"]),
        ignore=values["ignore"],
        indices=tuple(values["indices"]),
        ignored=tuple(values["ignored"]),
        ignored_colours=_colours(values["ignored_colours"]),
    )


def _colours(rows: Sequence[Sequence[int]]) -> tuple[tuple[int, int, int], ...]:
    return tuple((r, g, b) for r, g, b in rows)
