"""Fully convolutional networks (Long, Shelhamer & Darrell, 2015): a trunk, scores, skips, enlarging.

Layers have the names that the authors' Caffe files give them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fullconv.errors import BadConfigError
from fullconv.networks._alignment import Enlarging
from fullconv.networks._encoder import Encoder
from fullconv.networks._trunk import Trunk
from fullconv.surgery import Crop, Skip, bilinear_kernel, fill_bilinear

Learned = Literal["none", "inner", "all"]


class FCN(nn.Module):
    """Scores of every map of a trunk, summed from coarse to fine, and enlarged to the image.

    The scores start at zero, so that a network with skips begins with the prediction of the one
    without. Enlarging is bilinear: fixed as in the authors' code, or only at the start.

    Args:
        trunk: From images to maps, fine to coarse.
        steps: How each map is enlarged to the next, from the coarsest on.
        classes: Channels of the map.
        learned: Which enlargings are learned: ``none``; ``inner``, all but the last, as in the paper
            of 2015; or ``all``. Those that are learned may mix the classes.
        scales: Factors of the finer maps before their scores, fine to coarse; 1 if left out.

    Raises:
        BadConfigError: If `learned` is none of these.
    """

    def __init__(
        self,
        trunk: Trunk | Encoder,
        steps: Sequence[Enlarging],
        *,
        classes: int,
        learned: Learned = "none",
        scales: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if learned not in get_args(Learned):
            known = ", ".join(get_args(Learned))
            raise BadConfigError(f"`learned` must be one of {known}, got {learned!r}")
        *inner, last = steps
        finer = tuple(reversed(trunk.taps[:-1]))
        self.trunk = trunk
        self.score_fr = _zero_score(trunk.widths[-1], classes)
        self.ups = enlarging_names(finer, last.factor)
        self.scores = tuple(f"score_{tap}" for tap in finer)
        for up, step in zip(self.ups[:-1], inner, strict=True):
            self.add_module(up, _enlarging(classes, step, learned=learned != "none"))
        for score, width in zip(self.scores, reversed(trunk.widths[:-1]), strict=True):
            self.add_module(score, _zero_score(width, classes))
        self.scales = tuple(reversed(scales or [1.0] * len(finer)))
        self.skips = nn.ModuleList(Skip(tuple(-n for n in step.offset)) for step in inner)
        self.add_module(self.ups[-1], _enlarging(classes, last, learned=learned == "all"))
        self.crop = Crop(last.offset)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(N, classes, H, W)`` for images ``(N, channels, H, W)``."""
        *finer, coarsest = self.trunk(image)
        logits = self.score_fr(coarsest)
        names = zip(self.ups[:-1], self.scores, self.scales, self.skips, strict=True)
        for (up, score, scale, skip), x in zip(names, reversed(finer), strict=True):
            x = x if scale == 1 else x * scale
            logits = skip(self.get_submodule(up)(logits), self.get_submodule(score)(x))
        return self.crop(self.get_submodule(self.ups[-1])(logits), image)


class FixedEnlarging(nn.Module):
    """A transposed convolution that interpolates each channel bilinearly and learns nothing.

    Its kernel is no part of the state: it follows from its size.
    """

    kernel: Tensor

    def __init__(self, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride
        taps = bilinear_kernel((kernel, kernel)).float().expand(channels, 1, -1, -1)
        self.register_buffer("kernel", taps.clone(), persistent=False)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return the maps enlarged, with half a kernel of fading border."""
        return F.conv_transpose2d(x_NCHW, self.kernel, stride=self.stride, groups=self.channels)


def enlarging_names(finer: Sequence[str], factor: int) -> tuple[str, ...]:
    """Return what the authors call the enlargings, from the coarsest on.

    Args:
        finer: Names of the maps that are scored besides the coarsest, coarse to fine.
        factor: By how much the last one enlarges.

    Examples:
        >>> enlarging_names(["pool4", "pool3"], 8), enlarging_names([], 32)
        (('upscore2', 'upscore_pool4', 'upscore8'), ('upscore',))
    """
    if not finer:
        return ("upscore",)
    last = f"upscore{factor}" if factor != 2 else "upscore"
    return ("upscore2", *(f"upscore_{tap}" for tap in finer[:-1]), last)


def _enlarging(classes: int, step: Enlarging, *, learned: bool) -> nn.Module:
    if not learned:
        return FixedEnlarging(classes, step.kernel, step.factor)
    layer = nn.ConvTranspose2d(classes, classes, step.kernel, step.factor, bias=False)
    return fill_bilinear(layer)


def _zero_score(width: int, classes: int) -> nn.Conv2d:
    score = nn.Conv2d(width, classes, 1)
    with torch.no_grad():
        for parameter in score.parameters():
            parameter.zero_()
    return score
