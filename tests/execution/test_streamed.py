"""Whole maps through windows: same map, same gradients, any loss, less memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fullconv as fc

from .test_step_loss import CLASSES, NETS, Skip, case
from .test_steps import Normed


def dice(map_: Tensor, targets: Tensor) -> Tensor:
    """Soft Dice over the whole batch: no sum over units."""
    shares = map_.softmax(1)
    truth = F.one_hot(targets, CLASSES).movedim(-1, 1).to(shares)
    axes = (0, *range(2, map_.ndim))
    return 1 - (2 * (shares * truth).sum(axes) / (shares + truth).sum(axes)).mean()


def entropy(map_: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(map_, targets)


def batch(memory: str) -> tuple[nn.Module, fc.Streamed, Tensor, Tensor]:
    torch.manual_seed(0)
    net = Skip(2).double()
    images = torch.randn(2, 2, 96, 128, dtype=torch.float64)
    return net, fc.Streamed(net, memory), images, torch.randint(CLASSES, (2, 96, 128))


def long_batch() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    net = Skip(2).double()
    images = torch.randn(2, 2, 1200, 64, dtype=torch.float64, requires_grad=True)
    return net, images, torch.randint(CLASSES, (2, 1200, 64))


@pytest.mark.parametrize("share", [0.5, 0.15])
def test_long_images_are_run_down_and_back(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    net, images, targets = long_batch()
    whole = fc.Streamed(net, "4 GiB")._planner._whole(2, (1200, 64))[0]
    streamed, ways = fc.Streamed(net, int(share * whole)), []
    monkeypatch.setattr(
        streamed,
        "descent",
        lambda *args: ways.append(way := fc.Streamed.descent(streamed, *args)) or way,
    )
    inputs = [images, *net.parameters()]
    expected_map = net(images)
    expected = torch.autograd.grad(dice(expected_map, targets), inputs)
    found_map = streamed(images)
    assert (found_map - expected_map).abs().max() <= 1e-12
    found = torch.autograd.grad(dice(found_map, targets), inputs)
    assert ways
    for one, exact in zip(found, expected, strict=True):
        assert (one - exact).norm() <= 1e-12 * exact.norm()


@pytest.mark.parametrize("loss", [dice, entropy])
@pytest.mark.parametrize("memory", ["500 KiB", "2 MiB", "1 GiB"])
def test_map_and_gradients_are_those_of_the_whole_batch(
    memory: str, loss: Callable[[Tensor, Tensor], Tensor]
) -> None:
    net, streamed, images, targets = batch(memory)
    inputs = [images.requires_grad_(), *net.parameters()]
    expected_map = net(images)
    expected = torch.autograd.grad(loss(expected_map, targets), inputs)
    found_map = streamed(images)
    assert (found_map - expected_map).abs().max() <= 1e-12
    found = torch.autograd.grad(loss(found_map, targets), inputs)
    for one, exact in zip(found, expected, strict=True):
        assert (one - exact).norm() <= 1e-12 * exact.norm()


@pytest.mark.parametrize("name", NETS)
def test_any_number_of_axes(name: str) -> None:
    net, image, target = case(name)
    whole = fc.Streamed(net, "1 GiB")._planner._whole(2, tuple(image.shape[1:]))[0]
    streamed = fc.Streamed(net, int(whole * (0.8 if name == "skip-2d" else 0.5)))
    if name != "skip-3d":  # the field is as large as the image
        assert not streamed._planner._fits_whole(2, tuple(image.shape[1:]))
    else:
        streamed = fc.Streamed(net, "1 GiB")
    for model in (net, streamed):
        net.zero_grad()
        dice(model(image[None]), target[None]).backward()
        grads = [p.grad.clone() for p in net.parameters() if p.grad is not None]
        if model is net:
            expected = grads
    for one, exact in zip(grads, expected, strict=True):
        assert (one - exact).norm() <= 1e-12 * exact.norm() + 1e-16


def kept(net: nn.Module, images: Tensor, targets: Tensor) -> int:
    """The bytes that autograd keeps between forward and backward."""
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = dice(net(images), targets)
    loss.backward()
    return sum(saved.values())


def test_nothing_is_kept_between_forward_and_backward_but_images_and_map() -> None:
    net, streamed, images, targets = batch("500 KiB")
    # Images, weights and what the loss itself keeps are the same in both.
    assert kept(streamed, images, targets) < 0.5 * kept(net, images, targets)


def test_without_gradients_only_the_map_is_made() -> None:
    net, streamed, images, _ = batch("500 KiB")
    with torch.no_grad():
        found = streamed(images)
    assert not found.requires_grad
    assert (found - net(images)).abs().max() <= 1e-12


def test_autocast_of_forward_holds_in_backward() -> None:
    net, _, images, targets = batch("500 KiB")
    net.float()
    images = images.float()
    streamed = fc.Streamed(net, "250 KiB")
    grads: list[list[Tensor]] = []
    for model in (net, streamed):
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = dice(model(images).float(), targets)
        loss.backward()
        grads.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    exact = torch.autograd.grad(dice(net(images), targets), list(net.parameters()))
    for plain, found, full in zip(*grads, exact, strict=True):
        assert (found - plain).norm() <= 0.05 * plain.norm()
        assert not torch.equal(found, full)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised inside PyTorch's compiler
def test_a_compiled_model_around_it_has_the_same_map_and_gradients() -> None:
    net, streamed, images, targets = batch("500 KiB")
    model = torch.compile(nn.Sequential(streamed, nn.Softmax(1)), backend="aot_eager")
    grads: list[tuple[Tensor, ...]] = []
    for shares in (net(images).softmax(1), model(images)):
        grads.append(torch.autograd.grad(dice(shares, targets), list(net.parameters())))
    for plain, found in zip(*grads, strict=True):
        assert (found - plain).abs().max() <= 1e-12 * plain.abs().max()


@pytest.mark.parametrize("memory", ["500 KiB", "250 KiB"])
def test_gradients_of_gradients_are_refused_where_they_would_be_missing(memory: str) -> None:
    net, streamed, images, targets = batch(memory)
    weights = list(net.parameters())
    step = fc.StepLoss(net, nn.CrossEntropyLoss(reduction="none"), memory=memory)
    for loss in (dice(streamed(images), targets), step(images, targets)):
        with pytest.raises(fc.FullconvError, match="`create_graph` must be False, got True"):
            torch.autograd.grad(loss, weights, create_graph=True)


def test_batch_norm_in_training_runs_whole_or_is_refused() -> None:
    torch.manual_seed(0)
    net = Normed()
    images = torch.randn(2, 2, 64, 64)
    expected = net(images)
    assert torch.allclose(fc.Streamed(net, "100 MiB")(images), expected, atol=1e-6)
    with pytest.raises(fc.NotLocalError, match=r"`norm` \(BatchNorm2d\)"):
        fc.Streamed(net, "100 KiB")(images)
