"""What the files of a data set must be, together: judged on facts, without reading a pixel."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from fullconv.images._classes import IGNORE_8_BIT, IGNORE_16_BIT, ClassTable
from fullconv.images._dataset import Dataset, Sample
from fullconv.images._facts import ImageFacts, MaskFacts
from fullconv.images._faults import BrokenRuleError, Fault
from fullconv.images._masks import known_codes, refuse_unknown

# Without a class table, every index found is a class. More than this, with gaps between them, come
# from masks that were resized with interpolation, or that number objects instead of classes.
MAX_FOUND = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is known of each file that could be read."""

    images: dict[Path, ImageFacts]
    masks: dict[Path, MaskFacts]

    def pairs(self, samples: Iterable[Sample]) -> list[tuple[Sample, ImageFacts, MaskFacts]]:
        """Return the samples of which both files could be read."""
        return [
            (sample, self.images[sample.image], self.masks[sample.mask])
            for sample in samples
            if sample.mask in self.masks and sample.image in self.images
        ]


def found_classes(facts: Facts) -> ClassTable:
    """Return a class for each index in the masks, by size; 255 and 65535 are ignored."""
    used = {index for m in facts.masks.values() if not m.by_colour for index in m.counts}
    return ClassTable.of_indices(tuple(sorted(used - {IGNORE_8_BIT, IGNORE_16_BIT})))


def faults_in(dataset: Dataset, facts: Facts, classes: ClassTable) -> list[Fault]:
    """Return every rule that a readable file breaks."""
    samples = dataset.samples
    faults = [fault for pair in facts.pairs(samples) for fault in _sizes_differ(*pair)]
    faults += _minority(facts, lambda image: f"{image.channels} channels")
    faults += _minority(facts, lambda image: f"type {image.dtype}")
    if dataset.classes is None:
        faults += [
            Fault(path=path, rule="mask in colours without a class table; add classes.csv")
            for path, mask in facts.masks.items()
            if mask.by_colour
        ]
        return faults
    for path, mask in facts.masks.items():
        try:
            refuse_unknown(mask.counts, classes, by_colour=mask.by_colour)
        except BrokenRuleError as error:
            faults.append(Fault(path=path, rule=str(error)))
    return faults


def general_fault(dataset: Dataset, facts: Facts, classes: ClassTable) -> str | None:
    """Return what is wrong with the data as a whole, if every file in itself is sound."""
    contiguous = classes.indices == tuple(range(classes.num_classes))
    if dataset.classes is None and classes.num_classes > MAX_FOUND and not contiguous:
        return (
            f"masks hold {classes.num_classes} different indices; without a class table at most "
            f"{MAX_FOUND} are taken for classes, unless they are 0, 1, 2 … without gaps. Were they "
            "resized with interpolation, or do they number objects? If not, add classes.csv"
        )
    if "train" not in dataset.splits:
        return None
    counts, ignored = count(dataset.splits["train"], facts, classes)
    present = [name for name, px in zip(classes.names, counts, strict=True) if px]
    if len(present) >= 2:
        return None
    got = f"one class only ({present[0]})" if present else "no class at all"
    hint = (
        f"; {ignored:,} px are 255, which is read as ignored: if it is a class, add classes.csv "
        "with the lines `index,name`, `0,background`, `255,NAME`"
        if ignored and not classes.ignored
        else ""
    )
    return f"masks of the training images must hold at least 2 classes, got {got}{hint}"


def count(
    samples: Iterable[Sample], facts: Facts, classes: ClassTable
) -> tuple[tuple[int, ...], int]:
    """Return the pixels of each class in some masks, and the ignored ones."""
    totals: Counter[int] = Counter()
    for _, _, mask in facts.pairs(samples):
        known = known_codes(classes, by_colour=mask.by_colour)
        for code, px in mask.counts.items():
            totals[known[code]] += px
    return tuple(totals[place] for place in range(classes.num_classes)), totals[classes.ignore]


def _sizes_differ(sample: Sample, image: ImageFacts, mask: MaskFacts) -> list[Fault]:
    if image.shape == mask.shape or sample.mask is None:
        return []
    turned = image.shape == mask.shape[::-1] and image.turned != mask.turned
    hint = "; one of them is turned by its orientation tag" if turned else ""
    rule = f"must be as large as its image, {_size(image.shape)} px, got {_size(mask.shape)}{hint}"
    return [Fault(path=sample.mask, rule=rule)]


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape)


def _minority(facts: Facts, kind: Callable[[ImageFacts], str]) -> list[Fault]:
    """Return the images that differ from most others in a property that all must share."""
    kinds = {path: kind(image) for path, image in facts.images.items()}
    if len(set(kinds.values())) < 2:
        return []
    ((usual, num_usual),) = Counter(kinds.values()).most_common(1)
    rule = f"; all images must be alike, and {num_usual} of {len(kinds)} have {usual}"
    return [Fault(path=p, rule=f"has {got}{rule}") for p, got in kinds.items() if got != usual]
