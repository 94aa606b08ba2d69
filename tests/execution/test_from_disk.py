"""Steps over images, labels and units that are read window by window, against those in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from torch import Tensor, nn

import fullconv as fc
from fullconv.geometry import Box

from .test_step_loss import CLASSES, CRITERION, Skip, assert_same, plain

SHAPE = (96, 128)
TIGHT = "700 KiB"


@dataclass
class Sliced:
    """An array that is on no device and in no memory, and notes what is asked of it."""

    array: np.ndarray
    asked: list[int] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def __getitem__(self, place: Any) -> np.ndarray:
        part = self.array[place]
        self.asked.append(part.size)
        return part


@dataclass
class Weighted:
    """Boxes that count differently, as samplers of large images draw them."""

    boxes: list[Box]
    weights: list[float]


def setting(ignored: bool = True) -> tuple[nn.Module, Sliced, Sliced, Tensor, Tensor]:
    torch.manual_seed(0)
    net = Skip(2).double().eval()
    image = torch.randn(2, *SHAPE, dtype=torch.float64)
    target = torch.randint(CLASSES, SHAPE)
    if ignored:
        target[:20, 30:] = 255
    return net, Sliced(image.numpy()), Sliced(target.numpy().astype(np.uint8)), image, target


BOXES = [
    Box(start=(0, 4), stop=(16, 20)),
    Box(start=(8, 8), stop=(24, 40)),
    Box(start=(95, 127), stop=(96, 128)),
    Box(start=(60, 60), stop=(61, 61)),
]


def painted(boxes: list[Box], weights: list[float] | None = None) -> Tensor:
    counts = torch.zeros(SHAPE, dtype=torch.float64)
    for number, box in enumerate(boxes):
        counts[box.slices] += 1 if weights is None else weights[number]
    return counts


@pytest.mark.parametrize("memory", [None, TIGHT])
@pytest.mark.parametrize("ignored", [False, True])
def test_all_units(memory: str | None, ignored: bool) -> None:
    net, image, labels, pixels, target = setting(ignored)
    step = fc.StepLoss(net, CRITERION, memory)
    expected = plain(net, [pixels], [target], [torch.ones(SHAPE)])
    assert_same(net, step([image], [labels]), expected)


@pytest.mark.parametrize("memory", [None, TIGHT])
@pytest.mark.parametrize("weights", [None, [1.0, 0.25, 3.0, 2.0]])
def test_boxes(memory: str | None, weights: list[float] | None) -> None:
    net, image, labels, pixels, target = setting()
    units: Any = BOXES if weights is None else Weighted(BOXES, weights)
    step = fc.StepLoss(net, CRITERION, memory)
    expected = plain(net, [pixels], [target], [painted(BOXES, weights)])
    assert_same(net, step([image], [labels], [units]), expected, 1e-7 if weights else 1e-12)


def test_units_that_are_read_too() -> None:
    net, image, labels, pixels, target = setting()
    chosen = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)) < 0.1
    chosen[40:] = False
    units = Sliced(chosen.numpy())
    step = fc.StepLoss(net, CRITERION, TIGHT)
    expected = plain(net, [pixels], [target], [chosen])
    assert_same(net, step([image], [labels], [units]), expected)


def test_images_in_memory_and_on_disk_in_one_step(tmp_path: Path) -> None:
    net, _, _, pixels, target = setting()
    stored = []
    for name, array in (("image", pixels.numpy()), ("labels", target.numpy())):
        chunks = (*(2,) * (array.ndim - 2), 32, 32)
        stored.append(
            zarr.create_array(
                f"{tmp_path}/{name}.zarr", shape=array.shape, dtype=array.dtype, chunks=chunks
            )
        )
        stored[-1][...] = array
    step = fc.StepLoss(net, CRITERION, TIGHT)
    images, targets = [stored[0], pixels[:, :40, :64]], [stored[1], target[:40, :64]]
    counts = [torch.ones(SHAPE), torch.ones(40, 64)]
    expected = plain(net, [pixels, images[1]], [target, targets[1]], counts)
    assert_same(net, step(images, targets), expected)


def test_each_window_reads_its_own_part_when_its_turn_has_come() -> None:
    net, image, labels, _, _ = setting(ignored=False)
    step = fc.StepLoss(net, CRITERION, TIGHT, reduction="sum")
    cover = step.cover(image, labels)
    assert len(cover) > 3
    assert not image.asked
    labels.asked.clear()
    step([image], [labels]).backward()
    assert sum(image.asked) == 2 * sum(window.reads.size for window in cover)
    assert sorted(labels.asked) == sorted(window.units.size for window in cover)


def test_windows_without_units_that_count_are_not_run() -> None:
    net, image, labels, _, _ = setting()
    labels.array[...] = 255
    labels.array[-3:, -3:] = 1
    step = fc.StepLoss(net, CRITERION, TIGHT)
    assert len(step.cover(image, labels)) > 3
    runs: list[int] = []
    net.register_forward_hook(lambda *_: runs.append(1))
    step([image], [labels]).backward()
    assert len(runs) == 1
    labels.array[...] = 255
    net.zero_grad()
    loss = step([image], [labels])
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in net.parameters())


def test_boxes_on_a_map_that_no_memory_holds() -> None:
    """A map of 10^10 units: nothing of its size is made."""

    class Endless:
        def __init__(self, *shape: int) -> None:
            self.shape = shape

        def __getitem__(self, place: Any) -> np.ndarray:
            return np.ones([s.stop - s.start if s.stop is not None else 2 for s in place], np.uint8)

    net = Skip(2).eval()
    image, labels = Endless(2, 10**5, 10**5), Endless(10**5, 10**5)
    boxes = [Box(start=(k * 10**4 + 7, 3), stop=(k * 10**4 + 9, 8)) for k in range(9)]
    fc.StepLoss(net, CRITERION, "4 MiB")([image], [labels], [boxes]).backward()
    assert all(p.grad is not None for p in net.parameters())


def test_losses_of_labels_that_are_read() -> None:
    net, image, labels, pixels, target = setting()
    step = fc.StepLoss(net, CRITERION, TIGHT)
    found, expected = step.losses([image], [labels])[0], step.losses([pixels], [target])[0]
    assert torch.allclose(found, expected)


def test_boxes_are_cut_out_of_what_is_read() -> None:
    net, image, labels, pixels, target = setting()
    boxes = BOXES[:2]
    step = fc.StepLoss(net, CRITERION, context="crop")
    found, expected = step([image], [labels], [boxes]), step([pixels], [target], [boxes])
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize(
    ("units", "message"),
    [
        (
            Sliced(np.ones((3, 4), bool)),
            r"`units` must have the shape of the map, \(96, 128\), got",
        ),
        (Sliced(np.ones(SHAPE, np.int64)), "`units` must be boolean, or floating"),
        (Sliced(-np.ones(SHAPE)), "`units` must count 0 or more"),
        ([Box(start=(0, 0), stop=(97, 1))], "must lie in the map of shape"),
        ([(0, 0)], "lists of `Box`"),
        (7, "`units` must be a tensor, a list of `Box` or None"),
    ],
)
def test_units_that_do_not_fit_are_refused(units: Any, message: str) -> None:
    net, image, labels, _, _ = setting()
    with pytest.raises(fc.FullconvError, match=message):
        fc.StepLoss(net, CRITERION, TIGHT)([image], [labels], [units])
