"""What is kept of a map: the likeliest class of each unit, and the probabilities if wanted."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch


class Answer:
    """Stands in for the map as `out` of a `Predictor`, so that the map is never whole in memory.

    Args:
        shape: Of the map, `(classes, *map_shape)`.
        dtype: Of the labels.
        probabilities: Whether to keep those, too, as float16.
        quantised: Whether to keep them as 8-bit numbers instead, `round(255 p)`.

    Attributes:
        labels: `(*map_shape)`, the position of the largest logit; the first, if tied.
        probabilities: `(classes, *map_shape)`, or None.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        dtype: npt.DTypeLike,
        probabilities: bool = False,
        quantised: bool = False,
    ) -> None:
        self.shape = shape
        self.labels: npt.NDArray[Any] = np.zeros(shape[1:], dtype)
        kind = np.uint8 if quantised else np.float16
        self.probabilities = np.zeros(shape, kind) if probabilities else None

    def __setitem__(self, place: tuple[Any, ...], logits: npt.NDArray[Any]) -> None:
        """Keep what is wanted of the logits of a window."""
        part = torch.from_numpy(logits)
        self.labels[place[1:]] = part.argmax(0).numpy()
        if self.probabilities is not None:
            shares = part.float().softmax(0)
            in_8_bits = self.probabilities.dtype == np.uint8
            self.probabilities[place] = (shares.mul_(255).round_() if in_8_bits else shares).numpy()
