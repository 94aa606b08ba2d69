"""Prediction in memory: what it says of images that a network does not take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fullconv as fc

NET = nn.Sequential(nn.Conv2d(3, 4, 5), nn.MaxPool2d(2), nn.Conv2d(4, 2, 8)).eval()


@pytest.mark.parametrize("memory", [None, "10 MB"])
def test_an_image_that_is_too_small_is_refused_with_the_nearest_shape(memory: str | None) -> None:
    with pytest.raises(fc.FullconvError, match="got an image of 19 x 30 px: nearest are 20 x 30"):
        fc.predict(NET, np.zeros((3, 19, 30), np.float32), memory)


@pytest.mark.parametrize("memory", [None, "10 MB"])
def test_so_it_is_for_a_dense_network(memory: str | None) -> None:
    with pytest.raises(fc.FullconvError, match="got an image of 19 x 30 px: nearest are 20 x 30"):
        fc.predict(fc.densify(NET), np.zeros((3, 19, 30), np.float32), memory)


def test_what_else_a_network_raises_is_left_as_it_is() -> None:
    class Failing(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            raise RuntimeError(f"no luck with {image.ndim} axes")

    with pytest.raises(RuntimeError, match="no luck with 4 axes"):
        fc.predict(Failing(), torch.zeros(3, 19, 30))
    with pytest.raises(RuntimeError, match="expected input"):
        fc.predict(NET, torch.zeros(2, 30, 30))


class Several(nn.Module):
    """Returns two maps of an image in a collection."""

    def __init__(self, kind: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.map, self.kind = nn.Conv2d(3, 2, 3), kind

    def forward(self, image: Tensor) -> Any:
        return self.kind(self.map(image), image)


@pytest.mark.parametrize("memory", [None, "10 MB"])
@pytest.mark.parametrize(
    ("kind", "got"),
    [
        (lambda a, b: (a, b), "a tuple"),
        (lambda a, b: [a, b], "a list"),
        (lambda a, b: {"out": a, "aux": b}, r"a dict with keys \['aux', 'out'\]"),
    ],
)
def test_a_network_that_returns_more_than_a_map_is_refused(
    kind: Callable[[Tensor, Tensor], Any], got: str, memory: str | None
) -> None:
    with pytest.raises(fc.FullconvError, match=f"must return one tensor .*, got {got}: wrap it"):
        fc.predict(Several(kind).eval(), np.zeros((3, 19, 30), np.float32), memory)
