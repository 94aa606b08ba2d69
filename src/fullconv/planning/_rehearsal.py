"""Training steps, and a prediction, rehearsed on tensors without numbers.

What is rehearsed is what will be run: forward under autocast, the loss, backward, the optimiser's
update. PyTorch itself decides what is saved and when it is let go; only the numbers are missing, so
a step that would need a terabyte is rehearsed in a second and in next to no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.optim import Optimizer

from fullconv.errors import BadConfigError, FullconvError
from fullconv.execution import add_up, gradients, handed, laid_out, like_weights
from fullconv.geometry import Box
from fullconv.planning._ledger import Course, Ledger
from fullconv.planning._manner import Manner
from fullconv.planning._twin import device_of, twin
from fullconv.planning._words import times
from fullconv.tracing import Modules, the_map

PLAIN = Manner()


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


@dataclass(frozen=True, slots=True, eq=False)
class _Stage:
    """A network without numbers, what will be known of it, and what its caller holds."""

    actor: nn.Module
    ledger: Ledger
    device: torch.device
    manner: Manner
    held: list[Tensor]

    def images(self, *shape: int) -> Tensor:
        """Return images that are there from the start to the end."""
        return self.there(shape, like_weights(self.actor).dtype)

    def labels(self, *shape: int) -> Tensor:
        """Return labels that are there from the start to the end."""
        return self.there(shape, torch.long)

    def there(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return a tensor that is there from the start to the end."""
        found = torch.empty(shape, dtype=dtype, device=self.device)
        self.ledger.antedate(found, "data")
        self.held.append(found)
        return found

    def course(self) -> Course:
        """Return what the ledger says."""
        return Course(tuple(self.ledger.ticks), tuple(self.ledger.blocks))


def rehearse_step(
    net: nn.Module, shape: Sequence[int], *, batch: int = 1, manner: Manner = PLAIN
) -> Rehearsal:
    """Return what a training step over whole images takes, not the first one of a run.

    Args:
        net: Takes `(batch, channels, *spatial)`, returns a map; in the mode that it is trained in.
        shape: Of an image, `(channels, *spatial)`.
        batch: Images of the step.
        manner: How the step is made.

    Raises:
        FullconvError: If the network cannot be run without numbers, or not on images of that shape.
    """
    found: tuple[int, ...] = ()

    def loss(stage: _Stage) -> Tensor:
        nonlocal found
        logits = _logits(stage, stage.images(batch, *shape))
        found = tuple(logits.shape[1:])
        return manner.total(logits, stage.labels(batch, *found[1:]))

    with _stage(net, manner) as stage, _refusals(net, shape):
        _descend(stage, loss)
    return Rehearsal(stage.course(), found)


def rehearse_windows(
    net: nn.Module,
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
        net: The network, in the mode that it is trained in.
        shape: Of a window, `(channels, *spatial)`: the largest of the step.
        owned: The units of its map that count; None for all.
        together: Windows that run together.
        held_bytes: Of the images and labels that the windows are cut from.
        manner: How the step is made.

    Raises:
        FullconvError: If the network cannot be run without numbers, or not on windows of that shape.
    """
    found: tuple[int, ...] = ()

    def loss(stage: _Stage) -> Tensor:
        nonlocal found
        leaves = [p for p in stage.actor.parameters() if p.requires_grad]
        sums: list[Tensor | None] = [torch.empty_like(p) for p in leaves]
        stage.ledger.call((s for s in sums if s is not None), "gradients")
        stage.there((held_bytes,), torch.uint8)
        like = like_weights(stage.actor)
        windows = torch.empty(together, *shape, dtype=like.dtype, device=stage.device)
        logits = _logits(stage, windows)
        found = tuple(logits.shape[1:])
        share = _of_units(stage, logits, owned or Box.whole(found[1:]))
        del logits, windows
        stage.ledger.call_the_living("saved", instead_of="passing")
        stage.ledger.phase = "backward"
        grads = gradients(share, leaves)
        add_up(sums, grads)
        return handed(share.detach(), leaves, sums)

    with _stage(net, manner) as stage, _refusals(net, shape):
        _descend(stage, loss)
    return Rehearsal(stage.course(), found)


def rehearse_forward(
    net: nn.Module, shape: Sequence[int], *, batch: int = 1, manner: Manner = PLAIN
) -> Rehearsal:
    """Return what a forward pass without gradients takes, in evaluation mode.

    Args:
        net: Takes `(batch, channels, *spatial)`, returns a map.
        shape: Of an image, `(channels, *spatial)`.
        batch: Images together.
        manner: How it is made; of that, the precision.

    Raises:
        FullconvError: If the network cannot be run without numbers, or not on images of that shape.
    """
    with _stage(net, manner) as stage, _refusals(net, shape):
        stage.actor.eval()
        image = stage.images(batch, *shape)
        with stage.ledger, torch.no_grad(), manner.cast(stage.device):
            logits = the_map(stage.actor(laid_out(image, stage.actor)))
    return Rehearsal(stage.course(), tuple(logits.shape[1:]))


@contextmanager
def _stage(net: nn.Module, manner: Manner) -> Generator[_Stage]:
    """Yield a network without numbers, which is there from the start."""
    device = device_of(net)
    modules = Modules()
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    actor = twin(net, mode, device)
    with torch.inference_mode(False), modules.watching(actor), mode:
        ledger = Ledger(modules)
        ledger.hold((*actor.parameters(), *actor.buffers()), "parameters")
        yield _Stage(actor, ledger, device, manner, [])


def _descend(stage: _Stage, loss: Callable[[_Stage], Tensor]) -> None:
    """Run a step: a loss, its backward, and the update of the weights."""
    actor, ledger = stage.actor, stage.ledger
    descent = _settled(stage)
    with ledger, torch.enable_grad():
        with stage.manner.cast(stage.device):
            value = loss(stage)
        ledger.call_the_living("saved", instead_of="passing")
        ledger.phase = "backward"
        value.backward()
        ledger.call((p.grad for p in actor.parameters() if p.grad is not None), "gradients")
        ledger.phase = "update"
        descent.step()


def _settled(stage: _Stage) -> Optimizer:
    """Return an optimiser with the state that it has after its first step, gradients let go."""
    trained = [p for p in stage.actor.parameters() if p.requires_grad]
    if not trained:
        raise BadConfigError("`net` must have weights to train, got none that require a gradient")
    descent = stage.manner.descent(trained)
    for parameter in trained:
        parameter.grad = torch.empty_like(parameter)
    descent.step()
    descent.zero_grad()
    state = (value for each in descent.state.values() for value in each.values())
    stage.ledger.hold((value for value in state if isinstance(value, Tensor)), "optimizer")
    return descent


def _logits(stage: _Stage, images: Tensor) -> Tensor:
    """Return the network's maps; floats of 32 bits or more."""
    found = the_map(stage.actor(laid_out(images, stage.actor)))
    return found.float() if found.dtype in (torch.bfloat16, torch.float16) else found


def _of_units(stage: _Stage, logits: Tensor, owned: Box) -> Tensor:
    """Return the summed loss of the units that windows own."""
    rows = [part[(slice(None), *owned.slices)].movedim(0, -1).flatten(0, -2) for part in logits]
    flat = torch.cat(rows) if len(rows) > 1 else rows[0]
    labels = torch.empty(len(flat), dtype=torch.long, device=stage.device)
    return stage.manner.each(flat, labels).sum()


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
