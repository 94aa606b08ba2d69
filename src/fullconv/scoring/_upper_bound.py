"""What a map that is coarser than the image can say at best (Long, Shelhamer & Darrell 2015, app. A)."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fullconv.errors import BadConfigError


def coarsened(
    labels: NDArray[Any], factor: int, *, classes: int, ignore: int = 255
) -> NDArray[Any]:
    """Return the true labels after a way through a map `factor` times coarser.

    Down: each unit of the map has the share of each class in its `factor` × `factor` px; those at
    the right and bottom border may have fewer, and pixels without a class count for none. Up:
    bilinear, as FCNs do. At each pixel the largest share wins; of equal ones, the class that comes first.

    Args:
        labels: True class of each pixel, ``(height, width)``.
        factor: Px of a unit's side, at least 1.
        classes: Number of classes.
        ignore: Label of the pixels that have no class.

    Returns:
        Labels of the same shape and type, without `ignore`.

    Raises:
        BadConfigError: If the factor is not a whole number of at least 1.

    Examples:
        >>> labels = np.repeat([[0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 1, 1]], 4, axis=0)
        >>> coarsened(labels, 4, classes=2)[0].tolist()
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]
    """
    if type(factor) is not int or factor < 1:
        raise BadConfigError(
            f"`upper_bound` must be whole numbers of at least 1, such as 8 16 32, got {factor!r}"
        )
    height, width = labels.shape
    true = torch.from_numpy(labels.astype(np.int64))
    best = torch.full((height, width), -1.0)
    found = torch.zeros(height, width, dtype=torch.int64)
    # One class at a time: the shares of all at once would take `classes` times the memory.
    for place in range(classes):
        share = _there_and_back((true == place) & (true != ignore), factor)
        found[share > best] = place
        best = torch.maximum(best, share)
    return found.numpy().astype(labels.dtype)


def _there_and_back(members: Tensor, factor: int) -> Tensor:
    """Return the share of a class at each px, by way of a map of units."""
    height, width = members.shape
    fine = members[None, None].float()
    shares = F.avg_pool2d(fine, factor, ceil_mode=True, count_include_pad=False)
    up = F.interpolate(shares, scale_factor=factor, mode="bilinear", align_corners=False)
    return up[0, 0, :height, :width]
