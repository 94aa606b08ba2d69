"""The few layers that the networks share.

Shapes: ``N`` images, ``C`` channels, ``H`` and ``W`` px. All layers keep the memory format of what
they get, so a network and its input in channels_last stay there.
"""

from typing import Any, Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from fullconv.errors import BadConfigError

NormName = Literal["batch", "layer", "frozen", "none"]


def check_counts(**counts: Any) -> None:
    """Refuse numbers of channels or layers that are none.

    Raises:
        BadConfigError: If one is not a whole number of at least 1.
    """
    if any(type(count) is not int or count < 1 for count in counts.values()):
        names, got = (f"`{name}`" for name in counts), (f"{count!r}" for count in counts.values())
        whole = "whole numbers" if len(counts) > 1 else "a whole number"
        raise BadConfigError(
            f"{' and '.join(names)} must be {whole} of at least 1, got {' and '.join(got)}"
        )


class BatchNorm(nn.Module):
    """BatchNorm that lives with a single value per channel.

    In training the statistics are those of the images in the batch (with one image per step, of that
    image). Where a map has shrunk to 1 × 1 px there are none, and the running ones are used.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return the normalised maps."""
        if self.training and x_NCHW.numel() == x_NCHW.shape[1]:
            n = self.norm
            return F.batch_norm(x_NCHW, n.running_mean, n.running_var, n.weight, n.bias, eps=n.eps)
        return self.norm(x_NCHW)


class FrozenNorm(nn.Module):
    """BatchNorm whose statistics never move: a scale and a shift per channel, local to each px."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return the normalised maps."""
        n = self.norm
        return F.batch_norm(x_NCHW, n.running_mean, n.running_var, n.weight, n.bias, eps=n.eps)


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each px, so that a px depends on no other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return the normalised maps."""
        return self.norm(x_NCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def norm(name: NormName, channels: int) -> nn.Module:
    """Return the normalisation called `name` for maps of `channels` channels."""
    match name:
        case "batch":
            return BatchNorm(channels)
        case "layer":
            return ChannelNorm(channels)
        case "frozen":
            return FrozenNorm(channels)
        case "none":
            return nn.Identity()
        case _:
            known = ", ".join(get_args(NormName))
            raise BadConfigError(f"`norm` must be one of {known}, got {name!r}")


def convolution(
    start: int, stop: int, *, norm_name: NormName, kernel: int = 3, stride: int = 1
) -> nn.Sequential:
    """Return convolution, norm and ReLU; at stride 2 a side of n px becomes n / 2 rounded up."""
    bias = norm_name == "none"
    conv = nn.Conv2d(start, stop, kernel, stride=stride, padding=kernel // 2, bias=bias)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return nn.Sequential(conv, norm(norm_name, stop), nn.ReLU(inplace=True))


def halve() -> nn.Module:
    """Return 2 × 2 max pooling that rounds up: a last odd row or column makes a px of its own."""
    return nn.MaxPool2d(2, ceil_mode=True)


def enlarge(x_NCHW: Tensor, like: Tensor, *, factor: int, mode: str) -> Tensor:
    """Return the maps upsampled by an integer factor, cropped to the size of `like`.

    The factor is given as such, never as a target size: a ratio that is no integer would make each
    px depend on the size of the whole image.
    """
    corners = False if mode == "bilinear" else None
    y = F.interpolate(x_NCHW, scale_factor=factor, mode=mode, align_corners=corners)
    return y[..., : like.shape[-2], : like.shape[-1]]
