"""Where the pairs of a data set are: several layouts, one list of pairs by split.

The split ``""`` holds pairs that the data assign to none.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from unicodedata import normalize

from fullconv.errors import BadDataError
from fullconv.images._class_files import csv_rows
from fullconv.images._faults import BrokenRuleError, Fault, bad_file
from fullconv.images._files import SUFFIXES, long_stem, stem, visible_files
from fullconv.images._published import camvid_folders, published
from fullconv.images._sample import Sample
from fullconv.regions import split_name

SPLIT_OF = {
    "": "",
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
LAYOUT = (
    "`data` must be a folder with images/ and masks/ (or train/, val/, test/ with those inside), "
    "or a CSV file with the columns image and mask"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """An image and its mask, before the pair has a name."""

    split: str
    image: Path
    mask: Path


Found = tuple[Path, dict[str, tuple[Sample, ...]], tuple[Fault, ...]]


def find_pairs(data: Path) -> Found:
    """Return the root of a data set, its samples by split, and what fits no pair."""
    if not data.exists():
        raise BadDataError(f"{LAYOUT}; {data} does not exist")
    try:
        is_folder = data.is_dir()
        pairs, faults = _folder_pairs(data) if is_folder else _csv_pairs(data)
    except OSError as error:
        raise bad_file(data, f"cannot be read ({error.strerror})") from error
    root = data if is_folder else data.parent
    if not pairs and not faults:
        raise BadDataError(f"`data` must hold images ({' '.join(SUFFIXES)}), got none in {data}")
    splits = _named(pairs, root)
    return root, splits, (*faults, *_same_names(splits))


def _folder_pairs(root: Path) -> tuple[list[Pair], list[Fault]]:
    if (listed := published(root)) is not None:
        return [Pair(split=one.split, image=one.image, mask=one.mask) for one in listed], []
    pairs: list[Pair] = []
    faults: list[Fault] = []
    for split, images, masks in _folders(root):
        some, wrong = _match(split, images, masks)
        pairs += some
        faults += wrong
    return pairs, faults


def _folders(root: Path) -> list[tuple[str, Path, Path]]:
    """Return (split, images, masks) for each split of a folder."""
    if camvid := camvid_folders(root):
        return camvid
    outside = _split_folders(root)
    if (root / "images").is_dir() and (root / "masks").is_dir():
        if outside:
            both = f"images/ and {next(iter(outside.values()))}/"
            raise BadDataError(f"{LAYOUT}; {root} holds both {both}; remove one")
        inside = _split_folders(root / "images") or {"": ""}
        return [(s, root / "images" / f, root / "masks" / f) for s, f in inside.items()]
    for name in outside.values():
        if not (root / name / "images").is_dir() or not (root / name / "masks").is_dir():
            raise BadDataError(f"{LAYOUT}; {_what_is_there(root / name)}")
    if outside:
        return [(s, root / f / "images", root / f / "masks") for s, f in outside.items()]
    raise BadDataError(f"{LAYOUT}; {_what_is_there(root)}")


def _split_folders(folder: Path) -> dict[str, str]:
    """Return split → name of its folder."""
    names = sorted(p.name for p in folder.iterdir() if p.is_dir())
    found = [(SPLIT_OF[name.lower()], name) for name in names if name.lower() in SPLIT_OF]
    for split, count in Counter(split for split, _ in found).items():
        if count > 1:
            same = " and ".join(name for s, name in found if s == split)
            raise BadDataError(f"`data` must have one folder a split, got {same} in {folder}")
    return dict(found)


def _what_is_there(root: Path) -> str:
    names = sorted(p.name for p in root.iterdir() if p.is_dir())
    if not names:
        return f"{root} holds no folder"
    missing = [name for name in ("images", "masks") if name not in names]
    alike = {"images": ["image", "imgs", "img"], "masks": ["mask", "labels", "annotations"]}
    hints = [
        f"rename {near[0]}/ to {name}/"
        for name in missing
        for candidate in [name, *alike[name]]
        if (near := get_close_matches(candidate, names, n=1, cutoff=0.8))
    ]
    hint = f"; {hints[0]}" if hints else ""
    return f"{root} holds {', '.join(f'{name}/' for name in names[:8])}{hint}"


def _match(split: str, images: Path, masks: Path) -> tuple[list[Pair], list[Fault]]:
    image_by_key, faults = _by_key(images)
    mask_by_key, more = _by_key(masks)
    faults += more
    faults += [
        Fault(path=path, rule=f"image without a mask: no {key}.* in {masks.name}/")
        for key, path in image_by_key.items()
        if key not in mask_by_key
    ]
    faults += [
        Fault(path=path, rule=f"mask without an image: no {key}.* in {images.name}/")
        for key, path in mask_by_key.items()
        if key not in image_by_key
    ]
    both = [key for key in image_by_key if key in mask_by_key]
    return [Pair(split=split, image=image_by_key[k], mask=mask_by_key[k]) for k in both], faults


def _by_key(folder: Path) -> tuple[dict[str, Path], list[Fault]]:
    """Return the files of a folder by path without suffix; what is no image, or is there twice.

    Names that look the same are the same: macOS writes ä as a and two dots, others as one letter.
    """
    found: dict[str, Path] = {}
    faults: list[Fault] = []
    for path in visible_files(folder, recursive=True) if folder.is_dir() else []:
        key = normalize("NFC", path.relative_to(folder).with_name(stem(path)).as_posix())
        if path.suffix.lower() not in SUFFIXES:
            rule = f"is not an image: its suffix is none of {' '.join(SUFFIXES)}"
            faults.append(Fault(path=path, rule=rule))
        elif key in found:
            rule = f"has the same stem as {found[key].name}; rename one"
            faults.append(Fault(path=path, rule=rule))
        else:
            found[key] = path
    return found, faults


def _csv_pairs(path: Path) -> tuple[list[Pair], list[Fault]]:
    try:
        rows = csv_rows(path)
    except (OSError, UnicodeDecodeError, BrokenRuleError) as error:
        raise bad_file(path, f"cannot be read as CSV ({error})") from error
    if rows and not {"image", "mask"} <= rows[0].keys():
        got = ", ".join(rows[0])
        raise bad_file(path, f"must have the columns image and mask, got {got}")
    pairs: list[Pair] = []
    faults: list[Fault] = []
    for line, row in enumerate(rows, start=2):
        split = row.get("split", "").lower()
        if split not in SPLIT_OF:
            raise bad_file(path, f"line {line}: `split` must be train, val or test, got `{split}`")
        empty = [column for column in ("image", "mask") if not row[column]]
        if empty:
            faults.append(Fault(path=path, rule=f"line {line}: `{empty[0]}` must name a file"))
            continue
        image, mask = path.parent / row["image"], path.parent / row["mask"]
        pairs.append(Pair(split=SPLIT_OF[split], image=image, mask=mask))
    times = Counter(pair.image for pair in pairs)
    repeated = [p for p, count in times.items() if count > 1]
    faults += [Fault(path=p, rule=f"is listed {times[p]} times in {path.name}") for p in repeated]
    return pairs, faults


def _named(pairs: Iterable[Pair], root: Path) -> dict[str, tuple[Sample, ...]]:
    """Return the samples by split, named by stem, or by path where stems are equal.

    Names become those of files: what is called inside a file is a part like the others.
    """
    pairs = list(pairs)
    stems = Counter(stem(pair.image) for pair in pairs)
    splits: dict[str, tuple[Sample, ...]] = {}
    for pair in sorted(pairs, key=lambda p: p.image):
        short = stems[stem(pair.image)] == 1
        name = stem(pair.image) if short else _long_name(pair.image, root)
        sample = Sample(name=name, image=pair.image, mask=pair.mask)
        splits[pair.split] = (*splits.get(pair.split, ()), sample)
    return splits


def _same_names(splits: dict[str, tuple[Sample, ...]]) -> list[Fault]:
    """Return what is left of equal names: ``city/1.png``, ``town/1.png`` beside ``city_1.png``."""
    samples = {sample.image: sample for some in splits.values() for sample in some}.values()
    times = Counter(sample.name for sample in samples)
    rule = "gets the name {}, as another image does; rename one"
    return [Fault(path=s.image, rule=rule.format(s.name)) for s in samples if times[s.name] > 1]


def _long_name(image: Path, root: Path) -> str:
    folder = split_name(image)[0].parent
    below = folder.relative_to(root) if folder.is_relative_to(root) else folder
    parts = [p for p in below.parts if p not in ("images", "/", "..")]
    return "_".join([*parts, long_stem(image)])
