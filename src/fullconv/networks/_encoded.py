"""Heads on encoders: FCN-32s, 16s and 8s, and a U-Net's decoder."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from fullconv.errors import BadConfigError
from fullconv.networks._alignment import align, geometries, least_padding
from fullconv.networks._encoder import Encoder
from fullconv.networks._fcn import FCN, Learned
from fullconv.networks._layers import NormName, check_counts, convolution, enlarge
from fullconv.networks._multiple import OnMultiples
from fullconv.surgery import freeze_norms
from fullconv.tracing import hollow

Norms = Literal["batch", "frozen"]

# The strides at which each head of FCN looks, fine to coarse.
FCN_STRIDES = {"fcn32s": (32,), "fcn16s": (16, 32), "fcn8s": (8, 16, 32)}
# Of the image at which maps are measured, in coarsest strides: 224 px, which most classifiers take.
SIDE = 7


def fcn_on(
    encoder: Encoder,
    classes: int,
    channels: int,
    *,
    learned: Learned = "none",
    norms: Norms = "batch",
) -> nn.Module:
    """Return scores at every map of an encoder, summed and enlarged as by an FCN, for any image size.

    The offsets follow from the encoder's fields, so it must be local. So do the zeros around the image
    that an encoder of layers without padding needs, as the authors' networks have 100 px of them.

    Args:
        encoder: Hands out the maps that are scored.
        classes: Channels of the map.
        channels: Channels of the image.
        learned: Which enlargings are learned; see `FCN`.
        norms: ``frozen`` keeps the encoder's BatchNorms at their running statistics in training:
            right for pretrained weights and few images per step.

    Raises:
        BadConfigError: If an option is out of range, or the maps cannot be aligned.
        NotLocalError: If a layer of the encoder looks at the whole image.
    """
    multiple = encoder.strides[-1]
    maps = geometries(hollow(encoder), channels, len(encoder.strides))
    encoder = _held(encoder, norms)
    encoder.padding = least_padding(maps, multiple)
    net = FCN(encoder, align(maps, encoder.padding), classes=classes, learned=learned)
    return OnMultiples(net, multiple)


def unet_on(
    encoder: Encoder,
    classes: int,
    channels: int,
    *,
    width: int = 16,
    norm: NormName = "batch",
    norms: Norms = "batch",
) -> nn.Module:
    """Return a U-Net's decoder on an encoder, for any image size.

    Args:
        encoder: Hands out the maps that the decoder joins.
        classes: Channels of the map.
        channels: Channels of the image.
        width: Channels of the decoder at its finest scale; each coarser one has twice as many.
        norm: Norm of the decoder: ``batch``, ``layer``, ``frozen`` or ``none``.
        norms: Of the encoder: ``batch``, or ``frozen`` as for FCNs.

    Raises:
        BadConfigError: If an option is out of range, or a map is no whole number of times smaller.
    """
    check_counts(width=width)
    _check_maps(encoder, channels)
    return OnMultiples(
        Decoded(_held(encoder, norms), classes, width=width, norm=norm), encoder.strides[-1]
    )


def _check_maps(encoder: Encoder, channels: int) -> None:
    """Refuse maps that do not have the image's size divided by their strides."""
    side = SIDE * encoder.strides[-1]
    image = torch.empty(1, channels, side, side, device="meta")
    sizes: list[int] = []
    with suppress(Exception):  # of a network that takes one size only, which says so itself
        sizes = [found.shape[-1] for found in hollow(encoder).eval()(image)]
    for size, stride in zip(sizes, encoder.strides, strict=False):
        if size * stride != side:
            raise BadConfigError(
                "`net` must have maps that are a whole number of times smaller than the image, got "
                f"{size} px at stride {stride} for an image of {side} px; take an encoder that pads, "
                "such as vgg11 or resnet18"
            )


class Decoded(nn.Module):
    """An encoder, a decoder that joins its maps from coarse to fine, and a score at the finest."""

    def __init__(self, encoder: Encoder, classes: int, *, width: int, norm: NormName) -> None:
        super().__init__()
        self.trunk = encoder
        scales = encoder.strides
        self.factors = [coarse // fine for fine, coarse in pairwise(scales)]
        self.up = nn.ModuleList()
        start = encoder.widths[-1]
        for level in reversed(range(len(scales) - 1)):
            stop = width * 2**level
            joined = start + encoder.widths[level]
            self.up.append(
                nn.Sequential(
                    convolution(joined, stop, norm_name=norm),
                    convolution(stop, stop, norm_name=norm),
                )
            )
            start = stop
        self.score = nn.Conv2d(start, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits of the image's size."""
        *finer, x = self.trunk(image)
        for block, skip, factor in zip(
            self.up, reversed(finer), reversed(self.factors), strict=True
        ):
            x = block(torch.cat([skip, enlarge(x, skip, factor=factor, mode="nearest")], dim=1))
        return enlarge(self.score(x), image, factor=self.trunk.strides[0], mode="bilinear")


def _held(encoder: Encoder, norms: Norms) -> Encoder:
    if norms not in get_args(Norms):
        raise BadConfigError(f"`norms` must be one of {', '.join(get_args(Norms))}, got {norms!r}")
    return freeze_norms(encoder) if norms == "frozen" else encoder
