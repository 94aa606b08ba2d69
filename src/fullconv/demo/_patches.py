"""Patches: small sub-images of scenes, and what stands in the middle of each.

Shapes: ``N`` patches, ``S`` px, their side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fullconv.demo._scenes import Scene

SIDE = 112  # px: a digit of middling size with its surroundings; a multiple of 32
BACKGROUND_SHARE = 0.15
JITTER = 0.12  # of a digit's size: how far its middle may be from the patch's
# Of the patch's px, this share must show the digit, or it is not drawn: it lies under others.
LEAST_SHOWN = 0.04
_EMPTY_PX = 16  # a patch of background has no digit so near to its middle
_TRIES = 1000  # at finding such a patch


@dataclass(frozen=True, kw_only=True, slots=True)
class Patches:
    """Some patches.

    Attributes:
        images: (N, S, S, 3) uint8.
        masks: (N, S, S) uint8.
        labels: (N,) class of what is in the middle: 0 background, ``1 + digit``.
    """

    images: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a digit is shown: scene, middle in px, class and size."""

    scene: int
    y: float
    x: float
    label: int
    size: float


class PatchSource:
    """Draws patches from scenes: each shown digit is as likely as any other.

    Args:
        scenes: At least `SIDE` px wide.
        rng: What to draw with.
    """

    def __init__(self, scenes: Sequence[Scene], rng: np.random.Generator) -> None:
        self.scenes = scenes
        self.rng = rng
        self._places = [
            place
            for index, scene in enumerate(scenes)
            for digit in scene.digits
            if _shown(scene, place := _Place(index, *digit.centre, 1 + digit.label, digit.size))
        ]

    def draw(self, count: int) -> Patches:
        """Return `count` random patches."""
        corners = [self._corner() for _ in range(count)]
        cuts = [(scene, np.s_[y : y + SIDE, x : x + SIDE]) for scene, y, x, _ in corners]
        return Patches(
            images=np.stack([self.scenes[scene].image[cut] for scene, cut in cuts]),
            masks=np.stack([self.scenes[scene].mask[cut] for scene, cut in cuts]),
            labels=np.array([label for *_, label in corners]),
        )

    def _corner(self) -> tuple[int, int, int, int]:
        """Return scene, top, left and label of a patch."""
        empty = self.rng.random() < BACKGROUND_SHARE or not self._places
        return (self._background() if empty else None) or self._digit()

    def _digit(self) -> tuple[int, int, int, int]:
        while True:
            place = self._places[int(self.rng.integers(len(self._places)))]
            y, x = (
                round(v + place.size * self.rng.uniform(-JITTER, JITTER)) - SIDE // 2
                for v in (place.y, place.x)
            )
            size = len(self.scenes[place.scene].mask)
            if min(y, x) >= 0 and max(y, x) + SIDE <= size:
                return place.scene, y, x, place.label

    def _background(self) -> tuple[int, int, int, int] | None:
        """Return a patch with an empty middle; None where none is found and a digit can be shown."""
        tries = _TRIES
        while tries or not self._places:
            tries -= 1
            index = int(self.rng.integers(len(self.scenes)))
            mask = self.scenes[index].mask
            y, x = (int(v) for v in self.rng.integers(0, len(mask) - SIDE + 1, 2))
            near = SIDE // 2 - _EMPTY_PX, SIDE // 2 + _EMPTY_PX
            if not mask[y + near[0] : y + near[1], x + near[0] : x + near[1]].any():
                return index, y, x, 0
        return None


def _shown(scene: Scene, place: _Place) -> bool:
    """Return whether the patch around a digit lies in the scene and shows enough of it."""
    y, x = round(place.y) - SIDE // 2, round(place.x) - SIDE // 2
    if min(y, x) < 0 or max(y, x) + SIDE > len(scene.mask):
        return False
    mask = scene.mask[y : y + SIDE, x : x + SIDE]
    return int(np.count_nonzero(mask == place.label)) >= LEAST_SHOWN * mask.size
