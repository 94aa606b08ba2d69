"""A light FCN-8s: the head of Long, Shelhamer and Darrell (2015) on a trunk small enough to start from scratch."""

from itertools import pairwise

from torch import Tensor, nn

from fullconv.networks._layers import NormName, check_counts, convolution, enlarge, halve


class FCN8s(nn.Module):
    """Scores at strides 8, 16 and 32, summed from coarse to fine, then enlarged eight times.

    The trunk has VGG's five stages, of two convolutions each and a fraction of the channels, with a
    norm. It pads by the kernel's half, not by 100 px, and pools rounding up, so the crops are at
    the bottom and right alone. The scores of the finer stages start at zero, as in the paper: the
    network begins with the coarse prediction unmodified. Bilinear upsampling is fixed.

    Args:
        classes: Channels of the map.
        channels: Channels of the image.
        width: Channels of the first stage; they double up to eight times that.
        norm: ``batch``, ``layer`` (over channels: local), ``frozen`` or ``none``.
        dropout: Share of elements dropped after each of the two layers before the coarse score.
    """

    def __init__(
        self,
        *,
        classes: int,
        channels: int = 3,
        width: int = 16,
        norm: NormName = "batch",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_counts(width=width)
        widths = [channels, width, 2 * width, 4 * width, 8 * width, 8 * width]
        stages = [_stage(start, stop, norm) for start, stop in pairwise(widths)]
        self.to_8 = nn.Sequential(*stages[:3])
        self.to_16 = stages[3]
        self.to_32 = stages[4]
        self.fully = nn.Sequential(
            convolution(8 * width, 16 * width, norm_name=norm, kernel=7),
            nn.Dropout(dropout),
            convolution(16 * width, 16 * width, norm_name=norm, kernel=1),
            nn.Dropout(dropout),
        )
        self.score_8 = _zero_score(4 * width, classes)
        self.score_16 = _zero_score(8 * width, classes)
        self.score_32 = nn.Conv2d(16 * width, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(N, classes, H, W)`` for images ``(N, channels, H, W)``."""
        at_8 = self.to_8(image)
        at_16 = self.to_16(at_8)
        logits = self.score_32(self.fully(self.to_32(at_16)))
        logits = self.score_16(at_16) + enlarge(logits, at_16, factor=2, mode="bilinear")
        logits = self.score_8(at_8) + enlarge(logits, at_8, factor=2, mode="bilinear")
        return enlarge(logits, image, factor=8, mode="bilinear")


def _stage(start: int, stop: int, norm: NormName) -> nn.Sequential:
    return nn.Sequential(
        convolution(start, stop, norm_name=norm),
        convolution(stop, stop, norm_name=norm),
        halve(),
    )


def _zero_score(channels: int, classes: int) -> nn.Conv2d:
    score = nn.Conv2d(channels, classes, 1)
    nn.init.zeros_(score.weight)
    nn.init.zeros_(score.bias)  # pyright: ignore[reportArgumentType] (it has a bias)
    return score
