"""How to rebuild the network of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

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
        padding: How images are padded that the network does not take; None to refuse them.
    """

    name: str
    channels: int
    table: ClassTable
    mean: tuple[float, ...]
    std: tuple[float, ...]
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    padding: Literal["reflect", "zero"] | None = None

    def build(self) -> "nn.Module":
        """Return the network on raw pixel values, with fresh weights, in training mode.

        Raises:
            BadConfigError: If there is no such network, or the name is that of something else.
        """
        from fullconv.networks import NAMES, Normalized, build, check_builds_networks, padded

        check_builds_networks(self.name)
        net = build(self.name, self.table.num_classes, self.channels, **self.options)
        whole = Normalized(net, self.mean, self.std)
        # Those of the registry take any size.
        asked = self.padding is not None and self.name not in NAMES
        return padded(whole, self.channels, self.padding or "reflect") if asked else whole

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
            padding=values.get("padding"),
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
