"""A training step, and a prediction, rehearsed on tensors without numbers.

What is rehearsed is what will be run: forward under autocast, the loss, backward, the optimiser's
update. PyTorch itself decides what is saved and when it is let go; only the numbers are missing, so
a step that would need a terabyte is rehearsed in a second and in next to no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.optim import SGD, AdamW, Optimizer

from fullconv.errors import BadConfigError, FullconvError
from fullconv.execution import laid_out, like_weights
from fullconv.planning._ledger import Course, Ledger
from fullconv.planning._twin import device_of, twin
from fullconv.tracing import Modules, the_map

Precision = Literal["32", "bf16"]
OptimizerName = Literal["adamw", "sgd"]
# Logits `(batch, classes, *map)` and labels `(batch, *map)` in, a scalar out.
Criterion = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Rehearsal:
    """What a run on tensors without numbers showed.

    Attributes:
        course: Its memory, operator by operator.
        map_shape: Shape of the map of one image, with classes.
        trained: Numbers that are trained.
    """

    course: Course
    map_shape: tuple[int, ...]
    trained: int

    @property
    def peak_bytes(self) -> int:
        """The most bytes that are taken at once."""
        return self.course.peak_bytes


def rehearse_step(
    net: nn.Module,
    shape: Sequence[int],
    *,
    batch: int = 1,
    precision: Precision = "32",
    optimizer: OptimizerName = "adamw",
    criterion: Criterion | None = None,
) -> Rehearsal:
    """Return what a training step takes: forward, loss, backward, update, not the first one.

    Args:
        net: Takes `(batch, channels, *spatial)`, returns a map; in the mode that it will be trained in.
        shape: Of an image, `(channels, *spatial)`.
        batch: Images of the step.
        precision: ``32``, or ``bf16`` for autocast.
        optimizer: ``adamw`` or ``sgd`` with momentum.
        criterion: The loss of a map; None for the mean cross entropy.

    Raises:
        FullconvError: If the network cannot be run without numbers, or not on images of that shape.
    """
    loss_of = criterion or F.cross_entropy
    with _stage(net) as (actor, ledger, device):
        ledger.hold((*actor.parameters(), *actor.buffers()), "parameters")
        descent = _settled(optimizer, actor, ledger)
        image = torch.empty(batch, *shape, dtype=like_weights(actor).dtype, device=device)
        ledger.hold([image], "data")
        with ledger, _refusals(net, shape), torch.enable_grad():
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                logits = the_map(actor(laid_out(image, actor)))
                labels = _labels(logits, ledger)
                map_shape = tuple(logits.shape[1:])
                loss = loss_of(logits.float(), labels)
                del logits
            ledger.call_the_living("saved", instead_of="passing")
            ledger.phase = "backward"
            loss.backward()
            ledger.call((p.grad for p in actor.parameters() if p.grad is not None), "gradients")
            ledger.phase = "update"
            descent.step()
        trained = sum(p.numel() for p in actor.parameters() if p.requires_grad)
    return Rehearsal(Course(tuple(ledger.ticks), tuple(ledger.blocks)), map_shape, trained)


def rehearse_forward(
    net: nn.Module, shape: Sequence[int], *, batch: int = 1, precision: Precision = "32"
) -> Rehearsal:
    """Return what a forward pass without gradients takes, in evaluation mode.

    Args:
        net: Takes `(batch, channels, *spatial)`, returns a map.
        shape: Of an image, `(channels, *spatial)`.
        batch: Images together.
        precision: ``32``, or ``bf16`` for autocast.

    Raises:
        FullconvError: If the network cannot be run without numbers, or not on images of that shape.
    """
    with _stage(net) as (actor, ledger, device):
        actor.eval()
        ledger.hold((*actor.parameters(), *actor.buffers()), "parameters")
        image = torch.empty(batch, *shape, dtype=like_weights(actor).dtype, device=device)
        ledger.hold([image], "data")
        half = precision == "bf16"
        cast = torch.autocast(device.type, torch.bfloat16, enabled=half)
        with ledger, _refusals(net, shape), torch.no_grad(), cast:
            logits = the_map(actor(laid_out(image, actor)))
    return Rehearsal(
        Course(tuple(ledger.ticks), tuple(ledger.blocks)), tuple(logits.shape[1:]), trained=0
    )


@contextmanager
def _stage(net: nn.Module) -> Generator[tuple[nn.Module, Ledger, torch.device]]:
    """Yield a network without numbers, and the ledger of what it will do."""
    device = device_of(net)
    modules = Modules()
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    actor = twin(net, mode, device)
    with torch.inference_mode(False), modules.watching(actor), mode:
        yield actor, Ledger(modules), device


def _settled(name: OptimizerName, net: nn.Module, ledger: Ledger) -> Optimizer:
    """Return an optimiser with the state that it has after its first step, gradients let go."""
    trained = [p for p in net.parameters() if p.requires_grad]
    if not trained:
        raise BadConfigError("`net` must have weights to train, got none that require a gradient")
    descent = _optimizer(name, trained)
    for parameter in trained:
        parameter.grad = torch.empty_like(parameter)
    descent.step()
    descent.zero_grad()
    state = (value for each in descent.state.values() for value in each.values())
    ledger.hold((value for value in state if isinstance(value, Tensor)), "optimizer")
    return descent


def _optimizer(name: OptimizerName, parameters: Iterable[nn.Parameter]) -> Optimizer:
    parameters = list(parameters)
    # What PyTorch takes by itself for real tensors.
    together = parameters[0].device.type == "cuda"
    if name == "adamw":
        return AdamW(parameters, foreach=together)
    return SGD(parameters, lr=1e-3, momentum=0.9, foreach=together)


def _labels(logits: Tensor, ledger: Ledger) -> Tensor:
    labels = logits.new_empty((logits.shape[0], *logits.shape[2:]), dtype=torch.long)
    ledger.antedate(labels, "data")
    return labels


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
        raise FullconvError(
            f"`shape` must be one that the network takes, got {_times(shape[1:])} px with "
            f"{shape[0]} channels: {error}"
        ) from error


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
