"""The loss of a step over images of different sizes, one after another."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fullconv.errors import BadConfigError
from fullconv.training._losses import Criterion

# Images of one size (N, C, H, W) with their targets (N, H, W).
Group = tuple[Tensor, Tensor]


def step_loss(net: nn.Module, criterion: Criterion, groups: Sequence[Group]) -> Tensor:
    """Return the loss over all valid units of the step; its ``backward`` gives the exact gradient.

    With several groups, each runs forward and backward at once, so that only one group's
    activations are in memory; the summed gradients are handed over by the returned loss.
    BatchNorm in training sees one group at a time.

    Args:
        net: The network.
        criterion: The loss.
        groups: The images of the step, stacked by size.
    """
    weight = torch.stack([criterion.weight(targets) for _, targets in groups]).sum()
    weight = torch.where(weight > 0, weight, 1)
    if len(groups) == 1 or not torch.is_grad_enabled():
        shares = [_total(net, criterion, group) / weight for group in groups]
        return torch.stack(shares).sum()
    parameters = [p for p in net.parameters() if p.requires_grad]
    loss = torch.zeros_like(weight)
    sums = [torch.zeros_like(p) for p in parameters]
    for group in groups:
        share = _total(net, criterion, group) / weight
        grads = torch.autograd.grad(share, parameters, allow_unused=True, materialize_grads=True)
        for total, grad in zip(sums, grads, strict=True):
            total += grad
        loss += share.detach()
    return _Handed.apply(loss, sums, *parameters)  # pyright: ignore[reportReturnType] (untyped)


def _total(net: nn.Module, criterion: Criterion, group: Group) -> Tensor:
    images, targets = group
    return criterion.total(logits_of(net, images, targets), targets.long())


def logits_of(net: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Return the float32 logits of a stack of images, one for each unit of the targets.

    Raises:
        BadConfigError: If the network's map is not of the images' size.
    """
    logits = net(images.contiguous(memory_format=torch.channels_last))
    if logits.shape[-2:] != targets.shape[-2:]:
        wanted, got = (" x ".join(map(str, t.shape[-2:])) for t in (targets, logits))
        raise BadConfigError(
            f"`net` must give a map of the image's size ({wanted} units), got {got}; "
            "upsample its last layer, and crop at the bottom and right"
        )
    return logits.float()


class _Handed(torch.autograd.Function):
    """A loss whose gradients are known already."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, grads: list[Tensor], *_parameters: Tensor) -> Tensor:
        ctx.grads = grads
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(grad * outputs[0] for grad in ctx.grads)
