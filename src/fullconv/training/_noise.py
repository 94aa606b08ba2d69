"""How much gradient each regime buys per second: signal, noise and time of its steps, measured.

The gradient of a step is that of the whole data set, the signal, and noise around it. Near a point a
step can take off at most a share ``signal / (signal + noise)`` of what a step without noise could
(McCandlish et al. 2018, with squared norms); so a regime's worth is that share over its seconds. Large
steps waste time while noise is small, and small ones while it is large.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

import torch
from torch import Tensor, nn

from fullconv.sampling import Patchwise, Sampled
from fullconv.training._regime import Regime
from fullconv.training._step import Group, Step

LEAST_DRAWS = 2  # tell signal from noise
LEAST_SIGNAL = 0.02  # of the squared norm of a step's gradient: a few steps cannot tell less
# Of the signal after a dozen steps, what is left over most of a run: at half of 90 s, in one run on each
# of three data sets, 0.13, 0.12 and less than 0.1. Noise changed by a factor of less than four.
LASTING = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the steps of a regime were found to be.

    Attributes:
        regime: The regime.
        seconds: Of a step, forward and backward.
        signal: Squared norm of the mean gradient; an estimate, which may fall below 0.
        noise: Mean squared distance of a step's gradient from it.
        steps: How many steps were measured.
    """

    regime: Regime
    seconds: float
    signal: float
    noise: float
    steps: int

    @property
    def power(self) -> float:
        """Mean squared norm of a step's gradient."""
        return self.signal + self.noise

    @property
    def share(self) -> float:
        """What a step takes off, of what one without noise could."""
        return self.signal / (self.signal + self.noise)

    @property
    def worth(self) -> float:
        """Steps without noise that a second of this regime is worth."""
        return self.share / self.seconds


def read(
    step: Step,
    net: nn.Module,
    regime: Regime,
    draws: Sequence[Sequence[Group]],
    *,
    until: float = inf,
) -> Reading:
    """Measure a regime on some of its steps; the network stays as it is.

    Args:
        step: The loss.
        net: The network.
        regime: The regime that the steps were drawn from.
        draws: At least two steps.
        until: When steps behind the first two are left out, by `time.perf_counter`.
    """
    weights = [p for p in net.parameters() if p.requires_grad]
    device = weights[0].device
    total: Tensor | None = None
    squares: list[float] = []
    seconds: list[float] = []
    for number, groups in enumerate(draws):
        start = time.perf_counter()
        if number >= LEAST_DRAWS and start >= until:
            break
        loss = step(
            [(images.to(device), masks.to(device)) for images, masks in groups], (0, number)
        )
        grads = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
        flat = torch.cat([grad.flatten().double() for grad in grads])
        squares.append(float(flat.square().sum()))
        seconds.append(time.perf_counter() - start)
        total = flat if total is None else total + flat
    assert total is not None
    n, power = len(squares), sum(squares) / len(squares)
    # Products of gradients of different steps have no noise: the estimates are unbiased.
    signal = (float(total.square().sum()) - sum(squares)) / (n * (n - 1))
    median = sorted(seconds)[n // 2]
    return Reading(regime=regime, seconds=median, signal=signal, noise=power - signal, steps=n)


def pooled(readings: Sequence[Reading]) -> tuple[Reading, ...]:
    """Return readings that agree on the signal.

    Whole images, crops and units drawn evenly all estimate the gradient of the same data, each from a
    few steps that can hardly tell it; together they tell it best. Its estimate is kept above 0.
    Regimes that prefer some units have a gradient of their own.
    """
    even = [r for r in readings if isinstance(r.regime.sampler, Patchwise | Sampled | None)]
    pairs = [r.steps * (r.steps - 1) for r in even]
    shared = sum(r.signal * n for r, n in zip(even, pairs, strict=True)) / max(1, sum(pairs))
    least = LEAST_SIGNAL * min((r.power for r in even), default=0.0)
    signals = (
        max(shared, least) if r in even else max(r.signal, LEAST_SIGNAL * r.power) for r in readings
    )
    return tuple(
        replace(r, signal=signal, noise=max(r.power - signal, 0.0))
        for r, signal in zip(readings, signals, strict=True)
    )


def lasting(readings: Sequence[Reading]) -> tuple[Reading, ...]:
    """Return readings of a fresh network as most of the run will see them: with less signal."""
    return tuple(replace(r, signal=r.signal * LASTING) for r in readings)
