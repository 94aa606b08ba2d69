"""The classes of a data set: what a mask's numbers and colours mean.

A class has a *position* (0 … num_classes - 1; what networks and scores use) and an *index* (the
number that stands for it in mask files). They are the same in most data sets. Pixels of an ignored
index have no class; in memory they hold `ClassTable.ignore`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fullconv.errors import BadDataError

Colour = tuple[int, int, int]

IGNORE_8_BIT = 255
IGNORE_16_BIT = 65535


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassTable:
    """Names, colours and mask indices of the classes, by position.

    Attributes:
        names: One per class, all different.
        colours: One (red, green, blue) per class, 0 to 255, all different.
        ignore: The number that an ignored pixel has in memory: 255, or 65535 where there are more
            than 255 classes.
        indices: The number of each class in mask files. Left out: its position.
        ignored: Mask indices that are ignored, besides 255 and 65535, which always are unless a
            class has them.
        ignored_colours: Colours that are ignored in RGB masks.

    Examples:
        >>> table = ClassTable(names=("soil", "weed"), colours=((0, 0, 0), (255, 0, 0)))
        >>> table.num_classes, table.indices, table.ignore
        (2, (0, 1), 255)
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...]
    ignore: int = IGNORE_8_BIT
    indices: tuple[int, ...] = ()
    ignored: tuple[int, ...] = ()
    ignored_colours: tuple[Colour, ...] = ()

    def __post_init__(self) -> None:
        if not self.indices:
            object.__setattr__(self, "indices", tuple(range(len(self.names))))
        if not len(self.names) == len(self.colours) == len(self.indices):
            raise BadDataError(
                "`names`, `colours` and `indices` of a class table must be equally many, got "
                f"{len(self.names)}, {len(self.colours)} and {len(self.indices)}"
            )
        if self.num_classes > self.ignore:
            raise BadDataError(
                f"`ignore` must be above every class position, got {self.ignore} with "
                f"{self.num_classes} classes; use {IGNORE_16_BIT}"
            )

    @property
    def num_classes(self) -> int:
        """Number of classes, ignored ones not counted."""
        return len(self.names)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of labels in memory: uint8, or uint16 where there are more than 255 classes."""
        return np.dtype(np.uint8 if self.ignore <= IGNORE_8_BIT else np.uint16)

    @staticmethod
    def default(num_classes: int) -> ClassTable:
        """Return a table of classes that are named by their number.

        Examples:
            >>> ClassTable.default(3).names
            ('0', '1', '2')
        """
        return ClassTable.of_indices(range(num_classes))

    @staticmethod
    def of_indices(indices: range | tuple[int, ...]) -> ClassTable:
        """Return a table with one class for each mask index, named by it."""
        return ClassTable(
            names=tuple(str(index) for index in indices),
            colours=tuple(default_colour(index) for index in indices),
            ignore=ignore_for(len(indices)),
            indices=tuple(indices),
        )

    @staticmethod
    def read(path: Path) -> ClassTable:
        """Return the table in a ``.csv`` or ``.yaml`` file.

        A row is a class: ``name``, ``index`` (its number in mask files), ``colour`` (``#rrggbb`` or
        ``r;g;b``, or columns ``r``, ``g``, ``b``) and ``ignore`` (yes or no). All but one of name
        and index may be left out. Without ``ignore``, rows named void, ignore, ignored, unlabeled
        or unlabelled are ignored.

        Raises:
            BadDataError: If a row cannot be understood, or two rows contradict each other.
        """
        from fullconv.images._class_files import read_table

        return read_table(path)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> ClassTable:
        """Return the table that `to_dict` wrote, for example to JSON."""
        return ClassTable(
            names=tuple(values["names"]),
            colours=tuple(_colour(c) for c in values["colours"]),
            ignore=int(values["ignore"]),
            indices=tuple(int(i) for i in values["indices"]),
            ignored=tuple(int(i) for i in values["ignored"]),
            ignored_colours=tuple(_colour(c) for c in values["ignored_colours"]),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the table as plain lists and numbers, for JSON or YAML."""
        return {
            "names": list(self.names),
            "colours": [list(c) for c in self.colours],
            "ignore": self.ignore,
            "indices": list(self.indices),
            "ignored": list(self.ignored),
            "ignored_colours": [list(c) for c in self.ignored_colours],
        }

    def position_of(self) -> dict[int, int]:
        """Return mask index → position, ignored indices → `ignore`."""
        always = dict.fromkeys((IGNORE_8_BIT, IGNORE_16_BIT, *self.ignored), self.ignore)
        return always | {index: place for place, index in enumerate(self.indices)}

    def position_of_colour(self) -> dict[Colour, int]:
        """Return colour in an RGB mask → position, ignored colours → `ignore`."""
        ignored = dict.fromkeys(self.ignored_colours, self.ignore)
        return ignored | {colour: place for place, colour in enumerate(self.colours)}


def ignore_for(num_classes: int) -> int:
    """Return the in-memory number of ignored pixels for so many classes."""
    return IGNORE_8_BIT if num_classes <= IGNORE_8_BIT else IGNORE_16_BIT


def default_colour(index: int) -> Colour:
    """Return the colour of `index` in the PASCAL VOC palette: its bits dealt to red, green, blue.

    Different for every index below 2²⁴.

    Examples:
        >>> [default_colour(i) for i in range(4)]
        [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]
    """
    red, green, blue = (
        sum((index >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8))
        for channel in range(3)
    )
    return red, green, blue


def _colour(values: list[int]) -> Colour:
    red, green, blue = (int(v) for v in values)
    return red, green, blue
