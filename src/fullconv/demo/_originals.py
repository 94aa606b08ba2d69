"""The originals that the scenes are made of: real handwritten digits and real photographs.

Both ship inside scikit-learn's wheel: 1,797 digits of 8 × 8 px, values 0 to 16 (UCI's Optical
Recognition of Handwritten Digits), and two photographs of 427 × 640 px. Each split owns its own
digits and its own vertical strip of each photograph, so that nothing of a held-out image, neither
ink nor texture, was ever seen in training.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from fullconv.errors import FullconvError

# The digits that are drawn: five that eight by eight pixels leave legible. With all ten a
# network needs several times as long, most of it for telling 3, 5, 8 and 9 apart.
DIGITS = (0, 3, 4, 6, 7)

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

# Where each split's share starts and stops, as a fraction of the digits and of a photograph's width.
SHARES: dict[Split, tuple[float, float]] = {
    "train": (0.0, 0.7),
    "val": (0.7, 0.8),
    "test": (0.8, 1.0),
}
STRIPS: dict[Split, tuple[float, float]] = {
    "train": (0.0, 0.55),
    "val": (0.55, 0.7),
    "test": (0.7, 1.0),
}
_SHUFFLE_SEED = (
    0  # the digits come in the order of their writers: shuffled once, for every run alike
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Originals:
    """What the scenes of one split may use.

    Attributes:
        split: Whose they are.
        indices: Positions of the digits in scikit-learn's data set, increasing.
        glyphs: The digits, (digits, 8, 8), float32, ink 0 to 1.
        labels: What each digit shows, as a position in `DIGITS`.
        photographs: The split's strip of each photograph, (H, W, 3) uint8.
    """

    split: Split
    indices: npt.NDArray[np.int64]
    glyphs: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    photographs: tuple[npt.NDArray[np.uint8], ...]


def originals(split: Split) -> Originals:
    """Return the digits and the strips of photographs that `split` owns.

    Raises:
        FullconvError: If scikit-learn is not installed.

    Examples:
        >>> len(originals("train").labels), len(originals("test").labels)
        (631, 180)
    """
    glyphs, labels, photographs = _embedded()
    drawn = np.flatnonzero(np.isin(labels, DIGITS))
    order = np.random.default_rng(_SHUFFLE_SEED).permutation(drawn)
    indices = np.sort(order[_share(len(order), SHARES[split])])
    return Originals(
        split=split,
        indices=indices,
        glyphs=glyphs[indices],
        labels=np.searchsorted(DIGITS, labels[indices]),
        photographs=tuple(p[:, _share(p.shape[1], STRIPS[split])] for p in photographs),
    )


def _share(length: int, bounds: tuple[float, float]) -> slice:
    start, stop = bounds
    return slice(round(start * length), round(stop * length))


@cache
def _embedded() -> tuple[
    npt.NDArray[np.float32], npt.NDArray[np.int64], tuple[npt.NDArray[np.uint8], ...]
]:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise FullconvError(
            "the demo needs the digits and photographs that ship inside scikit-learn, "
            "which is not installed: pip install 'fullconv[demo]'"
        ) from error
    flat, labels = datasets.load_digits(return_X_y=True)
    glyphs = np.asarray(flat, dtype=np.float32).reshape(-1, 8, 8) / np.float32(16)
    photographs = (
        np.asarray(datasets.load_sample_image("china.jpg"), dtype=np.uint8),
        np.asarray(datasets.load_sample_image("flower.jpg"), dtype=np.uint8),
    )
    return glyphs, np.asarray(labels).astype(np.int64), photographs
