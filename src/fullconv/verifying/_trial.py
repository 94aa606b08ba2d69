"""The network and image that the witnesses share: float64, fixed numbers, the whole map once."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fullconv.geometry import Box, Geometry, Window

# Whole and windowed sums run over the same numbers in another order: in float64 they differ by
# rounding, some 1e-15 per layer. A real error is larger than a millionth in all but odd cases.
TOLERANCE = 1e-9


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One network on one image, and the geometry that is put to the test.

    Attributes:
        net: A copy of the network in float64.
        image: `(channels, *spatial)`, float64.
        whole: The map of the whole image, `(classes, *map)`.
        geometry: What is tested.
        generator: Draws the cases.
    """

    net: nn.Module
    image: Tensor
    whole: Tensor
    geometry: Geometry
    generator: torch.Generator

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape of the image."""
        return tuple(self.image.shape[1:])

    @property
    def map_shape(self) -> tuple[int, ...]:
        """Spatial shape of the map."""
        return tuple(self.whole.shape[1:])

    @property
    def scale(self) -> float:
        """The largest value of the map."""
        return float(self.whole.abs().max()) or 1.0

    def map_of(self, image: Tensor) -> Tensor:
        """Return the map of an image without keeping a graph."""
        with torch.no_grad():
            return self.net(image[None])[0]

    def draw(self, most: int) -> int:
        """Return a number from 0 to `most`, both included."""
        return int(torch.randint(most + 1, (), generator=self.generator))

    def box(self, largest: float) -> Box:
        """Return a random box of units, per axis up to a share `largest` of the map."""
        sizes = [1 + self.draw(max(0, int(m * largest) - 1)) for m in self.map_shape]
        starts = [self.draw(m - n) for m, n in zip(self.map_shape, sizes, strict=True)]
        return Box(
            start=tuple(starts), stop=tuple(a + n for a, n in zip(starts, sizes, strict=True))
        )

    def part(self, window: Window) -> Tensor:
        """Return the units of a window from the network run on what the window reads."""
        return self.map_of(self.image[(slice(None), *window.reads.slices)])[
            (slice(None), *window.inside.slices)
        ]


def make_trial(net: nn.Module, shape: tuple[int, ...], geometry: Geometry, seed: int) -> Trial:
    """Return a trial on a random image.

    The copy of the network gets no zero weights: a score layer that starts at zero would agree with
    everything.
    """
    generator = torch.Generator().manual_seed(seed)
    net = copy.deepcopy(net).to("cpu").double()
    for parameter in net.parameters():
        if not parameter.detach().any():
            with torch.no_grad():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
        parameter.requires_grad_()
    image = torch.randn(shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        whole = net(image[None])[0]
    return Trial(net=net, image=image, whole=whole, geometry=geometry, generator=generator)
