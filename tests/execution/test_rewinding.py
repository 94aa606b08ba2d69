"""Down an image and back: the whole image's loss and gradient, within a memory, at the price of a pass."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import fullconv as fc
from fullconv.execution._cost import kept_bytes
from fullconv.execution._rewind import Rewind, rewind_bytes, rewind_within
from fullconv.execution._rewinding import Rewinding
from fullconv.execution._rolling import Rolling
from fullconv.networks import build
from fullconv.tracing import Stages, record

from .test_rolling import Alive, Net, Repeated, net_of, staged

CRITERION = nn.CrossEntropyLoss(reduction="none", ignore_index=2)
WAYS = [(16, 1), (16, 3), (7, 4), (64, 2), (500, 1)]


def leaves_of(net: nn.Module, image: Tensor) -> list[Tensor]:
    return [*(p for p in net.parameters() if p.requires_grad), image]


def rewound(
    net: nn.Module, found: Stages, image: Tensor, outer: Tensor, plan: Rewind
) -> tuple[Tensor, list[Tensor | None]]:
    """Return the map, and the gradient of its product with `outer`."""

    def read(start: int, stop: int) -> Tensor:
        return image[:, :, start:stop]

    rewinding = Rewinding(Rolling(net, found), plan)
    pieces = [(first, piece) for first, piece in rewinding.down(read)]
    grads = rewinding.back(
        read,
        leaves_of(net, image),
        lambda first, piece: (piece, outer[:, :, first : first + piece.shape[2]]),
    )
    return torch.cat([piece for _, piece in pieces], 2), grads


def check_same(found: list[Tensor | None], expected: Any, tolerance: float = 1e-12) -> None:
    assert [g is None for g in found] == [g is None for g in expected]
    for one, other in zip(found, expected, strict=True):
        if one is not None:
            assert (one - other).abs().max() <= tolerance * max(other.abs().max(), 1e-9)


class Weighed(nn.Module):
    """Weights that are made of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.last = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 3, 3, padding=1))
        self.scale = nn.Parameter(torch.rand(4))

    def forward(self, x: Tensor) -> Tensor:
        weight = F.normalize(self.first.weight.flatten(1)).view_as(self.first.weight)
        y = F.conv2d(x, weight, self.first.bias, padding=1)
        return self.last(F.relu(y) * self.scale.exp()[:, None, None])


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "unet":
        return build(name, channels=2, classes=3, width=4, depth=3).double().eval()
    if name == "fcn8s":
        return build(name, channels=2, classes=3).double().eval()
    return net_of({"net": Net, "weighed": Weighed}[name])


@pytest.mark.parametrize(("rows", "every"), WAYS)
@pytest.mark.parametrize("name", ["net", "unet", "fcn8s", "weighed"])
def test_the_gradient_is_that_of_the_whole_image(name: str, rows: int, every: int) -> None:
    net, shape = network(name), (155, 70)
    image = torch.randn(1, 2, *shape, dtype=torch.float64, requires_grad=True)
    whole = net(image)
    outer = torch.randn_like(whole)
    expected = torch.autograd.grad(whole, leaves_of(net, image), outer, allow_unused=True)
    found = staged(net, 2, shape)
    made, grads = rewound(net, found, image, outer, Rewind(rows=rows, every=every))
    assert (made - whole).abs().max() <= 1e-12 * whole.abs().max()
    check_same(grads, expected)


@pytest.mark.parametrize("ndim", [1, 3])
def test_one_and_three_axes_have_rows_too(ndim: int) -> None:
    torch.manual_seed(0)
    conv, pool = (nn.Conv1d, nn.Conv3d)[ndim // 2], (nn.AvgPool1d, nn.AvgPool3d)[ndim // 2]
    net = nn.Sequential(conv(1, 3, 3, padding=1), pool(2), conv(3, 2, 3, dilation=2)).double()
    shape = (57, 12, 14)[:ndim]
    image = torch.randn(1, 1, *shape, dtype=torch.float64, requires_grad=True)
    outer = torch.randn_like(whole := net(image))
    expected = torch.autograd.grad(whole, leaves_of(net, image), outer)
    _, grads = rewound(net, staged(net, 1, shape), image, outer, Rewind(rows=10, every=2))
    check_same(grads, expected)


def test_frozen_weights_have_no_gradient() -> None:
    net, image = network("unet"), torch.randn(1, 2, 96, 41, dtype=torch.float64, requires_grad=True)
    net.requires_grad_(False)
    outer = torch.randn_like(whole := net(image))
    expected = torch.autograd.grad(whole, [image], outer)
    _, grads = rewound(net, staged(net, 2, (96, 41)), image, outer, Rewind(rows=16, every=1))
    check_same(grads, expected)


@pytest.mark.parametrize("every", [1, 4])
def test_it_costs_one_more_forward_pass_or_two(every: int) -> None:
    net, image = net_of(), torch.randn(1, 2, 1024, 40, dtype=torch.float64, requires_grad=True)
    found, plan = staged(net, 2, (1024, 40)), Rewind(rows=64, every=every)
    with FlopCounterMode(display=False) as whole:
        out = net(image)
        out.backward(torch.ones_like(out))
    with FlopCounterMode(display=False) as down:
        rewound(net, found, image, torch.ones_like(out), plan)
    cost = plan.cost / 3 * whole.get_total_flops()
    assert 0.9 * cost < down.get_total_flops() < 1.15 * cost


@pytest.mark.parametrize("plan", [Rewind(rows=32, every=1), Rewind(rows=32, every=5)])
def test_bytes_are_said_beforehand(plan: Rewind) -> None:
    net, image = network("unet"), torch.randn(1, 2, 640, 32, dtype=torch.float64)
    found = staged(net, 2, (640, 32))
    kept = kept_bytes(net, 2, (640, 32), record(net, 2, (640, 32)))
    outer = torch.ones((), dtype=torch.float64).expand(net(image).shape)  # takes no room
    with Alive(image) as alive:
        Rewinding(Rolling(net, found), plan).back(
            lambda a, b: image[:, :, a:b].clone(),
            list(net.parameters()),
            lambda first, p: (p, outer[:, :, first : first + p.shape[2]]),
        )
    said = rewind_bytes(found, plan, kept)
    of_weights = 2 * sum(p.numel() * p.element_size() for p in net.parameters())
    assert alive.most - of_weights <= 1.05 * said
    assert said <= 2 * alive.most
    assert alive.most < 0.6 * kept


def test_the_fastest_way_that_fits_is_taken() -> None:
    net = network("unet")
    found = staged(net, 2, (2048, 64))
    kept = kept_bytes(net, 2, (2048, 64), record(net, 2, (2048, 64)))
    ample, tight, none = (rewind_within(found, kept, int(m * kept)) for m in (1, 0.13, 0.01))
    assert ample == Rewind(rows=128, every=1)
    assert tight is not None
    assert tight.every > 1
    assert rewind_bytes(found, tight, kept) <= 0.13 * kept
    assert none is None


def images_and_labels() -> tuple[list[Tensor], list[Tensor]]:
    torch.manual_seed(1)
    shapes = [(800, 64), (160, 72)]
    images = [torch.randn(3, *s, dtype=torch.float64, requires_grad=True) for s in shapes]
    return images, [torch.randint(3, s) for s in shapes]


def units_of(kind: str, targets: list[Tensor]) -> Any:
    if kind == "all":
        return None
    torch.manual_seed(2)
    if kind == "weights":
        return [torch.rand(t.shape) for t in targets]
    return [torch.rand(t.shape) < 0.7 for t in targets]


def step_and_gradients(
    step: fc.StepLoss, images: list[Tensor], targets: list[Tensor], units: Any
) -> tuple[Tensor, list[Tensor | None]]:
    loss = step(images, targets, units)
    leaves = [*(p for p in step.parameters() if p.requires_grad), *images]
    return loss, list(torch.autograd.grad(loss, leaves, allow_unused=True))


def unet() -> nn.Module:
    torch.manual_seed(0)
    return build("unet", classes=3, width=4, depth=3).double().eval()


@pytest.mark.parametrize(
    ("kind", "reduction"), [("all", "mean"), ("mask", "sum"), ("weights", "mean")]
)
def test_a_step_runs_down_images_that_do_not_fit(kind: str, reduction: Any) -> None:
    net, (images, targets) = unet(), images_and_labels()
    units = units_of(kind, targets)
    whole = fc.StepLoss(net, CRITERION, reduction=reduction)
    within = fc.StepLoss(net, CRITERION, "8 MiB", reduction=reduction)
    assert len(within.cover(images[0], targets[0])) == 1
    loss, expected = step_and_gradients(whole, images, targets, units)
    found, grads = step_and_gradients(within, images, targets, units)
    assert found.item() == pytest.approx(loss.item(), rel=1e-12)
    check_same(grads, expected)
    with torch.no_grad():
        assert within(images, targets, units).item() == pytest.approx(loss.item(), rel=1e-12)


def test_rows_in_which_nothing_counts_are_no_loss() -> None:
    net, (images, targets) = unet(), images_and_labels()
    targets = [torch.full_like(t, 2) for t in targets]
    targets[0][300:310] = 1
    whole, within = fc.StepLoss(net, CRITERION), fc.StepLoss(net, CRITERION, "8 MiB")
    loss, expected = step_and_gradients(whole, images, targets, None)
    found, grads = step_and_gradients(within, images, targets, None)
    assert found.item() == pytest.approx(loss.item(), rel=1e-12)
    check_same(grads, expected)


def test_weights_that_are_put_in_later_are_used() -> None:
    net, (images, targets) = unet(), images_and_labels()
    within = fc.StepLoss(net, CRITERION, "8 MiB")
    within(images, targets).backward()
    net.load_state_dict({n: w * 1.1 for n, w in net.state_dict().items()})
    loss = fc.StepLoss(net, CRITERION)(images, targets)
    assert within(images, targets).item() == pytest.approx(loss.item(), rel=1e-12)


class Reads:
    """An image that is read by boxes, and counts its px."""

    def __init__(self, image: np.ndarray) -> None:
        self.image, self.shape, self.dtype = image, image.shape, image.dtype
        self.px, self.most = 0, 0

    def __getitem__(self, key: Any) -> np.ndarray:
        part = self.image[key]
        self.px, self.most = self.px + part.size, max(self.most, part.size)
        return part


def test_images_and_labels_are_read_some_rows_at_a_time() -> None:
    net = unet()
    images, targets = images_and_labels()
    image, labels = Reads(images[0].detach().numpy()), Reads(targets[0].numpy())
    within = fc.StepLoss(net, CRITERION, "8 MiB")
    loss = within([image], [labels])
    expected = fc.StepLoss(net, CRITERION)(images[:1], targets[:1])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert image.most < images[0].numel() / 5
    assert image.px <= 3 * images[0].numel()


def test_numbers_that_are_dropped_are_computed_through_windows() -> None:
    net, (images, targets) = unet(), images_and_labels()
    dropping = nn.Sequential(nn.Dropout(0.1), net).train()
    net.eval()
    within = fc.StepLoss(dropping, CRITERION, "8 MiB")
    assert len(within.cover(images[0], targets[0])) > 1


def gradient_of(net: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])


def test_under_autocast_the_gradient_is_as_right_as_that_of_the_whole_image() -> None:
    net, (images, targets) = unet().float(), images_and_labels()
    image = images[0].detach().float()
    steps = [fc.StepLoss(net, CRITERION, memory) for memory in (None, "4 MiB")]
    found: list[Tensor] = []
    for half, step in product((False, True), steps):
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = step([image], targets[:1])
            assert len(step.cover(image, targets[0])) == 1
        loss.backward()
        found.append(gradient_of(net))
    exact, exact_by_rows, whole, by_rows = found
    off = (whole - exact).norm()
    assert (exact_by_rows - exact).norm() <= 1e-3 * off
    assert off / 2 <= (by_rows - exact).norm() <= 1.1 * off


def test_a_streamed_map_remembers_autocast_on_its_way_back() -> None:
    net, (images, _) = unet().float(), images_and_labels()
    image = images[0].detach().float()[None]
    found: list[Tensor] = []
    for model, half in ((net, False), (net, True), (fc.Streamed(net, "4 MiB"), True)):
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            made = model(image)
        assert made.dtype == (torch.bfloat16 if half else torch.float32)
        made.float().square().mean().backward()
        found.append(gradient_of(net))
    exact, whole, by_rows = found
    off = (whole - exact).norm()
    assert off / 2 <= (by_rows - exact).norm() <= 1.1 * off


def test_what_cannot_stop_at_a_row_is_computed_through_windows() -> None:
    net, image = net_of(Repeated), torch.randn(2, 900, 64, dtype=torch.float64)
    within = fc.StepLoss(net, CRITERION, "2 MiB")
    assert len(within.cover(image, torch.zeros(900, 64).long())) > 1


def test_few_units_are_computed_through_windows() -> None:
    net, (images, targets) = unet(), images_and_labels()
    few = torch.zeros(targets[0].shape, dtype=torch.bool)
    few[100:140, 10:20] = True
    windows = fc.StepLoss(net, CRITERION, "8 MiB").cover(images[0], targets[0], few)
    assert sum(w.reads.size for w in windows) < targets[0].numel() / 2
