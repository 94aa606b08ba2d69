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

    Attributes:
        labels: `(*map_shape)`, the position of the largest logit; the first, if tied.
        probabilities: `(classes, *map_shape)`, or None.
    """

    def __init__(
        self, shape: tuple[int, ...], *, dtype: npt.DTypeLike, probabilities: bool = False
    ) -> None:
        self.shape = shape
        self.labels: npt.NDArray[Any] = np.zeros(shape[1:], dtype)
        self.probabilities = np.zeros(shape, np.float16) if probabilities else None

    def __setitem__(self, place: tuple[Any, ...], logits: npt.NDArray[Any]) -> None:
        """Keep what is wanted of the logits of a window."""
        part = torch.from_numpy(logits)
        self.labels[place[1:]] = part.argmax(0).numpy()
        if self.probabilities is not None:
            self.probabilities[place] = part.float().softmax(0).numpy()
