"""The loss of a step: over all units of its images, or those that a sampler chooses."""

from collections.abc import Sequence
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from fullconv.errors import BadConfigError, FullconvError
from fullconv.execution import (
    Planner,
    StepLoss,
    Streamed,
    Sums,
    choose,
    gradients,
    handed,
    in_words,
    like_weights,
)
from fullconv.geometry import least_window
from fullconv.sampling import Hard, Sampler, generator, is_large
from fullconv.training._losses import Criterion, UnitCriterion

# Images of one size (N, C, H, W) with their targets (N, H, W); lists, where they are read in parts.
Group = tuple[Any, Any]


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
    sums = Sums(len(parameters))
    for group in groups:
        share = _total(net, criterion, group) / weight
        sums.add(gradients(share, parameters))
        loss += share.detach()
    return handed(loss, parameters, sums.found)


class Step:
    """The loss of steps of one regime.

    Args:
        net: The network.
        criterion: The loss.
        sampler: Which units count; None for all.
        seed: Seed of the sampler.
        memory: Bytes that a step may add; None for no limit.

    Raises:
        BadConfigError: If units are chosen for a loss that is not a sum over units.
    """

    def __init__(
        self,
        net: nn.Module,
        criterion: Criterion,
        *,
        sampler: Sampler | None = None,
        seed: int = 0,
        memory: int | None = None,
    ) -> None:
        self.net, self.criterion = net, criterion
        self.sampler, self.seed = sampler, seed
        if sampler is not None and not isinstance(criterion, UnitCriterion):
            raise BadConfigError(
                f"`criterion` must be a sum over units to choose among them, got {criterion!r}"
            )
        self.keep_within(memory)

    def keep_within(self, memory: int | None) -> None:
        """Let steps add that many bytes from now on; None for no limit."""
        self.memory = memory
        self._units: StepLoss | None = None
        if isinstance(self.criterion, UnitCriterion):
            self._units = StepLoss(self.net, _Each(self.criterion), memory, reduction="sum")
        self._streamed = self.net if memory is None else Streamed(self.net, memory)
        self._seen, self._seen_memory = self._streamed, memory

    def halve(self, groups: Sequence[Group]) -> int:
        """Let steps add half of what they may, or of what these images take at once; return it.

        Args:
            groups: The images of a step.

        Raises:
            NotLocalError: If a layer looks at the whole image: such a step cannot be cut.
            FullconvError: If not even the smallest windows take less.
        """
        half = self._half(groups, self.memory)
        self.keep_within(half)
        return half

    def halve_logits(self, groups: Sequence[Group]) -> int:
        """Let `logits` add half of what it may, or of what steps over these images take; return it.

        Raises:
            NotLocalError: If a layer looks at the whole image.
            FullconvError: If not even the smallest windows take less.
        """
        self._seen_memory = self._half(groups, self._seen_memory)
        self._seen = Streamed(self.net, self._seen_memory)
        return self._seen_memory

    def _half(self, groups: Sequence[Group], memory: int | None) -> int:
        """Return half of what steps over these images take within a memory.

        Raises:
            NotLocalError: If a layer looks at the whole image: such a step cannot be cut.
            FullconvError: If not even the smallest windows take less.
        """
        planner = Planner(getattr(self.net, "_orig_mod", self.net), None)
        needs: list[tuple[float, float]] = []
        for stack, _ in groups:
            channels, *sides = tuple(stack[0].shape)
            geometry = planner.geometry(channels, tuple(sides))
            costs = planner.costs(channels, geometry)
            least = float(costs.training_bytes(least_window(geometry, tuple(sides))))
            needs.append((len(stack) * float(costs.training_bytes(sides)), least))
        whole, least = (ceil(max(each)) for each in zip(*needs, strict=True))
        now = min(whole, memory or whole)
        if now <= least:
            raise FullconvError(
                f"`memory` must hold one window of a step, got {in_words(now)} where the smallest "
                f"takes about {in_words(least)}"
            )
        return max(now // 2, least)

    def __call__(self, groups: Sequence[Group], place: tuple[int, ...] = ()) -> Tensor:
        """Return the loss of a step; its ``backward`` gives the exact gradient.

        Args:
            groups: The images of the step, stacked by size.
            place: Epoch, step and so on: what the random numbers of the sampler belong to.
        """
        large = not all(isinstance(stack, Tensor) for stack, _ in groups)
        if large and self._units is None:
            raise BadConfigError(
                f"`criterion` must be a sum over units for images that are read in parts, got "
                f"{self.criterion!r}; cut sub-images out of them with `--sampling crop:4x256`"
            )
        if self._units is None or (self.sampler is None and self.memory is None and not large):
            return step_loss(self._streamed, self.criterion, groups)
        images = [image for stack, _ in groups for image in stack]
        targets = [t.long() if isinstance(t, Tensor) else t for _, stack in groups for t in stack]
        units = self._chosen(images, targets, place)
        return self._units(images, targets, units) / self._weight(targets, units)

    def logits(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return the logits of a stack of images, within the memory."""
        return logits_of(self._seen, images, targets)

    def _chosen(self, images: Sequence[Any], targets: Sequence[Any], place: tuple[int, ...]) -> Any:
        if self.sampler is None:
            return None
        if isinstance(self.sampler, Hard):
            if any(map(is_large, targets)):
                raise BadConfigError(
                    "`sampling` = hard needs the loss of every unit in memory, got images that are read "
                    "in parts; take balanced or patchwise"
                )
            assert self._units is not None
            return self.sampler.hardest(targets, self._units.losses(images, targets))
        return self.sampler(targets, generator(self.seed, *place))

    def _weight(self, targets: Sequence[Any], units: Any) -> Tensor:
        """Return what the chosen units add to the divisor of the step."""
        criterion = self.criterion
        assert isinstance(criterion, UnitCriterion)
        total = torch.zeros((), device=like_weights(self.net).device)
        every: Sequence[Any] = units or [None] * len(targets)
        for target, chosen in zip(targets, every, strict=True):
            if not isinstance(target, Tensor):
                total += self._weight_of_parts(target, chosen, total)
                continue
            weights = criterion.weights_of(target)
            if isinstance(chosen, Tensor):
                total += (weights * chosen).sum()
            elif chosen is None:
                total += weights.sum()
            else:
                total += sum((weights[box.slices].sum() for box in chosen), total * 0)
        return torch.where(total > 0, total, 1)

    def _weight_of_parts(self, target: Any, chosen: Any, like: Tensor) -> Tensor:
        """Return what the chosen units of a map add that is read in parts."""
        assert isinstance(self.criterion, UnitCriterion)
        units = choose(target, chosen, self.criterion.ignore)
        total = torch.zeros_like(like)
        for box in units.pieces():
            found = units.terms(box)
            weights = self.criterion.weights_of(found.targets.to(like.device))
            total += (weights if found.counts is None else weights * found.counts.to(weights)).sum()
        return total


class _Each(nn.Module):
    """A criterion as a function of single units, for `StepLoss`."""

    def __init__(self, criterion: UnitCriterion) -> None:
        super().__init__()
        self.criterion, self.ignore_index = criterion, criterion.ignore

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.criterion.each(logits, targets)


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
