"""Draw the picture of the README: image, truth and prediction of the demo's median test image.

Usage: python docs/draw_demo.py runs/demo docs/demo.jpg
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fullconv.images import ClassTable, read_image, read_mask
from fullconv.runs import Run

SIDE, GAP, HEAD, FOOT = 460, 14, 34, 40
INK, PAPER = (27, 36, 48), (255, 255, 255)


def median_image(run: Run) -> str:
    """Return the name of the held-out image with the median mean IU, of two the better."""
    order = sorted(run.evaluation()["images"], key=lambda image: -image["mean_iu"])
    return order[(len(order) - 1) // 2]["name"]


def panels(run: Run, name: str) -> dict[str, Image.Image]:
    """Return image, truth and prediction as pictures, by caption."""
    data, classes = run.data(), run.classes()
    (files,) = [one for some in data["splits"].values() for one in some if one["name"] == name]
    table = np.array(classes.colours, dtype=np.uint8)
    masks = {"truth": files["mask"], "prediction": run.predictions / f"{name}.png"}
    size = "{1} x {0} px".format(*data["survey"]["shapes"][name])
    image = Image.fromarray(read_image(Path(files["image"])).transpose(1, 2, 0))
    found = {f"image, {size}": image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)}
    for caption, path in masks.items():
        labels = Image.fromarray(table[read_mask(Path(path), classes)])
        found[caption] = labels.resize((SIDE, SIDE), Image.Resampling.BOX)
    return found


def draw(shown: dict[str, Image.Image], classes: ClassTable) -> Image.Image:
    """Return the pictures in a row below their captions, and the classes below them."""
    width = len(shown) * (SIDE + GAP) - GAP
    sheet = Image.new("RGB", (width, HEAD + SIDE + FOOT), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(20)
    for place, (caption, picture) in enumerate(shown.items()):
        left = place * (SIDE + GAP)
        sheet.paste(picture, (left, HEAD))
        pen.text((left, 4), caption, INK, font)
    left, top = 0, HEAD + SIDE + 12
    for name, colour in zip(classes.names, classes.colours, strict=True):
        pen.rectangle((left, top + 2, left + 18, top + 20), colour)
        pen.text((left + 26, top - 2), name, INK, font)
        left += 26 + round(pen.textlength(name, font)) + 28
    return sheet


def main(run: Path, out: Path) -> None:
    """Draw the picture of a demo's run."""
    trained = Run.open(run)
    sheet = draw(panels(trained, median_image(trained)), trained.classes())
    sheet.save(out, quality=82, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
