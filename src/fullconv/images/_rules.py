"""What the files of a data set must be, together: judged on facts, without reading a pixel."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from fullconv.images._classes import IGNORE_8_BIT, IGNORE_16_BIT, ClassTable
from fullconv.images._dataset import Dataset
from fullconv.images._facts import ImageFacts, MaskFacts
from fullconv.images._faults import BrokenRuleError, Fault, plural
from fullconv.images._masks import known_codes, refuse_unknown
from fullconv.images._sample import Sample

# Without a class table, every index found is a class, up to so many; the longest published lists
# have 182. With gaps between the indices, fewer: they come from masks that were resized with
# interpolation, or that number objects instead of classes.
MAX_FOUND = 200
MAX_FOUND_WITH_GAPS = 64
# Indices that lie ten times farther apart than need be are grey levels (0, 128, 255).
GREY_LEVEL_STEP = 10


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
    faults += _minority(facts, lambda image: plural(image.channels, "channel"))
    faults += _minority(facts, lambda image: f"type {image.dtype}")
    if dataset.classes is None:
        faults += [
            Fault(path=path, rule=_colours_without_table(mask))
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
    if dataset.classes is None and (problem := _not_classes(facts, classes)):
        return problem
    if "train" not in dataset.splits:
        return None
    counts, _ = count(dataset.splits["train"], facts, classes)
    present = [name for name, px in zip(classes.names, counts, strict=True) if px]
    if len(present) >= 2:
        return None
    got = f"one class only ({present[0]})" if present else "no class at all"
    hint = f"; {_hint_255(classes.indices)}" if _px_of_255(facts, classes) else ""
    return f"masks of the training images must hold at least 2 classes, got {got}{hint}"


def _not_classes(facts: Facts, classes: ClassTable) -> str | None:
    """Return why the indices that were found in the masks cannot be taken for classes."""
    indices = classes.indices
    if not indices:
        return None
    with_gaps = indices[-1] - indices[0] >= len(indices)
    if len(indices) > MAX_FOUND or (with_gaps and len(indices) > MAX_FOUND_WITH_GAPS):
        return (
            f"masks hold {len(indices)} different indices, too many for classes without a class "
            "table. Were they resized with interpolation, or do they number objects? "
            "If not, add classes.csv"
        )
    apart = indices[-1] >= GREY_LEVEL_STEP * max(1, len(indices) - 1)
    if len(indices) > 1 and apart and _px_of_255(facts, classes):
        found = ", ".join(map(str, indices))
        return f"masks hold {found} and 255, which look like grey levels; {_hint_255(indices)}"
    return None


def _px_of_255(facts: Facts, classes: ClassTable) -> int:
    if IGNORE_8_BIT in (*classes.indices, *classes.ignored):
        return 0
    masks = (mask for mask in facts.masks.values() if not mask.by_colour)
    return sum(mask.counts.get(IGNORE_8_BIT, 0) for mask in masks)


def _hint_255(indices: tuple[int, ...]) -> str:
    lines = ", ".join(f"`{index},NAME`" for index in (*indices, IGNORE_8_BIT))
    return f"255 is read as ignored: if it is a class, add classes.csv with `index,name`, {lines}"


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
    hint = "; the orientation tag turns only one of them: give both the same" if turned else ""
    rule = f"must be as large as its image, {_size(image.shape)} px, got {_size(mask.shape)}{hint}"
    return [Fault(path=sample.mask, rule=rule)]


def _colours_without_table(mask: MaskFacts) -> str:
    grey = all(code == (code & 255) * 0x010101 for code in mask.counts)
    remedy = (
        "its three channels are equal, so save it with one channel"
        if grey
        else "add classes.csv with the columns name, index, colour"
    )
    return f"RGB mask without a class table; {remedy}"


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
