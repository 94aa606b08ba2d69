"""One confusion matrix over a whole data set."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric


class Confusion(Metric):
    """Counts of units by (true class, predicted class), summed over all images and devices.

    Args:
        classes: Number of classes.
        ignore: Label of the units that do not count.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, classes: int, *, ignore: int = 255) -> None:
        super().__init__()
        self.classes = classes
        self.ignore = ignore
        zeros = torch.zeros(classes, classes, dtype=torch.int64)
        self.add_state("counts", default=zeros, dist_reduce_fx="sum")

    def update(self, labels: Tensor, targets: Tensor) -> None:
        """Count the units of one or more images.

        Args:
            labels: Predicted classes, of any shape.
            targets: True classes, of the same shape; `ignore` where nothing is known.
        """
        valid = targets != self.ignore
        pairs = targets[valid].long() * self.classes + labels[valid].long()
        counts = torch.bincount(pairs, minlength=self.classes**2)
        self.counts += counts.view(self.classes, self.classes)

    def compute(self) -> Tensor:
        """Return the counts ``(true, predicted)``."""
        return self.counts

    def matrix(self) -> NDArray[np.int64]:
        """Return the counts ``(true, predicted)`` as an array."""
        counts: Tensor = self.compute()
        return counts.cpu().numpy().astype(np.int64)
