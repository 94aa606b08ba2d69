"""Heads on encoders: FCN-32s, 16s and 8s, and a U-Net's decoder."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from fullconv.errors import BadConfigError
from fullconv.networks._alignment import align
from fullconv.networks._encoder import Encoder
from fullconv.networks._fcn import FCN, Learned
from fullconv.networks._layers import NormName, check_counts, convolution, enlarge
from fullconv.networks._multiple import OnMultiples
from fullconv.surgery import freeze_norms
from fullconv.tracing import hollow

Norms = Literal["batch", "frozen"]

# The strides at which each head of FCN looks, fine to coarse.
FCN_STRIDES = {"fcn32s": (32,), "fcn16s": (16, 32), "fcn8s": (8, 16, 32)}


def fcn_on(
    encoder: Encoder,
    classes: int,
    channels: int,
    *,
    learned: Learned = "none",
    norms: Norms = "batch",
) -> nn.Module:
    """Return scores at every map of an encoder, summed and enlarged as by an FCN, for any image size.

    The offsets follow from the encoder's fields, so it must be local.

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
    steps = align(hollow(encoder), channels, len(encoder.strides))
    net = FCN(_held(encoder, norms), steps, classes=classes, learned=learned)
    return OnMultiples(net, encoder.strides[-1])


def unet_on(
    encoder: Encoder,
    classes: int,
    *,
    width: int = 16,
    norm: NormName = "batch",
    norms: Norms = "batch",
) -> nn.Module:
    """Return a U-Net's decoder on an encoder, for any image size.

    Args:
        encoder: Hands out the maps that the decoder joins.
        classes: Channels of the map.
        width: Channels of the decoder at its finest scale; each coarser one has twice as many.
        norm: Norm of the decoder: ``batch``, ``layer``, ``frozen`` or ``none``.
        norms: Of the encoder: ``batch``, or ``frozen`` as for FCNs.

    Raises:
        BadConfigError: If an option is out of range.
    """
    check_counts(width=width)
    return OnMultiples(
        Decoded(_held(encoder, norms), classes, width=width, norm=norm), encoder.strides[-1]
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
