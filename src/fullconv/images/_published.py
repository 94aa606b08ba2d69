"""PASCAL VOC, SBD and CamVid as they are published: images, masks and splits, and what the classes are.

- VOC 2007 to 2012: ``JPEGImages``, ``SegmentationClass`` and ``ImageSets/Segmentation/*.txt``
- SBD: ``img``, ``cls`` (``.mat``), ``train.txt`` and ``val.txt``, in ``benchmark_RELEASE/dataset`` or alone
- a folder that holds both, as the authors of FCN used them: training on SBD's ``train``, validation on
  VOC's ``val`` without what SBD trains on (736 images of VOC 2011), or on ``seg11valid.txt`` if it is there
- CamVid with 11 classes, as SegNet uses it: ``train`` beside ``trainannot``, ``val`` and ``test`` likewise,
  in ``CamVid`` or alone
"""

from __future__ import annotations

from collections import Counter
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
SHOWN = 5
# The order and the colours of SegNet's 11 classes; what is none of them has 11.
CAMVID = {
    "sky": (128, 128, 128), "building": (128, 0, 0), "pole": (192, 192, 128), "road": (128, 64, 128),
    "pavement": (60, 40, 222), "tree": (128, 128, 0), "sign": (192, 128, 128), "fence": (64, 64, 128),
    "car": (64, 0, 128), "pedestrian": (64, 64, 0), "bicyclist": (0, 128, 192),
}  # fmt: skip
CAMVID_CLASSES = ClassTable(
    names=tuple(CAMVID), colours=tuple(CAMVID.values()), ignored=(11,), ignored_colours=((0, 0, 0),)
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """An image that a list names: its split, and where image and mask lie."""

    split: str
    image: Path
    mask: Path


def published(root: Path) -> list[Listed] | None:
    """Return what the lists of VOC or SBD in a folder name; None where there are neither.

    Raises:
        BadDataError: If a list is missing, names nothing or an image twice, or more than one year of VOC
            lies there.
    """
    voc, sbd = _voc(root), _sbd(root)
    if voc and sbd:
        train = _names(sbd / "train.txt")
        lists = voc / "ImageSets" / "Segmentation"
        chosen = SEG11VALID if (lists / f"{SEG11VALID}.txt").is_file() else "val"
        seen = set(train)
        val = [name for name in _names(lists / f"{chosen}.txt") if name not in seen]
        if not val:
            raise BadDataError(
                f"`data` must have images in {lists / f'{chosen}.txt'} that {sbd / 'train.txt'} does not "
                "train on, got none; take other lists, or VOC or SBD alone"
            )
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


def camvid_folders(root: Path) -> list[tuple[str, Path, Path]]:
    """Return split, images and masks of CamVid as SegNet lays it out; nothing where it is not there."""
    found = [
        (split, home / split, home / f"{split}annot")
        for home in (root, root / "CamVid")
        for split in ("train", "val", "test")
    ]
    return [(split, one, other) for split, one, other in found if one.is_dir() and other.is_dir()]


def published_classes(root: Path) -> ClassTable | None:
    """Return the classes of what lies in a folder as it was published; None where nothing does."""
    if not root.is_dir():
        return None
    if _voc(root) or _sbd(root):
        return VOC_CLASSES
    return CAMVID_CLASSES if camvid_folders(root) else None


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
    """Return what a list names: each image once, or it would be trained on, or scored, twice."""
    try:
        names = path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise BadDataError(f"`data` must have the list {path}, got: {error.strerror}") from error
    if not names:
        raise BadDataError(
            f"`data` must have names of images in {path}, got an empty list; put it back as it was "
            "published"
        )
    repeated = [f"{name} {times} times" for name, times in Counter(names).items() if times > 1]
    if repeated:
        more = f" and {len(repeated) - SHOWN} more" if len(repeated) > SHOWN else ""
        raise BadDataError(
            f"`data` must name each image once in {path}, got {', '.join(repeated[:SHOWN])}{more}; "
            "leave one of each"
        )
    return names


def _of_voc(root: Path, split: str, names: Sequence[str]) -> list[Listed]:
    images, masks = root / "JPEGImages", root / "SegmentationClass"
    return [Listed(split=split, image=images / f"{n}.jpg", mask=masks / f"{n}.png") for n in names]


def _of_sbd(root: Path, split: str, names: Sequence[str]) -> list[Listed]:
    images, masks = root / "img", root / "cls"
    return [Listed(split=split, image=images / f"{n}.jpg", mask=masks / f"{n}.mat") for n in names]
