"""Backgrounds: a collage of real photographic texture, enlarged, turned, tinted and lit.

A *sheet* is a square cut from one photograph, mirrored at its borders so that it never ends.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Pixels = npt.NDArray[np.uint8]

SCALES = (1.2, 4.0)  # scene px per px of the photograph
NUM_CUTTINGS = (5, 12)
CUTTING_PX = (60, 260)  # radius


def background(photographs: Sequence[Pixels], rng: np.random.Generator, *, size: int) -> Pixels:
    """Return a (size, size, 3) image of texture without any digit."""
    picture = Image.fromarray(sheet(photographs, rng, size=size))
    for _ in range(int(rng.integers(*NUM_CUTTINGS))):
        _paste_cutting(picture, photographs, rng)
    return _lit(np.asarray(picture), rng)


def sheet(photographs: Sequence[Pixels], rng: np.random.Generator, *, size: int) -> Pixels:
    """Return a (size, size, 3) piece of one photograph, at a random scale, angle and place."""
    photograph = photographs[int(rng.integers(len(photographs)))]
    scale = float(np.exp(rng.uniform(*np.log(SCALES))))
    angle = float(rng.uniform(-np.pi, np.pi))
    y, x = rng.uniform(0, photograph.shape[0]), rng.uniform(0, photograph.shape[1])
    reach = int(np.ceil(size / scale * 0.75))  # more than half the diagonal of the square cut out
    endless = np.pad(photograph, ((reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    cos, sin, half = np.cos(angle) / scale, np.sin(angle) / scale, size / 2
    affine = (
        *(cos, -sin, x + reach - half * (cos - sin)),
        *(sin, cos, y + reach - half * (sin + cos)),
    )
    turned = Image.fromarray(endless).transform(
        (size, size), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR
    )
    return np.asarray(turned)


def _paste_cutting(
    picture: Image.Image, photographs: Sequence[Pixels], rng: np.random.Generator
) -> None:
    """Paste a piece of another sheet, cut out along a random polygon."""
    radius = int(min(rng.uniform(*CUTTING_PX), picture.width / 2))
    corners = int(rng.integers(3, 9))
    turns = np.sort(rng.uniform(0, 2 * np.pi, corners))
    reach = rng.uniform(0.5, 1.0, corners) * radius
    outline = np.stack([np.cos(turns) * reach, np.sin(turns) * reach], axis=1) + radius
    stencil = Image.new("L", (2 * radius, 2 * radius))
    ImageDraw.Draw(stencil).polygon([(x, y) for x, y in outline], fill=255)
    x, y = (int(v) for v in rng.integers(-radius, picture.width - radius, 2))
    cutting = Image.fromarray(sheet(photographs, rng, size=2 * radius))
    picture.paste(cutting, (x, y), stencil)


def _lit(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Return the image tinted, and brighter towards a random side."""
    tint = rng.uniform(0.35, 0.8) * rng.uniform(0.8, 1.2, 3)
    slope_y, slope_x = rng.uniform(-0.3, 0.3, 2)
    y, x = (np.linspace(-0.5, 0.5, n, dtype=np.float32) for n in image.shape[:2])
    light = 1 + slope_y * y[:, None] + slope_x * x
    return np.clip(image * light[..., None] * tint.astype(np.float32), 0, 255).astype(np.uint8)
