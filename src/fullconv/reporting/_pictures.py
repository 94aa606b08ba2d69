"""Arrays as small pictures inside the page: photographs as WebP, labels as PNG."""

import base64
import io

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from fullconv.images import ClassTable, to_rgb8

SIDE = 900  # px of the longer side at which a picture is shown at most
BYTES = 320_000  # of one picture at most: twelve of them, in base64, stay below 6 MB
SHARP = 256  # a picture whose sides are shorter is magnified, so its px are kept as they are
ERROR = (226, 0, 70, 255)


def photograph(image: NDArray[np.generic]) -> Markup:
    """Return an image (channels, height, width) of any type as the address of a picture."""
    skip = max(1, max(image.shape[1:]) // (2 * SIDE))  # what is shown small need not be read whole
    picture = Image.fromarray(to_rgb8(image[:, ::skip, ::skip]))
    keep = max(picture.size) <= SHARP
    return _fitted(picture, Image.Resampling.LANCZOS, "WEBP", quality=84, lossless=keep)


def label_picture(labels: NDArray[np.integer], classes: ClassTable) -> Markup:
    """Return labels (height, width) in the colours of their classes; ignored px are transparent."""
    table = np.zeros((max(int(labels.max()), classes.num_classes) + 1, 4), np.uint8)
    table[: classes.num_classes, :3] = classes.colours
    table[: classes.num_classes, 3] = 255
    present, indices = np.unique(labels, return_inverse=True)
    return _flat(indices.reshape(labels.shape), table[present])


def error_picture(wrong: NDArray[np.bool_]) -> Markup:
    """Return a picture that is red where `wrong` and transparent elsewhere."""
    return _flat(wrong.astype(np.uint8), np.array([(0, 0, 0, 0), ERROR], np.uint8))


def png(rgb: NDArray[np.uint8]) -> Markup:
    """Return colours (height, width, 3) as they are."""
    return _address(_encoded(Image.fromarray(rgb), "PNG", optimize=True), "PNG")


def _flat(indices: NDArray[np.integer], rgba: NDArray[np.uint8]) -> Markup:
    if len(rgba) <= 256:
        picture = Image.fromarray(indices.astype(np.uint8))
        picture.putpalette(rgba.tobytes(), "RGBA")
    else:
        picture = Image.fromarray(rgba[indices])
    return _fitted(picture, Image.Resampling.NEAREST, "PNG", optimize=True)


def _fitted(picture: Image.Image, how: Image.Resampling, kind: str, **options: object) -> Markup:
    """Return a picture scaled until it is small enough, first in px and then in bytes."""
    side = min(SIDE, max(picture.size))
    while True:
        scale = side / max(picture.size)
        width, height = (max(1, round(length * scale)) for length in picture.size)
        data = _encoded(picture.resize((width, height), how), kind, **options)
        if len(data) <= BYTES or side < SHARP:
            return _address(data, kind)
        side = int(side * 0.95 * (BYTES / len(data)) ** 0.5)  # bytes grow with the area


def _encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def _address(data: bytes, kind: str) -> Markup:
    text = base64.b64encode(data).decode()
    return Markup("data:image/{};base64,{}").format(kind.lower(), Markup(text))
