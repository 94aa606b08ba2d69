"""Images of sizes that a network does not take, padded at their ends, and their maps cropped again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from fullconv.errors import FullconvError
from fullconv.tracing import trace

Padding = Literal["reflect", "zero"]
_MODES = {"reflect": "reflect", "zero": "constant"}

# Along one axis: for each size modulo the period, the smallest size that is taken; None for none.
Taken = tuple[int | None, ...]


class Padded(nn.Module):
    """A network that takes images of any size.

    An image of a size that `net` does not take is padded to the next one that it takes, at the end of
    each axis, and its map is cropped to the image. As part of the network this is the same for whole
    images, windows and steps.

    Args:
        net: The network.
        taken: For each spatial axis the sizes that it takes: by size modulo the length of the tuple, the
            smallest one.
        padding: ``reflect``: pixels are mirrored at the end, which an image of few pixels may be too
            small for; or ``zero``.

    Examples:
        >>> import torch
        >>> net = nn.Sequential(nn.MaxPool2d(2), nn.Upsample(scale_factor=2))  # even sizes only
        >>> Padded(net, [(2, None)] * 2, "reflect")(torch.zeros(1, 1, 5, 8)).shape
        torch.Size([1, 1, 5, 8])
    """

    def __init__(
        self, net: nn.Module, taken: Sequence[Taken], padding: Padding = "reflect"
    ) -> None:
        super().__init__()
        self.net, self.taken, self.padding = net, tuple(taken), padding

    def forward(self, images: Tensor) -> Tensor:
        """Return the map of a batch of images, `(batch, classes, *map)`."""
        sizes = tuple(images.shape[2:])
        wanted = tuple(_next(size, taken) for size, taken in zip(sizes, self.taken, strict=True))
        if wanted == sizes:
            return self.net(images)
        ends = [end for a, b in zip(sizes, wanted, strict=True) for end in (b - a, 0)][::-1]
        if self.padding == "reflect" and any(
            2 * a <= b for a, b in zip(sizes, wanted, strict=True)
        ):
            # No `FullconvError`: to whoever tries sizes, this is one that the network does not take.
            raise ValueError(
                f"`image` must be larger to be padded by reflection to {_times(wanted)} px, got "
                f"{_times(sizes)}: take larger images, or padding with zeros"
            )
        found: Tensor = self.net(F.pad(images, ends, mode=_MODES[self.padding]))
        # Where units are coarser than px, each that owns a pixel of the image is kept.
        kept = [
            slice(0, -(-size * units // padded))
            for size, padded, units in zip(sizes, wanted, found.shape[2:], strict=True)
        ]
        return found[(slice(None), slice(None), *kept)]


def padded(
    net: nn.Module, channels: int, padding: Padding = "reflect", *, axes: int = 2
) -> nn.Module:
    """Return a network that takes images of any size: `net` itself, if it does.

    What cannot be traced, since it looks at the whole image, is returned as it is.

    Args:
        net: The network; its modes stay as they are.
        channels: Channels of its images.
        padding: As for `Padded`.
        axes: Spatial axes.
    """
    training = [module for module in net.modules() if module.training]
    try:
        geometry = trace(net.eval(), channels, axes)
    except FullconvError:
        return net
    finally:
        for module in training:
            module.training = True
    taken = [tuple(entry[0] if entry else None for entry in axis.legal) for axis in geometry.axes]
    if all(None not in sizes for sizes in taken):
        return net
    return Padded(net, taken, padding)


def _next(size: int, taken: Taken) -> int:
    """Return the smallest size that is taken, and at least `size`."""
    while (least := taken[size % len(taken)]) is None or size < least:
        size += 1
    return size


def _times(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))
