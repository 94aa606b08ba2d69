"""An image of a data set, and its mask."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One image and its mask.

    Attributes:
        name: Unique in the data set and fit for a file name: the image's stem, or where two stems
            are equal, with the folders before it.
        image: Image file.
        mask: Mask file, if there is one.
    """

    name: str
    image: Path
    mask: Path | None
