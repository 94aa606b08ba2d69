"""However a network, its weights and its images are differentiated: windows and rows do the same."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fullconv as fc
from fullconv.geometry import Box

CRITERION = nn.CrossEntropyLoss(reduction="none", ignore_index=255)
WINDOWS = "60 KiB"


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 3, 3, padding=1)
    ).double()


def a_step() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.rand(1, 3, 60, 60).double(), torch.randint(3, (1, 60, 60))


class Reversed(torch.autograd.Function):
    """Its gradient has the other sign."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004 - autograd's
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # noqa: ARG004 - autograd's
        return -grads[0]


def without_gradient(layer: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return layer(x)


def tripled(layer: nn.Module, x: Tensor) -> Tensor:
    found = layer(x)
    if found.requires_grad:
        found.register_hook(lambda grad: 3 * grad)
    return found


BEGINNINGS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "plain": lambda layer, x: layer(x),
    "without gradient": without_gradient,
    "reversed": lambda layer, x: Reversed.apply(layer(x)),  # pyright: ignore[reportReturnType]
    "cut off": lambda layer, x: layer(x).data,
    "tripled": tripled,
    "on its device": lambda layer, x: layer(
        x * (x > 0).to(x) * torch.ones(1, device=x.device).double()
    ),
}


class Deep(nn.Module):
    """Ten convolutions behind a beginning: rows are cheaper than windows."""

    def __init__(self, begin: Callable[[nn.Module, Tensor], Tensor], last: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.begin, self.first = begin, nn.Conv2d(3, 4, 3, padding=1)
        pairs = [(nn.Conv2d(4, 4, 5, padding=2), nn.Tanh()) for _ in range(10)]
        self.body = nn.Sequential(*(layer for pair in pairs for layer in pair))
        self.last = nn.Conv2d(4, 3, 1)
        with torch.no_grad():
            for p in self.last.parameters():
                p.mul_(last)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(self.begin(self.first, x)))


@pytest.mark.parametrize(
    "last", [1.0, 0.0]
)  # score layers begin as 0: gradients behind them are too
@pytest.mark.parametrize("name", sorted(BEGINNINGS))
def test_rows_are_left_where_operators_do_not_tell_the_gradient(name: str, last: float) -> None:
    net = Deep(BEGINNINGS[name], last).double()
    image, target = torch.rand(1, 3, 260, 60).double(), torch.randint(3, (1, 260, 60))
    step, streamed = fc.StepLoss(net, CRITERION, "4 MB"), fc.Streamed(net, "4 MB")
    if name in {"plain", "on its device"}:
        assert len(step.cover(image[0], target[0])) == 1
    if not last:  # planned before, trained now
        step(image, target).backward()
        streamed(image).sum().backward()
        with torch.no_grad():
            for p in net.last.parameters():
                p.copy_(torch.rand(p.shape))
    runs = (
        lambda: CRITERION(net(image), target).mean(),
        lambda: step(image, target),
        lambda: CRITERION(streamed(image), target).mean(),
    )
    found = []
    for run in runs:
        net.zero_grad()
        run().backward()
        found.append([None if p.grad is None else p.grad.clone() for p in net.parameters()])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert (a is None) == (b is None)
            assert a is None or (a - b).abs().max() <= 1e-12 * max(1, float(a.abs().max()))  # pyright: ignore[reportOptionalOperand]


def test_hooks_of_modules_are_called_although_rows_are_cheaper() -> None:
    net = Deep(BEGINNINGS["plain"]).double()
    calls: list[int] = []
    net.body.register_full_backward_hook(lambda *_: calls.append(1))
    image, target = torch.rand(1, 3, 260, 60).double(), torch.randint(3, (1, 260, 60))
    fc.StepLoss(net, CRITERION, "4 MB")(image, target).backward()
    assert calls


@pytest.mark.parametrize("memory", ["1 GB", WINDOWS])
def test_hooks_of_weights_are_called_once_with_the_whole_gradient(memory: str) -> None:
    net, (image, target) = small_net(), a_step()
    weight = net[0].weight
    wanted = 2 * torch.autograd.grad(CRITERION(net(image), target).mean(), weight)[0]
    seen: list[Tensor] = []

    def doubled(grad: Tensor) -> Tensor:
        seen.append(grad)
        return 2 * grad

    weight.register_hook(doubled)
    streamed = fc.Streamed(net, memory)
    for loss in (
        fc.StepLoss(net, CRITERION, memory)(image, target),
        CRITERION(streamed(image), target).mean(),
    ):
        net.zero_grad()
        seen.clear()
        loss.backward()
        assert len(seen) == 1
        assert torch.allclose(weight.grad, wanted, rtol=1e-12, atol=1e-15)


def test_images_may_be_computed_from_weights_and_from_each_other() -> None:
    net, (image, target) = small_net(), a_step()
    scale = torch.ones(1, dtype=torch.float64, requires_grad=True)
    leaves = [*net.parameters(), scale]

    def images() -> list[Tensor]:
        first = image[0] * scale + net[0].weight.sum()
        return [first, first.exp()]

    wanted = sum(CRITERION(net(i[None]), target).mean() for i in images()) / 2
    expected = torch.autograd.grad(wanted, leaves)
    loss = fc.StepLoss(net, CRITERION, WINDOWS)(images(), [target[0]] * 2)
    for a, b in zip(torch.autograd.grad(loss, leaves), expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("way", ["windows", "rows"])
def test_a_network_may_be_streamed_through_itself(way: str) -> None:
    net, (image, _) = small_net(), a_step()
    streamed = fc.Streamed(net, WINDOWS)
    if way == "windows":  # nobody knows what hooks do
        net[1].register_full_backward_hook(lambda *_: None)
    expected = torch.autograd.grad(net(net(image)).square().mean(), [*net.parameters()])
    found = torch.autograd.grad(streamed(streamed(image)).square().mean(), [*net.parameters()])
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_what_is_not_chosen_is_never_seen(share: float) -> None:
    net, (image, _) = small_net(), a_step()
    units = torch.rand(60, 60) < share
    depth = torch.rand(60, 60).double()
    depth[~units] = torch.nan
    loss = fc.StepLoss(net, lambda logits, y: (logits[:, 0] - y) ** 2)(image, [depth], [units])
    found = torch.autograd.grad(loss, [*net.parameters()])
    wanted = ((net(image)[0, 0] - depth)[units] ** 2).mean()
    for a, b in zip(found, torch.autograd.grad(wanted, [*net.parameters()]), strict=True):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-15)
    labels = torch.where(units, 1, 255)  # no class, and no `ignore_index` either
    loss = fc.StepLoss(net, nn.CrossEntropyLoss(reduction="none"))(image, [labels], [units])
    assert torch.isclose(loss, F.cross_entropy(net(image), labels[None], ignore_index=255))


def test_small_gradients_survive_float16_however_the_loss_is_scaled_later() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, 2, 1),
    )  # fmt: skip
    image, target = torch.rand(1, 3, 200, 200), torch.randint(2, (1, 200, 200))
    wanted = torch.autograd.grad(F.cross_entropy(net(image), target), net[0].weight)[0]
    step = fc.StepLoss(net, CRITERION, "1 MB")
    with torch.autocast("cpu", torch.float16):
        loss = step(image, target) * 2.0**16
    found = torch.autograd.grad(loss, net[0].weight)[0] / 2.0**16
    assert (found - wanted).norm() < 0.05 * wanted.norm()


def test_ignored_labels_are_found_in_functions_with_settings() -> None:
    net, (image, target) = small_net(), a_step()
    target[:, :30] = 255
    criterion = partial(F.cross_entropy, reduction="none", ignore_index=255)
    wanted = F.cross_entropy(net(image), target, ignore_index=255)
    assert torch.isclose(fc.StepLoss(net, criterion)(image, target), wanted)
    target[:, :30] = -100
    plain = partial(F.cross_entropy, reduction="none")
    assert torch.isclose(
        fc.StepLoss(net, plain)(image, target), F.cross_entropy(net(image), target)
    )


def dropping(p: float) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.Dropout(p), nn.Conv2d(8, 8, 3, padding=1),
        nn.Dropout(0.5), nn.Conv2d(8, 2, 3, padding=1),
    ).double()  # fmt: skip


def test_dropout_that_begins_in_mid_training_agrees_between_windows() -> None:
    image, target = a_step()
    target.clamp_(max=1)
    net, losses = dropping(0.0), []
    for memory in ("150 KiB", "300 KiB"):
        net[1].p = 0.0
        step = fc.StepLoss(net, CRITERION, memory)
        step(image, target)
        net[1].p = 0.3
        torch.manual_seed(5)
        losses.append(step(image, target))
        torch.manual_seed(5)
        assert torch.isclose(losses[-1], fc.StepLoss(net, CRITERION, memory)(image, target))
    assert torch.isclose(*losses)


class AlwaysDropping(nn.Module):
    """Drops in eval mode, too."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.dropout(torch.tanh(self.a(x)), 0.5, training=True))


def test_dropout_in_eval_mode_agrees_between_windows_and_passes() -> None:
    net = AlwaysDropping().double().eval()
    image, target = a_step()
    target.clamp_(max=1)
    losses = []
    for memory in (WINDOWS, "40 KiB"):
        torch.manual_seed(7)
        losses.append(fc.StepLoss(net, CRITERION, memory)(image, target))
    assert torch.isclose(*losses)
    total = fc.Streamed(net, WINDOWS)(image).sum()
    (grad,) = torch.autograd.grad(total, net.b.weight)
    assert torch.isclose((net.b.weight * grad).sum(), total)  # the map is linear in these weights


def test_layers_that_are_put_in_or_changed_are_used() -> None:
    net, (image, target) = small_net(), a_step()
    step = fc.StepLoss(net, CRITERION, WINDOWS)
    step(image, target)
    net[2] = nn.Conv2d(4, 3, 9, padding=4).double()
    assert torch.isclose(step(image, target), CRITERION(net(image), target).mean())
    net[2].dilation, net[2].padding = (2, 2), (8, 8)
    assert torch.isclose(step(image, target), CRITERION(net(image), target).mean())


class Averaging(nn.Module):
    """Keeps an average of what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 3, padding=1)
        self.register_buffer("mean", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean.copy_(0.9 * self.mean + 0.1 * x.detach().mean())
        return self.layer(x) * self.mean


@pytest.mark.parametrize(
    ("net", "named"),
    [
        (nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(3, 3, 3, padding=1))), "`0` .*`weight_u`"),
        (nn.Sequential(Averaging()), "`0` .*`mean`|`0` .*whole image"),
    ],
    ids=["spectral norm", "average"],
)
def test_layers_that_change_with_each_window_are_refused_by_name(
    net: nn.Module, named: str
) -> None:
    image, target = a_step()
    target.clamp_(max=1)
    net.double().train()
    with pytest.raises(fc.NotLocalError, match=named):
        fc.StepLoss(net, CRITERION, WINDOWS)(image, target)
    with pytest.raises(fc.NotLocalError, match=named):
        fc.Streamed(net, WINDOWS)(image)
    net.eval()
    wanted = CRITERION(net(image), target).mean()
    assert torch.isclose(fc.StepLoss(net, CRITERION, WINDOWS)(image, target), wanted)


@pytest.mark.parametrize("second", ["chosen", "not chosen", "ignored"])
def test_batch_norm_sees_images_of_which_no_unit_counts(second: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)
    )
    images, targets = torch.rand(2, 3, 40, 40), torch.randint(2, (2, 40, 40))
    images[1] *= 3
    units = torch.zeros(2, 40, 40, dtype=torch.bool)
    units[0, 5:9, 5:9] = units[1, 3, 3] = True
    if second == "not chosen":
        units[1] = False
    if second == "ignored":
        targets[1] = 255
    net.train()
    mean = net[1].running_mean.clone()
    losses = CRITERION(net(images), targets)
    counts = units & (targets != 255)
    wanted, moved = losses[counts].mean(), net[1].running_mean.clone()
    net[1].running_mean.copy_(mean)
    assert torch.isclose(fc.StepLoss(net, CRITERION)(images, targets, units), wanted)
    assert torch.allclose(net[1].running_mean, moved)


def test_crops_do_not_run_where_one_does_not_fit() -> None:
    step = fc.StepLoss(nn.Conv2d(3, 3, 3, padding=1).double(), CRITERION, "1 KiB", context="crop")
    image, target = a_step()
    with pytest.raises(
        fc.FullconvError, match=r"`memory` must hold one crop, got 1.0 KiB .* would do"
    ):
        step(image, target, [[Box(start=(0, 0), stop=(40, 40))]])


class Unpadded(nn.Module):
    """Down, up, and no padding."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.interpolate(self.b(F.max_pool2d(self.a(x), 2)), scale_factor=2))


@pytest.mark.parametrize("start", [0, 1, 2, 3, 29])
def test_crops_of_unpadded_networks_agree_with_images_wherever_they_begin(start: int) -> None:
    net, image = Unpadded().double(), torch.rand(3, 46, 46).double()
    target = torch.randint(3, (38, 38))
    box = [Box(start=(start, start), stop=(start + 8, start + 9))]
    wanted = CRITERION(net(image[None]), target[None])[0][box[0].slices].mean()
    found = fc.StepLoss(net, CRITERION, context="crop")([image], [target], [box])
    assert abs(found - wanted) <= 1e-12


def test_steps_can_be_pickled_after_dropout_was_run_through_windows() -> None:
    net, (image, target) = dropping(0.5), a_step()
    step = fc.StepLoss(net, CRITERION, "150 KiB")
    target.clamp_(max=1)
    step(image, target)
    again = pickle.loads(pickle.dumps(step))
    torch.manual_seed(3)
    one = step(image, target)
    torch.manual_seed(3)
    assert torch.equal(one, again(image, target))


def test_images_of_which_nothing_counts_have_gradients_of_zero() -> None:
    net, (image, target) = small_net(), a_step()
    net.requires_grad_(False)
    image.requires_grad_()
    loss = fc.StepLoss(net, CRITERION)(image, target, [[]])
    loss.backward()
    assert loss == 0
    assert image.grad is not None
    assert not image.grad.any()


@pytest.mark.parametrize("units", ["none chosen", "all ignored"])
def test_labels_that_are_read_and_do_not_count_have_gradients_of_zero(units: str) -> None:
    net, (image, target) = small_net(), a_step()
    chosen = torch.zeros(60, 60, dtype=torch.bool)
    if units == "all ignored":
        target[:], chosen[:] = 255, True
    step = fc.StepLoss(net, CRITERION, WINDOWS)
    loss = step(image, [Sliced(target[0].numpy())], [Sliced(chosen.numpy())])
    loss.backward()
    assert loss == 0
    assert all(p.grad is not None and not p.grad.any() for p in net.parameters())


def test_units_may_be_read_where_labels_are_in_memory() -> None:
    net, (image, target) = small_net(), a_step()
    chosen = torch.rand(60, 60) < 0.3
    found = fc.StepLoss(net, CRITERION)(image, target, [Sliced(chosen.numpy())])
    assert torch.isclose(found, CRITERION(net(image), target)[0][chosen].mean())


class Sliced:
    """An array that gives parts of itself, as Zarr does."""

    def __init__(self, array: np.ndarray) -> None:
        self._array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, place: Any) -> np.ndarray:
        return self._array[place]


def test_a_gradient_of_a_map_made_in_another_mode_is_refused() -> None:
    net, (image, _) = dropping(0.5), a_step()
    total = fc.Streamed(net, "150 KiB")(image).sum()
    net.eval()
    with pytest.raises(fc.FullconvError, match="`net` must stay as it is"):
        total.backward()


def test_images_smaller_than_the_network_takes_are_refused_in_words() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 7), nn.Conv2d(4, 3, 7))
    image, target = torch.rand(1, 3, 10, 40), torch.zeros(1, 1, 28).long()
    words = r"`shape` must be one that the network takes, got an image of 10 x 40 px"
    with pytest.raises(fc.FullconvError, match=words):
        fc.StepLoss(net, CRITERION)(image, target)
    with pytest.raises(fc.FullconvError, match=words):
        fc.Streamed(net, "1 GB")(image)
    with pytest.raises(fc.FullconvError, match=r"`images` must be a tensor .* got a ndarray"):
        fc.Streamed(net, "1 GB")(image.numpy())


def test_weights_of_units_that_ask_for_gradients_are_refused() -> None:
    net, (image, target) = small_net(), a_step()
    units = torch.rand(1, 60, 60, requires_grad=True)
    with pytest.raises(fc.FullconvError, match="`units` must be numbers that gradients are not"):
        fc.StepLoss(net, CRITERION)(image, target, units)


def test_losses_of_a_network_of_float64_are_of_float64() -> None:
    net, (image, target) = small_net(), a_step()
    (found,) = fc.StepLoss(net, CRITERION, WINDOWS).losses(image, target)
    wanted = CRITERION(net(image), target)[0]
    assert found.dtype == torch.float64
    assert torch.allclose(found, wanted, rtol=1e-12, atol=1e-14)


def test_dropout_beside_a_function_of_its_own_agrees_between_windows() -> None:
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 3, padding=1)
            self.drop = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(Reversed.apply(self.drop(self.a(x))))

    net, (image, target) = Net().double(), a_step()
    target.clamp_(max=1)
    assert fc.trace(net).field == (5, 5)
    grads = []
    for memory in ("150 KB", WINDOWS):
        torch.manual_seed(0)
        loss = fc.StepLoss(net, CRITERION, memory)(image, target)
        grads.append(torch.autograd.grad(loss, net.a.weight)[0])
    assert torch.allclose(*grads, rtol=1e-11, atol=1e-15)


def test_a_step_is_not_planned_again_for_what_changes_no_window() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.1), nn.Conv2d(4, 3, 1)
    ).eval()
    image, target = torch.rand(1, 3, 60, 60), torch.randint(3, (1, 60, 60))
    step = fc.StepLoss(net, CRITERION, "40 KiB")
    step(image, target).backward()
    planned = step._planner._costs.copy()
    net[1].momentum, net[0].weight.data = 0.5, net[0].weight.data + 1
    step(image, target).backward()
    assert planned
    assert all(step._planner._costs[key] is costs for key, costs in planned.items())


class Added(nn.Module):
    """Weights that are sums of weights, and one that is a sum of numbers: gradients share memory."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.other = (nn.Parameter(0.1 * torch.randn(3, 3, 3, 3)) for _ in "ab")
        self.scale = nn.Parameter(0.3 * torch.ones(5))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.one + self.other, padding=1) * self.scale.sum()


@pytest.mark.parametrize("way", ["two sizes", "windows", "units", "streamed"])
def test_gradients_that_share_memory_are_each_added_up_once(way: str) -> None:
    net, (image, target) = Added().double(), a_step()
    images, targets = [image[0], image[0, :, :31]], [target[0], target[0, :31]]
    if way == "streamed":
        images, targets = images[:1], targets[:1]
        loss = CRITERION(fc.Streamed(net, "40 KiB")(image), target).mean()
    else:
        memory = "40 KiB" if way == "windows" else None
        step = fc.StepLoss(
            net, CRITERION, memory, covering="units" if way == "units" else "cheapest"
        )
        loss = step(images, targets)
    sums = [CRITERION(net(i[None]), t[None]).sum() for i, t in zip(images, targets, strict=True)]
    wanted = torch.stack(sums).sum() / sum(t.numel() for t in targets)
    leaves = [*net.parameters()]
    pairs = zip(torch.autograd.grad(loss, leaves), torch.autograd.grad(wanted, leaves), strict=True)
    for found, expected in pairs:
        assert torch.allclose(found, expected, rtol=1e-11, atol=1e-15)


def test_the_loss_of_a_frozen_network_is_its_loss() -> None:
    net, (image, target) = small_net().requires_grad_(False), a_step()
    net.unused = nn.Parameter(torch.ones(1).double())
    wanted = CRITERION(net(image), target)
    step = fc.StepLoss(net, CRITERION, WINDOWS)
    assert torch.isclose(step(image, target), wanted.mean())
    assert torch.isclose(
        step([image[0], image[0, :, :31]], [target[0], target[0, :31]], None),
        (wanted.sum() + CRITERION(net(image[:, :, :31]), target[:, :31]).sum()) / (91 * 60),
    )


def test_targets_that_ask_for_gradients_are_refused() -> None:
    net, (image, _) = small_net(), a_step()
    depth = torch.rand(1, 60, 60, requires_grad=True)
    with pytest.raises(fc.FullconvError, match="`targets` must be numbers that gradients are not"):
        fc.StepLoss(net, lambda logits, y: (logits[:, 0] - y) ** 2)(image, depth)


class Own(nn.Conv2d):
    """A convolution of one's own."""


class Kernel(nn.Module):
    """A convolution with a kernel of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(3, 3, 3, 3).double())

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, padding=self.weight.shape[-1] // 2)


def test_settings_of_derived_layers_and_shapes_of_weights_are_seen() -> None:
    torch.manual_seed(0)
    net, (image, target) = nn.Sequential(Own(3, 3, 3, padding=1), Kernel()).double(), a_step()
    step = fc.StepLoss(net, CRITERION, WINDOWS)
    step(image, target)
    net[0].dilation, net[0].padding = (4, 4), (4, 4)
    assert torch.isclose(step(image, target), CRITERION(net(image), target).mean())
    net[1].weight = nn.Parameter(0.1 * torch.randn(3, 3, 9, 9).double())
    assert torch.isclose(step(image, target), CRITERION(net(image), target).mean())
