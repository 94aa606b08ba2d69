"""PASCAL VOC and SBD as they are published: which image is in which split, and what the classes are.

- VOC 2007 to 2012: ``JPEGImages``, ``SegmentationClass`` and ``ImageSets/Segmentation/*.txt``
- SBD: ``img``, ``cls`` (``.mat``), ``train.txt`` and ``val.txt``, in ``benchmark_RELEASE/dataset`` or alone
- a folder that holds both, as the authors of FCN used them: training on SBD's ``train``, validation on
  VOC's ``val`` without what SBD trains on (736 images of VOC 2011), or on ``seg11valid.txt`` if it is there
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fullconv.errors import BadDataError
from fullconv.images._classes import ClassTable, default_colour

VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
VOC_CLASSES = ClassTable(names=VOC_NAMES, colours=tuple(map(default_colour, range(21))))
SEG11VALID = "seg11valid"


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """An image that a list names: its split, and where image and mask lie."""

    split: str
    image: Path
    mask: Path


def published(root: Path) -> list[Listed] | None:
    """Return what the lists of VOC or SBD in a folder name; None where there are neither.

    Raises:
        BadDataError: If a list is missing, or more than one year of VOC lies there.
    """
    voc, sbd = _voc(root), _sbd(root)
    if voc and sbd:
        train = _names(sbd / "train.txt")
        lists = voc / "ImageSets" / "Segmentation"
        chosen = SEG11VALID if (lists / f"{SEG11VALID}.txt").is_file() else "val"
        seen = set(train)
        val = [name for name in _names(lists / f"{chosen}.txt") if name not in seen]
        return [*_of_sbd(sbd, "train", train), *_of_voc(voc, "val", val)]
    if voc:
        lists = voc / "ImageSets" / "Segmentation"
        splits = [s for s in ("train", "val") if (lists / f"{s}.txt").is_file()]
        if not splits:
            raise BadDataError(f"`data` must have the lists of VOC, got no train.txt in {lists}")
        return [one for s in splits for one in _of_voc(voc, s, _names(lists / f"{s}.txt"))]
    if sbd:
        return [one for s in ("train", "val") for one in _of_sbd(sbd, s, _names(sbd / f"{s}.txt"))]
    return None


def is_published(root: Path) -> bool:
    """Return whether VOC or SBD lies in a folder, which have the classes of VOC."""
    return root.is_dir() and (_voc(root) is not None or _sbd(root) is not None)


def _voc(root: Path) -> Path | None:
    places = [root, *sorted(root.glob("VOC20*")), *sorted(root.glob("VOCdevkit/VOC20*"))]
    found = [p for p in places if (p / "JPEGImages").is_dir() and (p / "ImageSets").is_dir()]
    if len(found) > 1:
        years = " and ".join(p.name for p in found)
        raise BadDataError(f"`data` must have one year of VOC, got {years} in {root}; name one")
    return found[0] if found else None


def _sbd(root: Path) -> Path | None:
    places = [root, root / "dataset", root / "benchmark_RELEASE" / "dataset"]
    return next((p for p in places if (p / "img").is_dir() and (p / "cls").is_dir()), None)


def _names(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise BadDataError(f"`data` must have the list {path}, got: {error.strerror}") from error


def _of_voc(root: Path, split: str, names: Sequence[str]) -> list[Listed]:
    images, masks = root / "JPEGImages", root / "SegmentationClass"
    return [Listed(split=split, image=images / f"{n}.jpg", mask=masks / f"{n}.png") for n in names]


def _of_sbd(root: Path, split: str, names: Sequence[str]) -> list[Listed]:
    images, masks = root / "img", root / "cls"
    return [Listed(split=split, image=images / f"{n}.jpg", mask=masks / f"{n}.mat") for n in names]
