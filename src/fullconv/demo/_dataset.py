"""The demo's data set: scenes written as any user's data would lie on disk."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from fullconv.demo._originals import DIGITS, Split, originals
from fullconv.demo._scenes import NUM_DIGITS, SIZE, Scene, make_scene
from fullconv.errors import BadOutputError
from fullconv.images import ClassTable, atomic, write_labels

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_COLOURS = (  # by digit; matplotlib's tab10, its grey lighter
    *((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189)),
    *((140, 86, 75), (227, 119, 194), (200, 200, 200), (188, 189, 34), (23, 190, 207)),
)
CLASSES = ClassTable(
    names=("background", *(_WORDS[digit] for digit in DIGITS)),
    colours=(
        (0, 0, 0),
        *(_COLOURS[digit] for digit in DIGITS),
    ),
)
JPEG_QUALITY = 92
_NOTE = "about.txt"
_ABOUT = """\
Made by `fullconv demo`, which replaces this folder when it runs again.

Handwritten digits (UCI's Optical Recognition of Handwritten Digits) over two photographs, as both
ship inside scikit-learn. train, val and test share no digit and no part of a photograph.
"""


def write_scenes(
    folder: Path,
    counts: Mapping[Split, int],
    *,
    seed: int,
    size: int = SIZE,
    num_digits: int = NUM_DIGITS,
    progress: Callable[[int, int], None] | None = None,
) -> dict[Split, tuple[Scene, ...]]:
    """Compose scenes, write them as a data set, and return them.

    Args:
        folder: Where to write; what an earlier call wrote there is replaced.
        counts: Number of scenes in each split.
        seed: As for `make_scenes`.
        size: Side of the images, px.
        num_digits: Digits in each.
        progress: Called with the number of scenes written and of all.

    Raises:
        BadOutputError: If something else lies at `folder`, or it cannot be written.
    """
    _make_way(folder)
    jobs: list[tuple[Split, int]] = [(s, i) for s, count in counts.items() for i in range(count)]
    owned = {split: originals(split) for split in counts}

    def one(job: tuple[Split, int]) -> Scene:
        split, index = job
        scene = make_scene(owned[split], (seed, index), size=size, num_digits=num_digits)
        _write(folder / split, f"{split}_{index:03d}", scene)
        return scene

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        scenes: list[Scene] = []
        for scene in pool.map(one, jobs):
            scenes.append(scene)
            if progress:
                progress(len(scenes), len(jobs))
    _write_classes(folder / "classes.csv")
    return {split: _of(split, jobs, scenes) for split in counts}


def _of(
    split: Split, jobs: Sequence[tuple[Split, int]], scenes: Sequence[Scene]
) -> tuple[Scene, ...]:
    return tuple(scene for (s, _), scene in zip(jobs, scenes, strict=True) if s == split)


def _make_way(folder: Path) -> None:
    """Remove the data of an earlier demo; refuse to touch anything else."""
    if folder.exists() and not (folder / _NOTE).is_file():
        raise BadOutputError(
            f"`out` must leave room for the demo's data beside it, got {folder}, which holds "
            "something else; choose another name"
        )
    if folder.exists():
        shutil.rmtree(folder)
    with atomic(folder / _NOTE) as temporary:
        temporary.write_text(_ABOUT, encoding="utf-8")


def _write(folder: Path, name: str, scene: Scene) -> None:
    with atomic(folder / "images" / f"{name}.jpg") as temporary:
        Image.fromarray(scene.image).save(temporary, format="JPEG", quality=JPEG_QUALITY)
    write_labels(folder / "masks" / f"{name}.png", scene.mask, CLASSES)


def _write_classes(path: Path) -> None:
    rows = zip(CLASSES.indices, CLASSES.names, CLASSES.colours, strict=True)
    lines = [f"{i},{name},{';'.join(map(str, colour))}\n" for i, name, colour in rows]
    with atomic(path) as temporary:
        temporary.write_text("index,name,colour\n" + "".join(lines), encoding="utf-8")
