"""What a step refuses, and what it takes in another form than its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fullconv as fc
from fullconv.geometry import Box

torch.manual_seed(0)
NET = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
CRITERION = nn.CrossEntropyLoss(reduction="none", ignore_index=255)
IMAGE = torch.randn(3, 20, 24)
LABELS = torch.randint(2, (20, 24))
CUT = Box(start=(0, 0), stop=(2, 2))

Case = tuple[Any, Any, Any]


@pytest.fixture(params=[None, "60 KiB"], ids=["one-window", "several"])
def step(request: pytest.FixtureRequest) -> fc.StepLoss:
    return fc.StepLoss(NET, CRITERION, memory=request.param)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (([IMAGE], [LABELS[None]], None), r"as many spatial axes, got .*labels of shape \(1, 20"),
        (([IMAGE[None]], [LABELS], None), r"got an image of shape \(1, 3, 20, 24\)"),
        (([IMAGE[:, :0]], [LABELS[:0]], None), r"got an image of shape \(3, 0, 24\)"),
        ((["image.png"], [LABELS], None), r"got an image of shape \(\)"),
        (([IMAGE], [LABELS, LABELS], None), "one entry per image, got 1 images, 2 targets"),
        (([IMAGE], [LABELS], [None, None]), "got 1 images, 1 targets, 2 units"),
        (([IMAGE], [LABELS], (u for u in [None])), "got a generator: make it a list"),
        (([IMAGE], [LABELS], [CUT]), "got a Box: put the boxes of each image into a list"),
        (([IMAGE], [LABELS + 5], None), "classes from 0 to 1, .* got labels from 5 to 6"),
    ],
)
def test_odd_steps_are_refused_plainly(step: fc.StepLoss, case: Case, message: str) -> None:
    with pytest.raises(fc.FullconvError, match=message):
        step(*case)


@pytest.mark.parametrize(
    "change",
    [
        lambda image, labels: (image, labels.int()),
        lambda image, labels: (image, labels.numpy().astype(np.uint16)),
        lambda image, labels: (image, labels.numpy().astype(">i4")),
        lambda image, labels: (image.numpy().astype(">f4"), labels),
        lambda image, labels: (image.numpy()[:, ::-1][:, ::-1], labels.numpy()),
    ],
    ids=["int32", "uint16", "big-endian-labels", "big-endian-image", "reversed-strides"],
)
def test_whole_numbers_and_byte_orders_of_any_kind_are_taken(
    step: fc.StepLoss, change: Callable[[Tensor, Tensor], tuple[Any, Any]]
) -> None:
    image, labels = change(IMAGE, LABELS)
    assert step([image], [labels]).item() == step([IMAGE], [LABELS]).item()


@pytest.mark.parametrize("returned", [None, "text", torch.zeros(())])
def test_criteria_that_give_no_loss_per_unit_are_refused(returned: Any) -> None:
    with pytest.raises(fc.FullconvError, match=r"must return one loss per unit, \(480,\), got"):
        fc.StepLoss(NET, lambda *_: returned)([IMAGE], [LABELS])


def test_losses_of_other_lengths_are_refused(step: fc.StepLoss) -> None:
    with pytest.raises(fc.FullconvError, match="one entry per image, got 1 images, 2 targets"):
        step.losses([IMAGE], [LABELS, LABELS])


class Heads(nn.Module):
    def __init__(self, kind: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.net, self.kind = NET, kind

    def forward(self, x: Tensor) -> Any:
        return self.kind(self.net(x))


@pytest.mark.parametrize("memory", [None, "60 KiB"])
@pytest.mark.parametrize("kind", [lambda y: (y, y), lambda y: {"out": y, "aux": y}])
def test_several_heads_are_refused_by_name(kind: Any, memory: Any) -> None:
    with pytest.raises(
        fc.FullconvError, match=r"`net` must return one tensor .*: wrap it in a mod"
    ):
        fc.StepLoss(Heads(kind), CRITERION, memory=memory)([IMAGE], [LABELS])
