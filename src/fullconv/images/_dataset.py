"""A data set: which image belongs to which mask, and to which split.

These layouts are understood. Images and masks are matched by stem (by path, in sub-folders).

- a folder with ``images/`` and ``masks/``
- a folder with ``train/`` and, if there, ``val/`` and ``test/``, each with ``images/`` and
  ``masks/``; or ``images/`` and ``masks/`` with those folders inside
- PASCAL VOC and SBD as they are published, one of them or both in one folder, and CamVid as SegNet
  uses it; see `_published`
- a CSV file with the columns ``image``, ``mask`` and, if wanted, ``split`` (train, val or test);
  paths are relative to it; rows without a split are for training

Beside them, ``classes.csv`` or ``classes.yaml`` says what the masks' indices mean.

What fits no pair is not passed over: it is kept as a fault, and `survey` raises for all of them
together with the files that cannot be read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fullconv.errors import BadDataError
from fullconv.images._classes import ClassTable
from fullconv.images._faults import Fault
from fullconv.images._layouts import find_pairs
from fullconv.images._published import published_classes
from fullconv.images._sample import Sample
from fullconv.images._split import split_by_name

TABLE_NAMES = ("classes.csv", "classes.yaml", "classes.yml")
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """Pairs of image and mask by split.

    Attributes:
        root: Folder of the data set, or that of its CSV file.
        splits: Samples by split: ``train``, ``val``, ``test``. A split without samples is left out.
        classes: The class table beside the data, if there is one; otherwise `survey` finds it.
        split_by_name: Whether ``val`` was made from ``train``, by name.
        faults: What keeps the data from being used as it is; `survey` raises for it.
    """

    root: Path
    splits: Mapping[str, tuple[Sample, ...]]
    classes: ClassTable | None = None
    split_by_name: bool = False
    faults: tuple[Fault, ...] = ()

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All samples, split after split."""
        return tuple(sample for split in self.splits.values() for sample in split)

    @property
    def held_out(self) -> str:
        """The split that evaluation uses: ``test`` if the data bring one, otherwise ``val``."""
        return "test" if "test" in self.splits else "val"


def open_dataset(data: Path, *, training: bool = True) -> Dataset:
    """Return the pairs of image and mask in a folder or a CSV file; read no pixel.

    Without a given validation split, about 15 % of the training images become one: fixed, chosen
    by name, whatever the order of the files. Evaluation uses ``test`` if the data bring one,
    otherwise ``val``, which then also chose the best weights, and so flatters a little.

    Args:
        data: A folder or a ``.csv`` file; the layouts are at the top of this module.
        training: False for data that are only evaluated: nothing is split, ``train`` may be
            missing, one image is enough. Where the data make no split, all of it is ``test``.

    Raises:
        BadDataError: If there is no such layout, nothing in it, or one image only when two are
            needed. Single bad files are left to `survey`, which tells of all at once.
    """
    root, found, faults = find_pairs(Path(data))
    home = "train" if training or found.keys() - {""} else "test"
    splits = {s: (*found.get(s, ()), *(found.get("", ()) if s == home else ())) for s in SPLITS}
    classes = _class_table(root) or published_classes(root)
    makes_split = training and not splits["val"]
    if training and not faults:
        _refuse_too_few(splits)
    if makes_split and len(splits["train"]) > 1:
        kept, held = split_by_name(splits["train"], lambda sample: sample.name)
        splits |= {"train": tuple(kept), "val": tuple(held)}
    return Dataset(
        root=root,
        splits={split: samples for split, samples in splits.items() if samples},
        classes=classes,
        split_by_name=makes_split,
        faults=faults,
    )


def _refuse_too_few(splits: Mapping[str, tuple[Sample, ...]]) -> None:
    if not splits["train"]:
        given = " and ".join(split for split, samples in splits.items() if samples)
        raise BadDataError(f"`data` must have images to train on, got only {given}; add train/")
    if len(splits["train"]) == 1 and not splits["val"]:
        raise BadDataError(
            "`data` must hold at least 2 images, one to train on and one to validate on, got 1 "
            f"({splits['train'][0].image}); cut it in two, or add another, for example in val/"
        )


def _class_table(root: Path) -> ClassTable | None:
    found = [root / name for name in TABLE_NAMES if (root / name).is_file()]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise BadDataError(f"`data` must have one class table, got {names} in {root}; remove one")
    return ClassTable.read(found[0]) if found else None
