"""How much gradient each regime buys per second: signal, noise and time of its steps, measured.

The gradient of a step is that of the whole data set, the signal, and noise around it. Near a point a
step can take off at most a share ``signal / (signal + noise)`` of what a step without noise could
(McCandlish et al. 2018, with squared norms); so a regime's worth is that share over its seconds. Large
steps waste time while noise is small, and small ones while it is large.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fullconv.training._regime import Regime
from fullconv.training._step import Group, Step

LEAST_SIGNAL = 0.02  # of the squared norm of a step's gradient: a few steps cannot tell less


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the steps of a regime were found to be.

    Attributes:
        regime: The regime.
        seconds: Of a step, forward and backward.
        signal: Squared norm of the mean gradient.
        noise: Mean squared distance of a step's gradient from it.
    """

    regime: Regime
    seconds: float
    signal: float
    noise: float

    @property
    def share(self) -> float:
        """What a step takes off, of what one without noise could."""
        return self.signal / (self.signal + self.noise)

    @property
    def worth(self) -> float:
        """Steps without noise that a second of this regime is worth."""
        return self.share / self.seconds


def read(step: Step, net: nn.Module, regime: Regime, draws: Sequence[Sequence[Group]]) -> Reading:
    """Measure a regime on some of its steps; the network stays as it is.

    Args:
        step: The loss.
        net: The network.
        regime: The regime that the steps were drawn from.
        draws: At least two steps.
    """
    weights = [p for p in net.parameters() if p.requires_grad]
    device = weights[0].device
    total: Tensor | None = None
    squares: list[float] = []
    seconds: list[float] = []
    for number, groups in enumerate(draws):
        start = time.perf_counter()
        loss = step(
            [(images.to(device), masks.to(device)) for images, masks in groups], (0, number)
        )
        grads = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
        flat = torch.cat([grad.flatten().double() for grad in grads])
        squares.append(float(flat.square().sum()))
        seconds.append(time.perf_counter() - start)
        total = flat if total is None else total + flat
    assert total is not None
    return _reading(
        regime, sorted(seconds)[len(seconds) // 2], squares, float(total.square().sum())
    )


def _reading(regime: Regime, seconds: float, squares: Sequence[float], total: float) -> Reading:
    """Return the unbiased estimates: products of gradients of different steps have no noise."""
    n, power = len(squares), sum(squares) / len(squares)
    signal = max((total - sum(squares)) / (n * (n - 1)), LEAST_SIGNAL * power)
    noise = max(power - signal, 0.0)
    return Reading(regime=regime, seconds=seconds, signal=signal, noise=noise)
