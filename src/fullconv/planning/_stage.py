"""A network without numbers, on which runs are rehearsed one after another.

What does not depend on images is found once: the optimiser's state, and the update of the weights,
which ends every step in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from fullconv.errors import BadConfigError
from fullconv.execution import like_weights
from fullconv.planning._ledger import Block, Course, Ledger, Tick
from fullconv.planning._manner import Manner
from fullconv.planning._twin import device_of, twin
from fullconv.tracing import Modules, quietly


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """What the update of the weights does at the end of every step.

    Attributes:
        state: What the optimiser keeps from step to step.
        ticks: The operators of an update.
        blocks: What they make and give back; born and died by these ticks.
    """

    state: tuple[Tensor, ...]
    ticks: tuple[Tick, ...]
    blocks: tuple[Block, ...]


class Stage:
    """A network without numbers.

    Args:
        net: The network, in the mode that it is trained in.
        manner: How steps are made.
        device: Where; None for where the network is.

    Raises:
        FullconvError: If the network cannot be copied, or has no weights yet.
    """

    def __init__(self, net: nn.Module, manner: Manner, device: torch.device | None = None) -> None:
        self.net, self.manner = net, manner
        self.device = device or device_of(net)
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.actor = twin(net, self._mode, self.device)

    @contextmanager
    def run(self) -> Generator[Run]:
        """Yield a run whose memory is noted, weights and buffers from the start."""
        modules = Modules()
        with quietly(), torch.inference_mode(False), modules.watching(self.actor), self._mode:
            ledger = Ledger(modules)
            ledger.hold((*self.actor.parameters(), *self.actor.buffers()), "parameters")
            try:
                yield Run(self, ledger)
            finally:
                self.actor.zero_grad()

    def descend(self, loss: Callable[[Run], Tensor]) -> Course:
        """Return the memory of a step: a loss, its backward, and the update of the weights."""
        with self.run() as run:
            update, ledger = self.update, run.ledger
            ledger.hold(update.state, "optimizer")
            with ledger, torch.enable_grad():
                with self.manner.cast(self.device):
                    value = loss(run)
                ledger.call_the_living("saved", instead_of="passing")
                ledger.phase = "backward"
                value.backward()
                grads = (p.grad for p in self.actor.parameters() if p.grad is not None)
                ledger.call(grads, "gradients")
                del value
            return run.course().followed_by(update.ticks, update.blocks)

    @cached_property
    def update(self) -> Update:
        """The update of the weights, when it is not the first one of a run.

        Raises:
            BadConfigError: If there are no weights to train.
        """
        trained = [p for p in self.actor.parameters() if p.requires_grad]
        if not trained:
            raise BadConfigError(
                "`net` must have weights to train, got none that require a gradient"
            )
        with torch.inference_mode(False), self._mode, torch.no_grad():
            descent = self.manner.descent(trained)
            for parameter in trained:
                parameter.grad = torch.empty_like(parameter)
            descent.step()
            state = (value for each in descent.state.values() for value in each.values())
            kept = tuple(value for value in state if isinstance(value, Tensor))
            ledger = Ledger(Modules())
            ledger.phase = "update"
            ledger.hold((*trained, *(p.grad for p in trained if p.grad is not None)), "parameters")
            ledger.hold(kept, "optimizer")
            there = len(ledger.blocks)
            with ledger:
                descent.step()
            self.actor.zero_grad()
        return Update(kept, tuple(ledger.ticks), tuple(ledger.blocks[there:]))


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One run on a stage: its ledger, and the tensors that its caller holds."""

    stage: Stage
    ledger: Ledger
    held: list[Tensor] = field(default_factory=list[Tensor])

    @property
    def actor(self) -> nn.Module:
        """The network."""
        return self.stage.actor

    def images(self, *shape: int) -> Tensor:
        """Return images that are there from the start to the end."""
        return self.there(shape, like_weights(self.actor).dtype)

    def labels(self, *shape: int) -> Tensor:
        """Return labels that are there from the start to the end."""
        return self.there(shape, torch.long)

    def there(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return a tensor that is there from the start to the end."""
        found = torch.empty(shape, dtype=dtype, device=self.stage.device)
        self.ledger.antedate(found, "data")
        self.held.append(found)
        return found

    def course(self) -> Course:
        """Return what the ledger says so far."""
        return Course(tuple(self.ledger.ticks), tuple(map(replace, self.ledger.blocks)))
