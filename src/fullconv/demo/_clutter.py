"""Clutter: pen strokes that are no digits."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

STROKE_PX = (4, 14)  # width of the pen
REACH_PX = (20, 90)  # from the stroke's middle to its ends


def paint_strokes(
    canvas: npt.NDArray[np.float32],
    mask: npt.NDArray[np.uint8],
    rng: np.random.Generator,
    *,
    count: int,
) -> None:
    """Paint bent strokes into a scene; where they are, the mask says background."""
    for _ in range(count):
        points, width = _stroke(rng, size=len(mask))
        low = np.maximum(points.min(0).astype(int) - width, 0)
        high = np.maximum(points.max(0).astype(int) + width + 1, low + 1)
        opacity = _drawn(points - low, width, tuple(high - low))
        box = np.s_[low[1] : high[1], low[0] : high[0]]
        opacity = opacity[: mask[box].shape[0], : mask[box].shape[1]]
        colour = rng.uniform(0, 255, 3).astype(np.float32)
        canvas[box] += opacity[..., None] * (colour - canvas[box])
        mask[box][opacity > 0.5] = 0


def _stroke(rng: np.random.Generator, *, size: int) -> tuple[npt.NDArray[np.float64], int]:
    """Return the (x, y) of a quadratic Bézier curve's points, and the width of the pen."""
    middle = rng.uniform(0, size, 2)
    start, bend, stop = middle + rng.uniform(-1, 1, (3, 2)) * rng.uniform(*REACH_PX)
    t = np.linspace(0, 1, 16)[:, None]
    points = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * stop
    return points, int(rng.integers(*STROKE_PX))


def _drawn(
    points: npt.NDArray[np.float64], width: int, shape: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """Return the opacity of a curve in a picture of `shape` (width, height), drawn twice as fine."""
    fine = Image.new("L", (2 * shape[0], 2 * shape[1]))
    ImageDraw.Draw(fine).line([(x, y) for x, y in 2 * points], fill=255, width=2 * width)
    drawn = fine.resize(shape, Image.Resampling.BOX)
    return np.asarray(drawn, dtype=np.float32) / np.float32(255)
