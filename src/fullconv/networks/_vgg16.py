"""The trunk of FCN-VGG16: Simonyan and Zisserman's network D, its classifier as convolutions."""

from itertools import count

from torch import nn

from fullconv.networks._trunk import PAD, Trunk, conv, thinned

# Channels of the convolutions of each stage; a pooling ends it. Then those of fc6 and fc7.
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
FULLY = 4096
DROPOUT = 0.5


def vgg16(channels: int, *, thin: int = 1, skips: int = 0) -> Trunk:
    """Return the trunk: stride 32, a field of 404 px, element-wise dropout behind fc6 and fc7.

    The image is padded by 100 px, and poolings round up, so that the smallest image leaves fc6, of
    7 × 7, a map to stand on.

    Args:
        channels: Channels of the image.
        thin: All widths are divided by this.
        skips: How many maps before the last it hands out: 1 for pool4, 2 for pool3 as well.
    """
    layers: dict[str, nn.Module] = {}
    start, padding = channels, PAD
    for stage, widths in enumerate(STAGES, start=1):
        for place, stop in zip(count(1), thinned(widths, thin), strict=False):
            layers[f"conv{stage}_{place}"] = conv(start, stop, 3, padding=padding)
            layers[f"relu{stage}_{place}"] = nn.ReLU(inplace=True)
            start, padding = stop, 1
        layers[f"pool{stage}"] = nn.MaxPool2d(2, ceil_mode=True)
    (fully,) = thinned([FULLY], thin)
    for name, kernel in (("6", 7), ("7", 1)):
        layers[f"fc{name}"] = conv(start, fully, kernel)
        layers[f"relu{name}"] = nn.ReLU(inplace=True)
        layers[f"drop{name}"] = nn.Dropout(DROPOUT)
        start = fully
    taps = {"pool3": STAGES[2][-1] // thin, "pool4": STAGES[3][-1] // thin, "drop7": fully}
    return Trunk(layers, dict(list(taps.items())[2 - skips :]))
