"""The trunk of FCN-AlexNet: CaffeNet, which pools before it normalises, its classifier as convolutions."""

from torch import nn

from fullconv.networks._trunk import PAD, Trunk, conv, thinned

WIDTHS = (96, 256, 384, 384, 256, 4096, 4096)
DROPOUT = 0.5
GROUPS = 2  # of conv2, conv4 and conv5: the halves that ran on two GPUs


def caffenet(channels: int, *, thin: int = 1) -> Trunk:
    """Return the trunk: stride 32, a field of 355 px, the image padded by 100 px.

    Args:
        channels: Channels of the image.
        thin: All widths are divided by this.
    """
    w1, w2, w3, w4, w5, w6, w7 = thinned(WIDTHS, thin, groups=GROUPS)
    layers = {
        "conv1": conv(channels, w1, 11, stride=4, padding=PAD),
        "relu1": nn.ReLU(inplace=True),
        "pool1": _pool(),
        "norm1": nn.LocalResponseNorm(5),  # alpha 1e-4 and beta 0.75, as in CaffeNet
        "conv2": conv(w1, w2, 5, padding=2, groups=GROUPS),
        "relu2": nn.ReLU(inplace=True),
        "pool2": _pool(),
        "norm2": nn.LocalResponseNorm(5),
        "conv3": conv(w2, w3, 3, padding=1),
        "relu3": nn.ReLU(inplace=True),
        "conv4": conv(w3, w4, 3, padding=1, groups=GROUPS),
        "relu4": nn.ReLU(inplace=True),
        "conv5": conv(w4, w5, 3, padding=1, groups=GROUPS),
        "relu5": nn.ReLU(inplace=True),
        "pool5": _pool(),
        "fc6": conv(w5, w6, 6),
        "relu6": nn.ReLU(inplace=True),
        "drop6": nn.Dropout(DROPOUT),
        "fc7": conv(w6, w7, 1),
        "relu7": nn.ReLU(inplace=True),
        "drop7": nn.Dropout(DROPOUT),
    }
    return Trunk(layers, {"drop7": w7})


def _pool() -> nn.Module:
    return nn.MaxPool2d(3, 2, ceil_mode=True)
