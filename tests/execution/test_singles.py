"""Windows of single units, gathered at once: exact wherever they lie, and all of one shape."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fullconv as fc
from fullconv.execution._planner import Planner
from fullconv.execution._reads import Blocks, Reads
from fullconv.execution._searching import RAREST, TIMES, Searches
from fullconv.execution._spread import Mask
from fullconv.geometry import Axis, Geometry, Phase

CRITERION = nn.CrossEntropyLoss(reduction="none", ignore_index=255)
NETS = {
    "padded": nn.Conv2d(2, 3, (3, 5), padding=(1, 2)),
    "unpadded": nn.Sequential(nn.Conv2d(2, 4, 5, stride=2), nn.MaxPool2d(2), nn.Conv2d(4, 3, 3)),
    "upsampling": nn.Sequential(
        nn.Conv2d(2, 3, 4, stride=4), nn.Conv2d(3, 3, 3, padding=1), nn.Upsample(scale_factor=4)
    ),
    "reflecting": nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 9, padding=4, padding_mode="reflect")
    ),
    "reflecting, upsampling": nn.Sequential(
        nn.Conv2d(2, 3, 2, stride=2), nn.ReflectionPad2d(7), nn.ConvTranspose2d(3, 3, 5, stride=2)
    ),
    "far reflecting": nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.ReflectionPad2d(6), nn.Conv2d(3, 3, 3)
    ),
}
SHAPES = ((24, 36), (48, 40))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", sorted(NETS))
def test_windows_that_were_made_alike_compute_the_same_units(
    name: str, shape: tuple[int, int]
) -> None:
    net = NETS[name].double().eval()
    image = torch.randn(1, 2, *shape, dtype=torch.float64)
    whole = net(image)
    geometry = fc.trace(net, 2, shape=shape)
    lows = np.stack([axis.ravel() for axis in np.indices(tuple(whole.shape[2:]))])
    reads = Reads(geometry, shape)
    smallest = reads(Blocks(lows, lows + 1))
    rng = np.random.default_rng(0)
    inner = ((smallest.begins > 0) & (smallest.ends < np.array(shape)[:, None])).all(0)
    for turn in range(8):  # a few of them: other sides each time
        among = np.flatnonzero(inner) if turn % 2 and inner.sum() >= 12 else np.arange(len(inner))
        few = reads.alike(smallest[rng.choice(among, 12, replace=False)])
        windows = few.windows()
        assert len({window.reads.shape for window in windows}) == 1
        for window in windows:
            part = net(image[(..., *window.reads.slices)])[(..., *window.inside.slices)]
            wanted = whole[(..., *window.units.slices)]
            assert (part - wanted).abs().max() <= 1e-12


@pytest.mark.parametrize("kind", ["mask", "weights", "ignored"])
@pytest.mark.parametrize("memory", [None, "100 KiB"])
@pytest.mark.parametrize("name", sorted(NETS))
def test_scattered_units_have_the_gradient_of_the_whole_images(
    name: str, memory: str | None, kind: str
) -> None:
    torch.manual_seed(0)
    net = NETS[name].double().eval()
    images = [torch.randn(2, *shape).double().requires_grad_() for shape in SHAPES]
    maps = [net(image[None]) for image in images]
    targets = [torch.randint(3, tuple(m.shape[2:])) for m in maps]
    units: list[Tensor] = [torch.rand(target.shape) < 0.04 for target in targets]
    for chosen in units:
        chosen[0, 0] = chosen[-1, -1] = True
    counts = [chosen.double() for chosen in units]
    if kind == "weights":
        units = counts = [torch.rand(c.shape).double() * c for c in counts]
    if kind == "ignored":
        for target, count in zip(targets, counts, strict=True):
            target[:, : target.shape[1] // 2] = 255
            count[target == 255] = 0
    losses = [
        (CRITERION(m, t[None])[0] * c).sum() for m, t, c in zip(maps, targets, counts, strict=True)
    ]
    wanted = torch.stack(losses).sum() / sum(float(c.sum()) for c in counts)
    leaves = [*net.parameters(), *images]
    grads = torch.autograd.grad(wanted, leaves)
    step = fc.StepLoss(net, CRITERION, memory, covering="units")
    cheapest = fc.StepLoss(net, CRITERION, memory)
    for one in (step, cheapest):
        loss = one(images, targets, units)
        assert abs(loss - wanted) <= 1e-12
        for found, expected in zip(torch.autograd.grad(loss, leaves), grads, strict=True):
            assert (found - expected).abs().max() <= 1e-12 * max(1, float(expected.abs().max()))


@pytest.mark.parametrize("axes", [1, 3])
def test_single_units_of_signals_and_volumes_are_gathered_too(axes: int) -> None:
    conv = {1: nn.Conv1d, 3: nn.Conv3d}[axes]
    net = nn.Sequential(conv(1, 2, 3, padding=1), conv(2, 2, 3, padding=1)).double()
    image = torch.randn(1, *(14,) * axes).double()
    target = torch.randint(2, (14,) * axes)
    units = torch.rand(target.shape) < 0.05
    units.view(-1)[[0, 7, -1]] = True
    wanted = CRITERION(net(image[None]), target[None])[0][units].sum()
    step = fc.StepLoss(net, CRITERION, covering="units", reduction="sum")
    grads = [
        torch.autograd.grad(x, [*net.parameters()])
        for x in (step([image], [target], [units]), wanted)
    ]
    for found, expected in zip(*grads, strict=True):
        assert (found - expected).abs().max() <= 1e-12 * max(1, float(expected.abs().max()))


def test_images_of_numpy_are_gathered_too() -> None:
    net = nn.Conv2d(1, 2, 3, padding=1)
    image = np.arange(400, dtype=">u2").reshape(1, 20, 20)
    image.setflags(write=False)
    target = np.zeros((20, 20), np.uint8)
    units = torch.rand(20, 20) < 0.05
    units[0, 0] = units[9, 9] = True
    held = torch.from_numpy(image.astype(np.float32))
    step = fc.StepLoss(net, CRITERION, covering="units")
    wanted = CRITERION(net(held[None]), torch.zeros(1, 20, 20).long())[0][units].mean()
    assert torch.isclose(step([image], [target], [units]), wanted)


def test_dropout_drops_the_same_in_windows_of_single_units_as_in_others() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Dropout(0.5), nn.Conv2d(4, 2, 3)).train()
    image, target = torch.randn(1, 30, 30), torch.zeros(28, 28).long()
    units = torch.rand(28, 28) < 0.1
    found = []
    for covering in ("units", "whole"):
        torch.manual_seed(1)
        memory = None if covering == "units" else "30 KiB"
        step = fc.StepLoss(net, CRITERION, memory, covering=covering)  # pyright: ignore[reportArgumentType]
        assert len(step.cover(image, target, units)) > 1
        found.append(step([image], [target], [units]))
    assert torch.isclose(*found)


def test_searches_in_vain_grow_rare_and_those_that_pay_do_not() -> None:
    searches = Searches()
    assert searches.could_pay(2 * TIMES * searches.seconds)
    asked = []
    for _ in range(200):
        asked.append(searches.pays("scattered"))
        if asked[-1]:
            searches.note("scattered", 0.01, saved=0.0)
    pauses = np.diff(np.flatnonzero(asked)) - 1
    assert pauses[:6].tolist() == [1, 3, 7, 15, 31, RAREST]
    for _ in range(10):
        assert searches.pays("clustered")
        searches.note("clustered", 0.01, saved=0.5)
    assert not searches.could_pay(TIMES * 0.01)


def test_scattered_units_do_not_keep_clusters_from_being_searched_for() -> None:
    layers = [nn.Conv2d(3, 32, 3, padding=1), *(nn.Conv2d(32, 32, 3, padding=1) for _ in "ab")]
    planner = Planner(nn.Sequential(*layers), None)
    rng = np.random.default_rng(0)
    scattered, clustered = np.zeros((2, 512, 512), bool)
    scattered.ravel()[rng.choice(512 * 512, 2304, replace=False)] = True
    clustered[100:148, 200:248] = True
    for _ in range(8):
        planner.cover(3, (512, 512), (512, 512), Mask(scattered))
    assert len(planner.cover(3, (512, 512), (512, 512), Mask(clustered))) == 1


def test_as_many_single_windows_run_together_as_fit() -> None:
    net = nn.Conv2d(1, 2, 3, padding=1)
    sizes: list[int] = []

    def note(_: nn.Module, given: tuple[Tensor, ...], __: Tensor) -> None:
        if type(given[0]) is Tensor and given[0].device.type == "cpu":  # planning runs it on others
            sizes.append(len(given[0]))

    net.register_forward_hook(note)
    images, targets = [torch.rand(1, 20, 20)] * 2, [torch.zeros(20, 20).long()] * 2
    units = torch.zeros(20, 20, dtype=torch.bool)
    units[2:-2, 2:-2:2] = True
    step = fc.StepLoss(net, CRITERION, "4 KiB", covering="units")
    step.cover(images[0], targets[0], units)
    most = step._planner.most_together(1, (3, 3), 10**6, "cpu")
    assert 2 < most < int(units.sum())
    sizes.clear()
    step(images, targets, [units, units])
    count = 2 * int(units.sum())
    assert sizes == [most] * (count // most) + [count % most] * (count % most > 0)


def test_a_window_that_grows_to_the_border_holds_what_padding_copies() -> None:
    phase = Phase(start=0, stop=3, first=0, last=3)
    axis = Axis(period=1, phases=(phase,), residue=0, legal=((3, 1),), borders=(1, 12))
    reads = Reads(Geometry(axes=(axis,)), (20,))
    units = Blocks(np.array([[5, 15]]), np.array([[8, 16]]))  # windows of 5 and 3 px
    found = reads.alike(reads(units))
    assert found.begins.tolist() == [[5, 8]]
    assert found.ends.tolist() == [[17, 20]]
