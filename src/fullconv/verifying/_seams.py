"""The seam report: a part of a real image, whole and through windows of several covers."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor, nn

from fullconv.errors import BadOutputError
from fullconv.execution import like_weights, read, run_window
from fullconv.geometry import Box, Geometry, Window, grid_of
from fullconv.tracing import trace

# What rounding may change, relative to the largest logit: other shapes, other kernels.
TOLERANCE = 1e-4
# Windows of the covers, (down, across): strips, and boxes with borders at other places.
COUNTS = ((2, 1), (2, 3), (4, 4))
# Of the picture: between covers, and above them.
GAP_PX, TITLE_PX = 16, 18


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Seams:
    """How the map of a part of an image differs between windows and the whole part.

    Attributes:
        part: Which px of the image.
        covers: The covers that were compared.
        differences: For each, the largest difference over the classes, `(*map)`, relative to the
            largest logit of the part.
    """

    part: Box
    covers: tuple[tuple[Window, ...], ...]
    differences: tuple[NDArray[np.float32], ...]

    @property
    def largest(self) -> float:
        """The largest difference of all covers."""
        return max(float(difference.max()) for difference in self.differences)

    @property
    def passed(self) -> bool:
        """Whether nothing differs by more than rounding."""
        return self.largest <= TOLERANCE

    def __str__(self) -> str:
        lines = [f"part {self.part.start} to {self.part.stop}"]
        for cover, difference in zip(self.covers, self.differences, strict=True):
            most = float(difference.max())
            place = tuple(int(i) for i in np.unravel_index(difference.argmax(), difference.shape))
            where = "" if most <= TOLERANCE else f", at unit {place}: {_why(cover, place)}"
            lines.append(f"{_title(cover, difference)}{where}")
        return "\n".join(lines)

    def draw(self, path: Path) -> None:
        """Write a PNG picture of the covers side by side, each below its largest difference.

        Differences go from white (none) to red, over the windows' borders as grey lines.

        Raises:
            BadOutputError: If its name says another format.
        """
        if path.suffix.lower() != ".png":
            raise BadOutputError(f"`picture` must end in .png, got {path.name}")
        panels = [_panel(c, d) for c, d in zip(self.covers, self.differences, strict=True)]
        titles = [_title(c, d) for c, d in zip(self.covers, self.differences, strict=True)]
        wide = [
            max(panel.width, ceil(ImageDraw.Draw(panel).textlength(title)))
            for panel, title in zip(panels, titles, strict=True)
        ]
        width = sum(wide) + GAP_PX * (len(wide) - 1)
        picture = Image.new("RGB", (width, TITLE_PX + panels[0].height), "white")
        left = 0
        for panel, title, space in zip(panels, titles, wide, strict=True):
            ImageDraw.Draw(picture).text((left, 2), title, fill="black")
            picture.paste(panel, (left, TITLE_PX))
            left += space + GAP_PX
        picture.save(path)


def seams(net: nn.Module, image: Any, *, side: int = 512) -> Seams:
    """Return how the middle of an image differs between several covers and one run over all of it.

    Args:
        net: Takes `(batch, channels, *spatial)`, returns a map; in eval mode.
        image: `(channels, height, width)`, anything that gives arrays when it is sliced.
        side: Most px per side of the part.

    Raises:
        NotLocalError: If a layer looks at the whole image.
    """
    shape = tuple(image.shape[1:])
    legal = trace(net, image.shape[0]).nearest_shapes(tuple(min(side, n) for n in shape))[0]
    part = _middle(
        shape, legal if all(a <= n for a, n in zip(legal, shape, strict=True)) else shape
    )
    geometry = trace(net, image.shape[0], shape=part.shape)
    pixels = read(image, part, like_weights(net))
    with torch.inference_mode():
        whole: Tensor = net(pixels[None])[0]
        scale = float(whole.abs().max()) or 1.0
        covers = _covers(geometry, part.shape)
        differences = [_difference(net, pixels, whole, cover) / scale for cover in covers]
    return Seams(part=part, covers=tuple(covers), differences=tuple(differences))


def _covers(geometry: Geometry, sides: tuple[int, ...]) -> list[tuple[Window, ...]]:
    """Return grids of few windows, cut by what they own: fields may be as large as the part."""
    map_shape = geometry.map_shape(sides)
    blocks = [
        tuple(ceil(m / n) for m, n in zip(map_shape, counts, strict=True)) for counts in COUNTS
    ]
    return [grid_of(geometry, sides, block) for block in dict.fromkeys(blocks)]


def _middle(shape: tuple[int, ...], sides: tuple[int, ...]) -> Box:
    start = tuple((n - side) // 2 for n, side in zip(shape, sides, strict=True))
    return Box(start=start, stop=tuple(a + side for a, side in zip(start, sides, strict=True)))


def _difference(
    net: nn.Module, pixels: Tensor, whole: Tensor, cover: tuple[Window, ...]
) -> NDArray[np.float32]:
    found = torch.zeros(whole.shape[1:], device=whole.device)
    for window in cover:
        units = run_window(net, pixels[(slice(None), *window.reads.slices)], window)
        exact = whole[(slice(None), *window.units.slices)]
        found[window.units.slices] = (units - exact).abs().amax(0).float()
    return found.cpu().numpy()


def _why(cover: tuple[Window, ...], place: tuple[int, ...]) -> str:
    """Return how far a unit is from the border of its window."""
    window = next(
        w for w in cover if w.units.contains(Box(start=place, stop=tuple(p + 1 for p in place)))
    )
    edges = zip(place, window.units.start, window.units.stop, strict=True)
    near = min(min(p - a, b - 1 - p) for p, a, b in edges)
    return f"{near} units from the border of its window, units {window.units.start} to {window.units.stop}"


def _title(cover: tuple[Window, ...], difference: NDArray[np.float32]) -> str:
    return f"{len(cover)} windows: largest difference {float(difference.max()):.1e}"


def _panel(cover: tuple[Window, ...], difference: NDArray[np.float32]) -> Image.Image:
    panel = Image.new("RGB", difference.shape[::-1], "white")
    draw = ImageDraw.Draw(panel)
    for window in cover:
        (y0, x0), (y1, x1) = window.units.start, window.units.stop
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=(190, 190, 190))
    share = np.minimum(1, difference / max(TOLERANCE, float(difference.max())))
    colours = np.array(panel)
    differs = difference > TOLERANCE  # seams lie on the lines
    fading = (255 * (1 - share[differs])).astype(np.uint8)
    colours[differs] = np.stack([np.full_like(fading, 255), fading, fading], -1)
    return Image.fromarray(colours)
