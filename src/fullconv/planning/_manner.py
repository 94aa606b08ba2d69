"""How a step is made, as far as its memory depends on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim
from torch.optim import SGD, Optimizer

from fullconv.errors import BadConfigError

Precision = Literal["32", "bf16"]
OptimizerName = Literal[
    "adamw", "sgd", "adadelta", "adagrad", "adam", "adamax", "nadam", "radam", "rmsprop", "rprop",
]  # fmt: skip
Loss = Callable[[Tensor, Tensor], Tensor]
CROSS_ENTROPY = nn.CrossEntropyLoss(reduction="none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a step is made.

    Attributes:
        precision: ``32``, or ``bf16`` for autocast.
        optimizer: That of `torch.optim` with this name, in small letters; ``sgd`` with momentum. Not
            those that look at values (Adafactor, ASGD), that a plain step is not enough for (LBFGS,
            SparseAdam), or that not all weights suit (Muon).
        total: The loss of maps `(batch, classes, *map)` with labels `(batch, *map)`, a scalar.
        each: The loss of each of `n` units, of logits `(n, classes)` and labels `(n,)`.

    Raises:
        BadConfigError: If a name is none of its choices.
    """

    precision: Precision = "32"
    optimizer: OptimizerName = "adamw"
    total: Loss = F.cross_entropy
    each: Loss = CROSS_ENTROPY

    def __post_init__(self) -> None:
        for key, choices in (("precision", Precision), ("optimizer", OptimizerName)):
            if getattr(self, key) not in get_args(choices):
                raise BadConfigError(
                    f"`{key}` must be one of {', '.join(get_args(choices))}, got "
                    f"{getattr(self, key)!r}"
                )

    def cast(self, device: torch.device) -> torch.autocast:
        """Return the context in which the network runs."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def descent(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """Return the optimiser, working as PyTorch would with real tensors on their device."""
        trained = list(parameters)
        together = trained[0].device.type == "cuda"
        if self.optimizer == "sgd":
            return SGD(trained, lr=1e-3, momentum=0.9, foreach=together)
        kinds = {name.lower(): kind for name, kind in vars(optim).items()}
        return kinds[self.optimizer](trained, foreach=together)
