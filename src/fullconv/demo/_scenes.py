"""Scenes: many handwritten digits over real texture, with the exact mask of each pixel.

Conventions: arrays are (H, W, channels); positions are (y, x) in px from the top left corner;
angles are anticlockwise, in degrees. The mask is 0 for the background and ``1 + digit`` where a
digit is the topmost thing: what lies under another digit, or under a stroke of clutter, does not
show in the mask either. A digit is there where its enlarged glyph is above `INK`; the image is
blended over one or two px around that line.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from fullconv.demo._backgrounds import background
from fullconv.demo._clutter import paint_strokes
from fullconv.demo._originals import Originals, Split, originals

SIZE = 980  # px, both sides
NUM_DIGITS = 32
INK = 0.4  # of a glyph's range: low enough for thin strokes to hold together, and loops stay open
PALEST = 0.6  # opacity of ink at `INK`; full ink is 1. Half-closed loops stay legible by it
SIZES_PX = (80.0, 180.0)  # side of a digit's square, drawn evenly by logarithm
LARGEST_ANGLE = 20.0  # either way; far from the 180 degrees that turn 6 into 9
LEAST_CONTRAST = 70.0  # of 255: how much brighter a digit is than what it is painted on
NOISE = 8  # largest change of a pixel's value, as of a camera's sensor
_RIM_PX = 1.5  # width of the blend
_PAD = 2  # empty cells around the 8 × 8 original, so that ink at its border ends round
_BRIGHTNESS = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # of R, G, B: ITU-R BT.601

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Digit:
    """One digit of a scene, as it was placed.

    Attributes:
        original: Position of the digit in scikit-learn's data set.
        label: What it shows, 0 to 9.
        centre: (y, x) of its middle, px.
        size: Side of the 8 × 8 original in the scene, px.
        angle: Its rotation.
        colour: RGB.
    """

    original: int
    label: int
    centre: tuple[float, float]
    size: float
    angle: float
    colour: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """One image with its mask, and what was put into it.

    Attributes:
        image: (H, W, 3).
        mask: (H, W); 0 background, ``1 + digit`` elsewhere.
        digits: In the order of painting: the last one is topmost.
    """

    image: Pixels
    mask: Pixels
    digits: tuple[Digit, ...]


def make_scenes(
    seed: int,
    *,
    split: Split = "train",
    count: int = 1,
    size: int = SIZE,
    num_digits: int = NUM_DIGITS,
) -> Iterator[Scene]:
    """Yield `count` scenes, the same ones for the same arguments.

    Args:
        seed: Any integer from 0. Scene number i depends on `seed`, `split` and i alone.
        split: Whose originals to use; no two splits share a digit or a part of a photograph.
        count: Number of scenes.
        size: Side of the square image, in px.
        num_digits: Digits painted into each scene; some come to lie under others.

    Raises:
        FullconvError: If scikit-learn is not installed.

    Examples:
        >>> (scene,) = make_scenes(0, size=200, num_digits=5)
        >>> scene.image.shape, scene.mask.shape, len(scene.digits)
        ((200, 200, 3), (200, 200), 5)
    """
    owned = originals(split)
    for index in range(count):
        yield make_scene(owned, (seed, index), size=size, num_digits=num_digits)


def make_scene(
    owned: Originals, seed: tuple[int, int], *, size: int = SIZE, num_digits: int = NUM_DIGITS
) -> Scene:
    """Return one scene of the digits and photographs of a split."""
    rng = np.random.default_rng([*seed, *owned.split.encode()])
    canvas = background(owned.photographs, rng, size=size).astype(np.float32)
    mask = np.zeros((size, size), dtype=np.uint8)
    paint_strokes(canvas, mask, rng, count=num_digits // 2)
    digits = tuple(_paint_digit(canvas, mask, owned, rng) for _ in range(num_digits))
    paint_strokes(canvas, mask, rng, count=num_digits // 10)
    canvas += rng.integers(-NOISE, NOISE + 1, canvas.shape, dtype=np.int8)
    return Scene(image=np.clip(canvas, 0, 255).astype(np.uint8), mask=mask, digits=digits)


def enlarge_glyph(
    glyph: Floats, *, size: float, angle: float
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return the opacity of a glyph, enlarged and rotated, and where it is.

    Args:
        glyph: (8, 8), ink 0 to 1.
        size: Side of the glyph afterwards, px.
        angle: Its rotation.

    Returns:
        Two squares, somewhat larger than `size`, with the glyph in the middle.
    """
    cells = glyph.shape[0] + 2 * _PAD
    cell_px = size / glyph.shape[0]
    side = round(cells * cell_px)
    fine = Image.fromarray(np.pad(glyph, _PAD)).resize((side, side), Image.Resampling.BICUBIC)
    ink = np.asarray(fine.rotate(angle, Image.Resampling.BILINEAR))
    # Between two cells ink rises by about its whole range: this makes the blend `_RIM_PX` wide.
    rim = np.clip((ink - INK) * cell_px / _RIM_PX + 0.5, 0, 1)
    density = PALEST + (1 - PALEST) * np.clip((ink - INK) / (1 - INK), 0, 1)
    return (rim * density).astype(np.float32), ink > INK


def _paint_digit(canvas: Floats, mask: Pixels, owned: Originals, rng: np.random.Generator) -> Digit:
    which = int(rng.integers(len(owned.labels)))
    size = float(np.exp(rng.uniform(*np.log(SIZES_PX))))
    angle = float(rng.uniform(-LARGEST_ANGLE, LARGEST_ANGLE))
    opacity, there = enlarge_glyph(owned.glyphs[which], size=size, angle=angle)
    side = len(there)
    top, left = _place(mask, side, rng)
    inside = np.s_[max(0, -top) : len(mask) - top, max(0, -left) : len(mask) - left]
    box = np.s_[max(0, top) : top + side, max(0, left) : left + side]
    opacity, there = opacity[inside], there[inside]
    colour = _contrasting(canvas[box][there], rng)
    canvas[box] += opacity[..., None] * (colour - canvas[box])
    mask[box][there] = 1 + owned.labels[which]
    red, green, blue = colour.tolist()
    return Digit(
        original=int(owned.indices[which]),
        label=int(owned.labels[which]),
        centre=(top + side / 2, left + side / 2),
        size=size,
        angle=angle,
        colour=(red, green, blue),
    )


def _place(mask: Pixels, side: int, rng: np.random.Generator) -> tuple[int, int]:
    """Return (top, left) of a square: of ten random places, the one with the fewest digits.

    Squares may reach over the border by an eighth.
    """
    over = side // 8
    places = rng.integers(-over, max(1 - over, len(mask) - side + over), (10, 2))

    def covered(place: npt.NDArray[np.int64]) -> int:
        top, left = np.maximum(place, 0)
        return int(np.count_nonzero(mask[top : top + side : 4, left : left + side : 4]))

    top, left = min(places, key=covered)
    return int(top), int(left)


def _contrasting(under: Floats, rng: np.random.Generator) -> Floats:
    """Return a random colour that is bright enough against the pixels `under`."""
    dark = float(under.mean(0) @ _BRIGHTNESS) if len(under) else 0.0
    least = min(dark + LEAST_CONTRAST, 200.0)
    while True:
        colour = rng.uniform(0, 255, 3).astype(np.float32)
        if float(colour @ _BRIGHTNESS) >= least:
            return colour
