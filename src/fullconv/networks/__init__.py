"""Networks by name.

Every network of the registry maps images ``(N, channels, H, W)`` of any size from 1 × 1 px to logits
``(N, classes, H, W)`` of the same size, on raw pixel values once it is wrapped in `Normalized`.
Pooling rounds up and upsampling is cropped at the bottom and right, so no image is ever resized or
padded by hand.
"""

from fullconv.networks._efficientnet_lite import (
    EfficientNetLite0,
    EfficientNetLite1,
    EfficientNetLite2,
    lite0_classifier,
    lite0_weights,
    lite1_classifier,
    lite1_weights,
    lite2_classifier,
    lite2_weights,
)
from fullconv.networks._normalized import Normalized
from fullconv.networks._padded import Padded, padded
from fullconv.networks._registry import NAMES, build, check_builds_networks
from fullconv.networks._start import Start, start_from

__all__ = [
    "NAMES",
    "EfficientNetLite0",
    "EfficientNetLite1",
    "EfficientNetLite2",
    "Normalized",
    "Padded",
    "Start",
    "build",
    "check_builds_networks",
    "lite0_classifier",
    "lite0_weights",
    "lite1_classifier",
    "lite1_weights",
    "lite2_classifier",
    "lite2_weights",
    "padded",
    "start_from",
]
