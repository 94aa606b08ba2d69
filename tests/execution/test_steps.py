"""Steps as users make them: mixed images, boxes, crops, memory, and everything that can be wrong."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import fullconv as fc
from fullconv.errors import BadConfigError
from fullconv.execution import _step_loss
from fullconv.execution._planner import Planner
from fullconv.geometry import Box

from .test_step_loss import CLASSES, CRITERION, Skip, assert_same, plain, some


def setting(*shapes: tuple[int, int]) -> tuple[nn.Module, list[Tensor], list[Tensor]]:
    torch.manual_seed(0)
    net = Skip(2).double().eval()
    images = [torch.randn(2, *shape, dtype=torch.float64) for shape in shapes]
    targets = [torch.randint(CLASSES, shape) for shape in shapes]
    return net, images, targets


def test_two_of_ten_units_from_one_image_and_three_of_eight_from_another() -> None:
    net, images, targets = setting((40, 48), (32, 64))
    units = [torch.zeros(t.shape, dtype=torch.bool) for t in targets]
    units[0][3, 7] = units[0][31, 40] = True
    units[1][0, 0] = units[1][5, 60] = units[1][31, 63] = True
    step = fc.StepLoss(net, CRITERION)
    assert_same(net, step(images, targets, units), plain(net, images, targets, units))


def test_boxes_that_overlap_count_a_unit_as_often_as_they_hold_it() -> None:
    net, images, targets = setting((40, 48))
    boxes = [Box(start=(0, 4), stop=(16, 20)), Box(start=(8, 8), stop=(24, 24))]
    counts = torch.zeros(40, 48)
    for box in boxes:
        counts[box.slices] += 1
    assert counts.max() == 2
    step = fc.StepLoss(net, CRITERION)
    assert_same(net, step(images, targets, [boxes]), plain(net, images, targets, [counts]))


def test_weights_of_units_are_honoured() -> None:
    net, images, targets = setting((40, 48), (36, 32))
    weights = [torch.rand(t.shape) * some(t, 0.2) for t in targets]
    step = fc.StepLoss(net, CRITERION)
    assert_same(net, step(images, targets, weights), plain(net, images, targets, weights), 1e-7)


def test_a_loss_of_units_dropped_at_random_is_that_of_sampled_ones() -> None:
    """Masking the loss as DropConnect would, and sampling, are one thing."""
    net, images, targets = setting((40, 48))
    units = fc.Sampled(keep=0.25)(targets, torch.Generator().manual_seed(3))
    mask = torch.rand(40, 48, generator=torch.Generator().manual_seed(3)) < 0.25
    each = F.cross_entropy(net(images[0][None]), targets[0][None], reduction="none")[0]
    loss = (each * mask).sum() / mask.sum()
    expected = loss.detach(), list(torch.autograd.grad(loss, list(net.parameters())))
    assert_same(net, fc.StepLoss(net, CRITERION)(images, targets, units), expected)


def test_ignored_units_never_count() -> None:
    net, images, targets = setting((40, 48))
    targets[0][:20] = 255
    everything = [torch.ones(40, 48)]
    step = fc.StepLoss(net, CRITERION)
    assert_same(net, step(images, targets), plain(net, images, targets, everything))


def test_a_sum_is_not_divided() -> None:
    net, images, targets = setting((40, 48))
    units = [some(targets[0], 0.1)]
    mean = fc.StepLoss(net, CRITERION)(images, targets, units)
    total = fc.StepLoss(net, CRITERION, reduction="sum")(images, targets, units)
    assert total.item() == pytest.approx(mean.item() * units[0].sum().item(), rel=1e-12)


@pytest.mark.parametrize("share", [0.02, 1.0])
def test_memory_makes_more_windows_and_changes_nothing(share: float) -> None:
    net, images, targets = setting((96, 128), (64, 96))
    units = [some(t, share) for t in targets]
    free = fc.StepLoss(net, CRITERION)
    tight = fc.StepLoss(net, CRITERION, memory="700 KiB")
    if share == 1:
        assert len(tight.cover(images[0], targets[0])) > 2
    assert_same(net, tight(images, targets, units), plain(net, images, targets, units))
    assert free(images, targets, units).item() == pytest.approx(
        tight(images, targets, units).item(), rel=1e-12
    )


def test_too_little_memory_is_refused_with_what_would_do() -> None:
    net, images, targets = setting((96, 128))
    with pytest.raises(fc.FullconvError, match="`memory` must hold one window, got") as caught:
        fc.StepLoss(net, CRITERION, memory="10 KiB")(images, targets)
    least = str(caught.value).split("about ")[1].split(" would")[0]
    fc.StepLoss(net, CRITERION, memory=least)(images, targets)


@given(
    shape=st.tuples(st.integers(20, 90), st.integers(20, 90)),
    depth=st.integers(1, 3),
    pool=st.integers(2, 3),
)
@settings(max_examples=15)
def test_what_would_do_does_for_every_network(
    shape: tuple[int, int], depth: int, pool: int
) -> None:
    layers = [
        layer
        for _ in range(depth)
        for layer in (nn.Conv2d(2, 2, 3, padding=1), nn.MaxPool2d(pool, ceil_mode=True))
    ]
    net = nn.Sequential(*layers, nn.Conv2d(2, CLASSES, 1))
    image = torch.randn(2, *shape)
    target = torch.zeros(net(image[None]).shape[2:], dtype=torch.long)
    with pytest.raises(fc.FullconvError, match="`memory` must hold one window, got") as caught:
        fc.StepLoss(net, CRITERION, memory=1)([image], [target])
    least = str(caught.value).split("about ")[1].split(" would")[0]
    fc.StepLoss(net, CRITERION, memory=least)([image], [target])


@pytest.mark.parametrize("units", [[torch.zeros(40, 48, dtype=torch.bool)], [[]]])
def test_no_units_give_a_loss_and_gradients_of_zero(units: Any) -> None:
    net, images, targets = setting((40, 48))
    loss = fc.StepLoss(net, CRITERION)(images, targets, units)
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in net.parameters())


def test_targets_that_are_all_ignored_give_zero_too() -> None:
    net, images, targets = setting((40, 48))
    loss = fc.StepLoss(net, CRITERION)(images, [torch.full_like(targets[0], 255)])
    loss.backward()
    assert loss.item() == 0
    assert not any(p.grad.any() for p in net.parameters() if p.grad is not None)


def wrong(units: Any = None, targets: Any = None, **options: Any) -> None:
    net, images, right = setting((40, 48))
    fc.StepLoss(net, options.pop("criterion", CRITERION), **options)(
        images, right if targets is None else targets, units
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": [torch.ones(40, 40, dtype=torch.bool)]}, r"`units` must have the shape of the map, \(40, 48\)"),
        ({"units": [torch.ones(40, 48, dtype=torch.long)]}, "must be boolean, or floating"),
        ({"units": [-torch.ones(40, 48)]}, "must count 0 or more"),
        ({"units": [[Box(start=(0, 0), stop=(41, 4))]]}, "must lie in the map"),
        ({"units": [[(0, 0)]]}, "lists of `Box`"),
        ({"units": [None, None]}, "must have one entry per image, got 1 images, 1 targets, 2 units"),
        ({"targets": [torch.zeros(20, 24).long()], "units": [some(torch.zeros(20, 24), 0.1)]}, r"`targets` must have the shape of the map, \(40, 48\)"),
        ({"criterion": nn.CrossEntropyLoss()}, "`criterion` must return one loss per unit"),
        ({"context": "crop"}, "`units` must be boxes"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(fc.FullconvError, match=message):
        wrong(**arguments)


@pytest.mark.parametrize("option", ["context", "covering", "reduction"])
def test_unknown_choices_are_refused(option: str) -> None:
    with pytest.raises(BadConfigError, match=f"`{option}` must be one of"):
        wrong(**{option: "wide"})


def test_targets_larger_than_the_map_are_refused_without_memory_too() -> None:
    with pytest.raises(fc.FullconvError, match="`targets` must have the shape of the map"):
        wrong(targets=[torch.zeros(41, 48).long()])


def test_images_smaller_than_the_field_are_exact() -> None:
    net, images, targets = setting((8, 8))
    units = [some(targets[0], 0.3)]
    step = fc.StepLoss(net, CRITERION, covering="units")
    assert_same(net, step(images, targets, units), plain(net, images, targets, units))


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.two = nn.Conv2d(4, CLASSES, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(torch.tanh(self.norm(self.one(x))))


def test_batch_norm_in_training_runs_on_whole_images_and_sees_all_of_one_size_together() -> None:
    torch.manual_seed(0)
    net = Normed().double().train()
    images = [torch.randn(2, 24, 24, dtype=torch.float64) for _ in range(3)]
    targets = [torch.randint(CLASSES, (24, 24)) for _ in range(3)]
    units = [some(t, 0.2, seed=i) for i, t in enumerate(targets)]
    each = F.cross_entropy(net(torch.stack(images)), torch.stack(targets), reduction="none")
    mask = torch.stack(units)
    loss = (each * mask).sum() / mask.sum()
    expected = loss.detach(), list(torch.autograd.grad(loss, list(net.parameters())))
    assert_same(net, fc.StepLoss(net, CRITERION)(images, targets, units), expected)


def test_steps_of_a_network_that_is_not_local_let_their_images_go() -> None:
    net = Normed().train()
    step = fc.StepLoss(net, CRITERION, memory="1 GiB")
    alive: list[weakref.ref[Tensor]] = []
    for _ in range(4):
        image, target = torch.randn(2, 24, 24), torch.randint(CLASSES, (24, 24))
        alive.append(weakref.ref(image))
        step([image], [target]).backward()
    del image
    assert [ref() is None for ref in alive] == [True] * 4


@pytest.mark.parametrize(("memory", "calls"), [(None, 0), (2**30, 0), (1.1, 1), (2.3, 0)])
def test_freed_memory_is_given_back_at_once_only_where_a_step_takes_most_of_it(
    memory: float | None, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back: list[int] = []
    monkeypatch.setattr(_step_loss, "return_freed_memory", lambda: given_back.append(1))
    net = Normed().train()  # whole, or not at all
    needed = Planner(net, None)._whole(2, (64, 64))[0]
    budget = None if memory is None else int(memory * needed if memory < 9 else memory)
    step = fc.StepLoss(net, CRITERION, memory=budget)
    step([torch.randn(2, 64, 64)], [torch.randint(CLASSES, (64, 64))]).backward()
    assert len(given_back) == calls


@pytest.mark.parametrize("options", [{"memory": "100 KiB"}, {"covering": "units"}])
def test_batch_norm_in_training_is_refused_where_an_image_is_cut(options: dict[str, Any]) -> None:
    net = Normed().train()
    image, target = torch.randn(2, 64, 64), torch.randint(CLASSES, (64, 64))
    step = fc.StepLoss(net, CRITERION, **options)
    with pytest.raises(fc.NotLocalError, match=r"`norm` \(BatchNorm2d\) is not local.*eval"):
        step([image], [target], [some(target, 0.1)])
    net.eval()
    step([image], [target], [some(target, 0.02)]).backward()


def test_crops_are_cut_out_and_see_zeros_around_them() -> None:
    net, images, targets = setting((40, 48), (32, 64))
    units = fc.Patchwise(count=6, size=16)(targets, torch.Generator().manual_seed(0))
    crops = [
        (i[(slice(None), *b.slices)], t[b.slices])
        for i, t, boxes in zip(images, targets, units, strict=True)
        for b in boxes
    ]
    logits = net(torch.stack([image for image, _ in crops]))
    loss = F.cross_entropy(logits, torch.stack([target for _, target in crops]))
    expected = loss.detach(), list(torch.autograd.grad(loss, list(net.parameters())))
    step = fc.StepLoss(net, CRITERION, context="crop")
    assert_same(net, step(images, targets, units), expected)
    with_context = fc.StepLoss(net, CRITERION)(images, targets, units)
    assert abs(with_context.item() - loss.item()) > 1e-4


def test_crops_of_an_unpadded_network_see_what_windows_see() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2), nn.Tanh(), nn.Conv2d(4, CLASSES, 3)).double()
    image = torch.randn(2, 41, 47, dtype=torch.float64)
    target = torch.randint(CLASSES, net(image[None]).shape[2:])
    units = fc.Patchwise(count=7, size=3)([target], torch.Generator().manual_seed(1))
    crops = fc.StepLoss(net, CRITERION, context="crop")([image], [target], units)
    counts = torch.zeros(target.shape)
    for box in units[0]:
        counts[box.slices] += 1
    assert_same(net, crops, plain(net, [image], [target], [counts]))


def test_frozen_parameters_stay_without_gradient_and_unused_ones_too() -> None:
    net, images, targets = setting((96, 128))
    net.head.weight.requires_grad_(False)
    net.extra = nn.Conv2d(3, 3, 1).double()
    fc.StepLoss(net, CRITERION, memory="1 MiB")(images, targets).backward()
    assert net.head.weight.grad is None
    assert net.extra.weight.grad is None
    assert net.tail.weight.grad is not None


def test_images_that_need_gradients_get_them() -> None:
    net, images, targets = setting((96, 128), (64, 96))
    units = [some(t, 0.05) for t in targets]
    images = [image.requires_grad_() for image in images]
    weight = sum(u.sum() for u in units)
    total = sum(
        (F.cross_entropy(net(i[None]), t[None], reduction="none")[0] * u).sum() / weight
        for i, t, u in zip(images, targets, units, strict=True)
    )
    expected = torch.autograd.grad(torch.as_tensor(total), images)
    fc.StepLoss(net, CRITERION, memory="700 KiB")(images, targets, units).backward()
    for image, exact in zip(images, expected, strict=True):
        assert image.grad is not None
        assert (image.grad - exact).norm() <= 1e-12 * exact.norm()


def test_steps_accumulate_and_scale_like_any_loss() -> None:
    net, images, targets = setting((96, 128))
    step = fc.StepLoss(net, CRITERION, memory="700 KiB")
    _, grads = plain(net, images, targets, [torch.ones(96, 128)])
    for factor in (2.0, 0.5):
        (step(images, targets) * factor).backward()
    for parameter, grad in zip(net.parameters(), grads, strict=True):
        assert parameter.grad is not None
        assert (parameter.grad - 2.5 * grad).norm() <= 1e-11 * grad.norm()


def test_autocast_reaches_every_window() -> None:
    net, images, targets = setting((96, 128))
    net.float()
    images = [image.float() for image in images]
    exact, grads = plain(net, images, targets, [torch.ones(96, 128)])
    for memory in (None, "500 KiB"):
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = fc.StepLoss(net, CRITERION, memory=memory)(images, targets)
        loss.backward()
        assert loss.item() == pytest.approx(exact.item(), rel=0.02)
        assert loss.item() != exact.item()
        for parameter, grad in zip(net.parameters(), grads, strict=True):
            assert parameter.grad is not None
            assert (parameter.grad - grad).norm() <= 0.1 * grad.norm()


def test_compiled_networks_run_through_windows() -> None:
    net, images, targets = setting((96, 128))
    units = [some(targets[0], 0.002)]
    step = fc.StepLoss(torch.compile(net, backend="aot_eager"), CRITERION, memory="1 MiB")
    assert_same(net, step(images, targets, units), plain(net, images, targets, units))


def test_arrays_are_read_box_by_box() -> None:
    net, images, targets = setting((96, 128))
    units = [torch.zeros(96, 128, dtype=torch.bool)]
    units[0][50, 60] = True

    class Stored:
        shape = images[0].shape
        read = 0

        def __getitem__(self, place: Any) -> Any:
            part = images[0][place].numpy()
            self.read += part[0].size
            return part

    stored = Stored()
    step = fc.StepLoss(net, CRITERION)
    assert_same(net, step([stored], targets, units), plain(net, images, targets, units))
    assert stored.read <= 28 * 28


@pytest.fixture
def process_group() -> Iterator[None]:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29531"}
    torch.distributed.init_process_group("gloo", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_distributed_steps_hand_their_gradients_to_the_reducer(process_group: None) -> None:
    del process_group
    net, images, targets = setting((96, 128))
    step = nn.parallel.DistributedDataParallel(fc.StepLoss(net, CRITERION, memory="1 MiB"))
    seen: list[int] = []
    step.register_comm_hook(seen, _count)
    loss = step(images, targets)
    assert_same(net, loss, plain(net, images, targets, [torch.ones(96, 128)]))
    assert seen
    with pytest.raises(BadConfigError, match="put the whole step into it"):
        fc.StepLoss(nn.parallel.DistributedDataParallel(net), CRITERION)


def _count(seen, bucket):  # noqa: ANN001, ANN202 - PyTorch takes no annotations that are strings
    seen.append(bucket.buffer().numel())
    future: Any = torch.futures.Future()
    future.set_result(bucket.buffer())
    return future


def test_losses_of_all_units_are_those_of_the_map() -> None:
    net, images, targets = setting((96, 128), (40, 48))
    found = fc.StepLoss(net, CRITERION, memory="600 KiB").losses(images, targets)
    for image, target, loss in zip(images, targets, found, strict=True):
        exact = F.cross_entropy(net(image[None]), target[None], reduction="none")[0]
        assert loss.shape == target.shape
        assert (loss - exact).abs().max() <= 1e-6


def test_half_precision_weights_count_what_they_say() -> None:
    net, images, targets = setting((300, 300))
    weights = torch.ones(300, 300).half()
    weights[0, 0] = 0.5
    step = fc.StepLoss(net, CRITERION)
    assert_same(
        net, step(images, targets, [weights]), plain(net, images, targets, [weights.double()]), 1e-7
    )
    with pytest.raises(fc.FullconvError, match="or infinite"):
        step(images, targets, [torch.full((300, 300), torch.inf)])


def test_labels_smaller_than_the_map_are_refused_without_memory_too() -> None:
    with pytest.raises(fc.FullconvError, match="`targets` must have the shape of the map"):
        wrong(targets=[torch.zeros(36, 40).long()])


def test_costs_follow_what_is_frozen() -> None:
    net, images, targets = setting((96, 128))
    for parameter in (*net.head.parameters(), *net.low.parameters(), *net.lower.parameters()):
        parameter.requires_grad_(False)
    step = fc.StepLoss(net, CRITERION, memory="700 KiB")
    before = len(step.cover(images[0], targets[0]))
    net.requires_grad_(True)
    after = len(step.cover(images[0], targets[0]))
    assert after == len(fc.StepLoss(net, CRITERION, memory="700 KiB").cover(images[0], targets[0]))
    assert after >= before


def test_crops_of_a_network_that_pads_and_strides_are_refused_at_the_border() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3, 2, 1), nn.Conv2d(4, CLASSES, 3, padding=1)).double()
    image, target = torch.randn(2, 40, 40).double(), torch.randint(CLASSES, (20, 20))
    step = fc.StepLoss(net, CRITERION, context="crop")
    for corner in (0, 8):
        box = Box(start=(corner, corner), stop=(corner + 4, corner + 4))
        with pytest.raises(fc.FullconvError, match=r"`net` must not pad|shape of the map"):
            step([image], [target], [[box]])


def test_scattered_units_of_a_small_field_get_windows_of_one_shape() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, CLASSES, 3, padding=1)
    )
    image, target = torch.randn(2, 256, 256), torch.zeros(256, 256, dtype=torch.long)
    units = fc.Patchwise(40)(target, torch.Generator().manual_seed(1))
    units[:2] = units[-2:] = units[:, :2] = units[:, -2:] = False
    cover = fc.StepLoss(net, CRITERION).cover(image, target, units)
    assert len(cover) == int(units.sum())
    assert {window.reads.shape for window in cover} == {(5, 5)}
