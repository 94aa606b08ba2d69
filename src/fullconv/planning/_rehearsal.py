"""Training steps, and a prediction, rehearsed on tensors without numbers.

What is rehearsed is what will be run: forward under autocast, the loss, backward, the optimiser's
update. PyTorch itself decides what is saved and when it is let go; only the numbers are missing, so
a step that would need a terabyte is rehearsed in a second and in next to no memory.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
)

from fullconv.errors import FullconvError
from fullconv.execution import evaluating, gradients, handed, laid_out, like_weights
from fullconv.geometry import Box
from fullconv.planning._ledger import Course
from fullconv.planning._manner import Manner
from fullconv.planning._stage import Run, Stage
from fullconv.planning._words import times
from fullconv.tracing import the_map

PLAIN = Manner()
GROUPS = 8  # of windows whose units are taken together


class UnfitShapeError(FullconvError):
    """A network fails on images of a shape."""


@dataclass(frozen=True, slots=True, eq=False)
class Rehearsal:
    """What a run on tensors without numbers showed.

    Attributes:
        course: Its memory, operator by operator.
        map_shape: Shape of the map of one image or window, with classes.
    """

    course: Course
    map_shape: tuple[int, ...]

    @property
    def peak_bytes(self) -> int:
        """The most bytes that are taken at once."""
        return self.course.peak_bytes


def rehearse_step(
    net: nn.Module | Stage, shape: Sequence[int], *, batch: int = 1, manner: Manner = PLAIN
) -> Rehearsal:
    """Return what a training step over whole images takes, not the first one of a run.

    Args:
        net: Takes `(batch, channels, *spatial)`, returns a map; in the mode that it is trained in. Or
            a stage with it, for several rehearsals.
        shape: Of an image, `(channels, *spatial)`.
        batch: Images of the step.
        manner: How the step is made; a stage has its own.

    Raises:
        FullconvError: If the network cannot be run without numbers, or not on images of that shape.
    """
    found: tuple[int, ...] = ()

    def loss(run: Run) -> Tensor:
        nonlocal found
        logits = _logits(run, run.images(batch, *shape))
        found = tuple(logits.shape[1:])
        return run.stage.manner.total(logits, run.labels(batch, *found[1:]))

    stage = _stage(net, manner)
    with _refusals(stage.net, shape):
        return Rehearsal(stage.descend(loss), found)


def rehearse_windows(
    net: nn.Module | Stage,
    shape: Sequence[int],
    *,
    owned: Box | None = None,
    together: int = 1,
    held_bytes: int = 0,
    manner: Manner = PLAIN,
) -> Rehearsal:
    """Return what a training step takes that goes through windows, as `fullconv.StepLoss` makes it.

    Windows go forward and backward a batch at a time, and their gradients are added up. A batch is
    rehearsed when the gradients of others are there already.

    Args:
        net: The network, in the mode that it is trained in, or a stage with it.
        shape: Of a window, `(channels, *spatial)`: the largest of the step.
        owned: The units of its map that count; None for all.
        together: Windows that run together.
        held_bytes: Of the images and labels that the windows are cut from.
        manner: How the step is made; a stage has its own.

    Raises:
        FullconvError: If the network cannot be run without numbers, or not on windows of that shape.
    """
    found: tuple[int, ...] = ()

    def loss(run: Run) -> Tensor:
        nonlocal found
        leaves = [p for p in run.actor.parameters() if p.requires_grad]
        sums = [torch.empty_like(p) for p in leaves]
        run.ledger.call(sums, "gradients")
        like = like_weights(run.actor)
        windows = torch.empty(together, *shape, dtype=like.dtype, device=run.stage.device)
        logits = _logits(run, windows)
        found = tuple(logits.shape[1:])
        share = _of_units(run, logits, owned or Box.whole(found[1:]))
        del logits, windows
        run.ledger.call_the_living("saved", instead_of="passing")
        run.ledger.phase = "backward"
        grads = gradients(share, leaves)
        for total, grad in zip(sums, grads, strict=True):
            if grad is not None:
                total.add_(grad)
        return handed(share.detach(), leaves, sums)

    stage = _stage(net, manner)
    with _refusals(stage.net, shape):
        return Rehearsal(stage.descend(loss).holding(held_bytes), found)


def rehearse_forward(
    net: nn.Module | Stage, shape: Sequence[int], *, batch: int = 1, manner: Manner = PLAIN
) -> Rehearsal:
    """Return what a forward pass without gradients takes, in evaluation mode.

    Args:
        net: Takes `(batch, channels, *spatial)`, returns a map; or a stage with it.
        shape: Of an image, `(channels, *spatial)`.
        batch: Images together.
        manner: How it is made; of that, the precision. A stage has its own.

    Raises:
        FullconvError: If the network cannot be run without numbers, or not on images of that shape.
    """
    stage = _stage(net, manner)
    with _refusals(stage.net, shape), stage.run() as run, evaluating(run.actor):
        image = run.images(batch, *shape)
        with run.ledger, torch.no_grad(), stage.manner.cast(stage.device):
            logits = the_map(run.actor(laid_out(image, run.actor)))
        return Rehearsal(run.course(), tuple(logits.shape[1:]))


def _stage(net: nn.Module | Stage, manner: Manner) -> Stage:
    return net if isinstance(net, Stage) else Stage(net, manner)


def _logits(run: Run, images: Tensor) -> Tensor:
    """Return the network's maps; floats of 32 bits or more."""
    found = the_map(run.actor(laid_out(images, run.actor)))
    return found.float() if found.dtype in (torch.bfloat16, torch.float16) else found


def _of_units(run: Run, logits: Tensor, owned: Box) -> Tensor:
    """Return the summed loss of the units that windows own.

    Each window's units are taken by themselves there; here up to eight groups of them, for speed.
    """
    parts = logits.split(ceil(len(logits) / GROUPS))
    rows = [
        part[(slice(None), slice(None), *owned.slices)].movedim(1, -1).flatten(0, -2)
        for part in parts
    ]
    flat = torch.cat(rows) if len(logits) > 1 else rows[0]
    labels = torch.empty(len(flat), dtype=torch.long, device=run.stage.device)
    return run.stage.manner.each(flat, labels).sum()


@contextmanager
def _refusals(net: nn.Module, shape: Sequence[int]) -> Generator[None]:
    """Say what a network that cannot be run without numbers did."""
    try:
        yield
    except FullconvError:
        raise
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise FullconvError(
            f"`net` must not depend on the values of the image to be planned, got a "
            f"{type(net).__name__} that asks for them ({error}): take the branch on values out of "
            "`forward`"
        ) from error
    except Exception as error:
        raise UnfitShapeError(
            f"`shape` must be one that the network takes, got {times(shape[1:])} px with "
            f"{shape[0]} channels: {error}"
        ) from error
