"""The published networks: FCN-VGG16 at strides 32, 16 and 8, FCN-AlexNet and FCN-GoogLeNet.

All take images from 1 × 1 px, of any size, and map them onto themselves. Options in common:

- `thin`: all widths are divided by it; for small machines, and for trying things out.
- `learned`: which enlargings are learned, ``none``, ``inner`` or ``all``; see `FCN`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from fullconv.networks._alexnet import caffenet
from fullconv.networks._alignment import Enlarging, align, geometries
from fullconv.networks._fcn import FCN, Learned
from fullconv.networks._googlenet import googlenet
from fullconv.networks._trunk import Trunk
from fullconv.networks._vgg16 import vgg16

# Of pool3 and pool4, where all scores are learned at once: their activations are that much larger.
AT_ONCE = (0.0001, 0.01)


def fcn32s_vgg16(
    classes: int, channels: int = 3, *, thin: int = 1, learned: Learned = "none"
) -> FCN:
    """Return FCN-32s: the coarsest scores, enlarged 32 times."""
    return FCN(vgg16(channels, thin=thin), _steps(vgg16), classes=classes, learned=learned)


def fcn16s_vgg16(
    classes: int, channels: int = 3, *, thin: int = 1, learned: Learned = "none"
) -> FCN:
    """Return FCN-16s: scores of pool4 besides; begin with the weights of a trained FCN-32s."""
    trunk = vgg16(channels, thin=thin, skips=1)
    return FCN(trunk, _steps(vgg16, skips=1), classes=classes, learned=learned)


def fcn8s_vgg16(
    classes: int, channels: int = 3, *, thin: int = 1, learned: Learned = "none"
) -> FCN:
    """Return FCN-8s: scores of pool4 and pool3 besides; begin with those of a trained FCN-16s."""
    trunk = vgg16(channels, thin=thin, skips=2)
    return FCN(trunk, _steps(vgg16, skips=2), classes=classes, learned=learned)


def fcn8s_atonce_vgg16(
    classes: int, channels: int = 3, *, thin: int = 1, learned: Learned = "none"
) -> FCN:
    """Return FCN-8s with pool4 and pool3 scaled down, so that all scores are learned at once."""
    trunk = vgg16(channels, thin=thin, skips=2)
    steps = _steps(vgg16, skips=2)
    return FCN(trunk, steps, classes=classes, learned=learned, scales=AT_ONCE)


def fcn_alexnet(
    classes: int, channels: int = 3, *, thin: int = 1, learned: Learned = "none"
) -> FCN:
    """Return FCN-AlexNet: CaffeNet's scores, enlarged 32 times."""
    return FCN(caffenet(channels, thin=thin), _steps(caffenet), classes=classes, learned=learned)


def fcn_googlenet(
    classes: int,
    channels: int = 3,
    *,
    thin: int = 1,
    learned: Learned = "none",
    average: bool = False,
) -> FCN:
    """Return FCN-GoogLeNet: its scores, enlarged 32 times.

    The authors published no such network. This one has their first padding and their head.

    Args:
        classes: Channels of the map.
        channels: Channels of the image.
        thin: All widths are divided by this.
        learned: Which enlargings are learned.
        average: Keep the classifier's average pooling; the paper found it to do harm.
    """
    trunk = googlenet(channels, thin=thin, average=average)
    return FCN(trunk, _steps(googlenet, average=average), classes=classes, learned=learned)


@cache
def _steps(make: Callable[..., Trunk], **options: Any) -> tuple[Enlarging, ...]:
    """Return how the maps of a trunk are enlarged: the same at any width, so traced at a small one."""
    with torch.device("meta"):
        trunk = make(1, thin=8, **options)
    return align(geometries(trunk, 1, len(trunk.taps)))
