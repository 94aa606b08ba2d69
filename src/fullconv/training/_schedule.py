"""Learning rates as functions of progress, which runs from 0 to 1 by steps or by time."""

from collections.abc import Iterable
from math import cos, pi
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from fullconv.training._config import OptimizerName

WARM_UP = 0.05  # share of the run over which the rate rises


def warm_up_cosine(progress: float) -> float:
    """Return the share of the largest rate: up in a straight line, then down to 0 as a cosine."""
    if progress < WARM_UP:
        return (progress + 1e-3) / (WARM_UP + 1e-3)
    return 0.5 * (1 + cos(pi * min(1.0, (progress - WARM_UP) / (1 - WARM_UP))))


def constant(progress: float) -> float:
    """Return 1: the paper keeps its rate fixed."""
    del progress
    return 1.0


SCHEDULES = {"adamw": warm_up_cosine, "sgd": constant}


def optimizer(name: OptimizerName, net: nn.Module, lr: float, momentum: float = 0.99) -> Optimizer:
    """Return the optimiser by name: ``adamw``, or the paper's ``sgd``.

    Both decay weights alone, not biases and norms. The paper's has momentum, and biases at
    twice the rate.
    """
    parameters = [p for p in net.parameters() if p.requires_grad]
    weights = [p for p in parameters if p.ndim > 1]
    biases = [p for p in parameters if p.ndim <= 1]
    if name == "sgd":
        groups = _groups((weights, lr, 5e-4), (biases, 2 * lr, 0.0))
        return SGD(groups, lr=lr, momentum=momentum)
    return AdamW(_groups((weights, lr, 1e-2), (biases, lr, 0.0)), lr=lr)


def _groups(*rows: tuple[list[Any], float, float]) -> Iterable[dict[str, Any]]:
    return [
        {"params": params, "lr": lr, "weight_decay": decay} for params, lr, decay in rows if params
    ]
