"""Classifiers without their heads: maps at several strides, for any head to stand on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from fullconv.errors import BadConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Pixels:
    """What weights expect of pixel values: centred and scaled, per channel, in the images' own values.

    Attributes:
        mean: Of red, green and blue, 0 to 255.
        std: Of red, green and blue, likewise.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Encoder(nn.Module):
    """A classifier without its head.

    Attributes:
        padding: Zeros around the image, in px; what a head needs, 0 unless it asks for some.

    Args:
        net: Returns its maps ``(N, width, *map)``, fine to coarse.
        strides: Of these maps, in px.
        widths: Channels of these maps.
        whole: Name → shape of everything in the classifier's state, its head included: what a file
            with its weights holds.
        pixels: What its weights expect; None where that is not known.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        strides: Sequence[int],
        widths: Sequence[int],
        whole: Mapping[str, tuple[int, ...]],
        pixels: Pixels | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.strides, self.widths = tuple(strides), tuple(widths)
        self.taps = tuple(f"at{stride}" for stride in strides)
        self.whole, self.pixels = dict(whole), pixels
        self.padding = 0

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the maps of images ``(N, channels, H, W)``, fine to coarse."""
        return list(self.net(F.pad(image, (self.padding,) * 4) if self.padding else image))


def chosen(
    found: Sequence[int], wanted: Sequence[int] | None, name: str
) -> tuple[tuple[int, ...], list[int]]:
    """Return the strides at which an encoder hands out maps, and where the last map of each stands.

    Args:
        found: Strides of all its maps, as they run.
        wanted: Strides that a head asks for; None for all from 2 to 32 px.
        name: Of the encoder.

    Raises:
        BadConfigError: If there is none at one of these strides, or for all, only at one.
    """
    strides = tuple(wanted or (s for s in (2, 4, 8, 16, 32) if s in found))
    if not set(strides) <= set(found) or (wanted is None and len(strides) < 2):
        asked = ", ".join(map(str, wanted)) if wanted else "2 to 32"
        raise BadConfigError(
            f"`net` = {name!r} must have maps at strides {asked} px, got "
            f"{', '.join(map(str, sorted(set(found))))}; take another encoder or head"
        )
    return strides, [max(i for i, s in enumerate(found) if s == stride) for stride in strides]


class Maps(nn.Module):
    """Some of the maps of a network that returns many, with the channels second."""

    def __init__(self, net: nn.Module, places: Sequence[Any], *, last: bool = False) -> None:
        super().__init__()
        self.net, self.places, self.last = net, places, last

    def forward(self, image: Tensor) -> list[Tensor]:
        found = self.net(image)
        maps = [found[place] for place in self.places]
        return [x.permute(0, 3, 1, 2) if self.last else x for x in maps]


def shapes(net: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return name → shape of all in a network's state."""
    return {name: tuple(value.shape) for name, value in net.state_dict().items()}


def from_unit(mean: Sequence[float], std: Sequence[float]) -> Pixels:
    """Return means and deviations of pixel values from 0 to 1 as those of 0 to 255."""
    return Pixels(mean=tuple(255 * m for m in mean), std=tuple(255 * s for s in std))
