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

    The paper's has momentum; what is called a bias learns at twice the rate and does not decay, all else
    does, factors of norms included. AdamW decays no vectors: neither biases nor factors of norms.
    """
    learned = {n: p for n, p in net.named_parameters() if p.requires_grad}
    if name == "sgd":
        weights = [p for n, p in learned.items() if not _is_bias(n)]
        biases = [p for n, p in learned.items() if _is_bias(n)]
        groups = _groups((weights, lr, 5e-4), (biases, 2 * lr, 0.0))
        return SGD(groups, lr=lr, momentum=momentum)
    matrices = [p for p in learned.values() if p.ndim > 1]
    vectors = [p for p in learned.values() if p.ndim <= 1]
    return AdamW(_groups((matrices, lr, 1e-2), (vectors, lr, 0.0)), lr=lr)


def _is_bias(name: str) -> bool:
    """Return whether a parameter's own name says so, as do bias, in_proj_bias and bias_hh_l0."""
    own = name.rpartition(".")[2]
    return own.startswith("bias") or own.endswith("bias")


def _groups(*rows: tuple[list[Any], float, float]) -> Iterable[dict[str, Any]]:
    return [
        {"params": params, "lr": lr, "weight_decay": decay} for params, lr, decay in rows if params
    ]
