"""The regime that pays on these data with this network here: found by measuring, at the start.

Training begins with the regime that buys most gradient per second. Noise grows while it goes on, so that
larger steps pay: in the middle the run asks again, of the network as it is then, and goes over to whole
images where these buy more by now.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import lightning.pytorch as pl
from torch import nn

from fullconv.errors import FullconvError
from fullconv.execution import Planner
from fullconv.prediction import best_device
from fullconv.training._data import ImageData
from fullconv.training._losses import Criterion, on
from fullconv.training._module import Segmentation
from fullconv.training._noise import LEAST_DRAWS, Reading, lasting, pooled, read
from fullconv.training._regime import Regime, regime
from fullconv.training._schedule import optimizer
from fullconv.training._shortage import is_shortage
from fullconv.training._step import Step

# Smaller sub-images buy more gradient per second, but of another kind: with a field of 411 px, 4 of
# 128 px led to a mean IU of 0.61 on whole fields of 966 x 1296 px, where 4 of 256 px led to 0.70.
# That cannot be read at the start, when all gradients point one way (squared cosines 0.98 to 1.00).
CANDIDATES = ("crop:4x256", "whole")
# The same sub-images with the image around them. They cost more and their noise is the same, so that by
# signal per second they never win; but where crops see zeros they see the image, as the network will be
# used. So they are taken where they buy nearly as much, and not measured where they read too much for it.
NEARLY, MOST_READ = 0.9, 1.25
WARM_STEPS = 12  # on a copy of the network: fresh weights know nothing of the noise to come
DRAWS, WHOLE_DRAWS = 6, 4
MEASURING_S = 60.0  # at most, where a run has no limit
BUDGET = 0.08  # of the run's time at most goes to measuring
ENDING = 0.5  # of the run is over when whole images may take over


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was chosen, and from which readings.

    Attributes:
        regime: To begin with.
        readings: Of the regimes that were measured, with the signal that most of the run will have.
        ending: Whether the run may end on whole images: they fit the memory, or may be cut.
    """

    regime: Regime
    readings: tuple[Reading, ...]
    ending: bool

    @property
    def why(self) -> str:
        """The reason, in one line."""
        if not self.readings:
            return f"{self.regime.name}: nothing else fits, or no time to measure"
        best = next(r for r in self.readings if r.regime == self.regime)
        others = [r for r in self.readings if r is not best]
        ratios = ", ".join(f"{best.worth / r.worth:.1f} times {r.regime.name}" for r in others)
        step = f"{best.regime.name}: {best.seconds:.2f} s per step"
        return f"{step}; gradient signal per second {ratios}" if ratios else step

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        rows = [
            {
                "sampling": r.regime.name,
                "seconds_per_step": r.seconds,
                "signal": r.signal,
                "noise": r.noise,
                "worth_per_second": r.worth,
            }
            for r in self.readings
        ]
        return {
            "sampling": self.regime.name,
            "why": self.why,
            "ends_on_whole": self.ending,
            "readings": rows,
        }


def candidates(data: ImageData, batch: int) -> list[Regime]:
    """Return the regimes that fit the images: sub-images of less than half an image, and whole ones."""
    px = data.step_px(regime("whole"))
    found = [regime(name, batch=batch) for name in CANDIDATES]
    sides = [min(shape) for shape in data.survey.shapes.values()]
    fitting = [r for r in found if not r.cut or (r.cut <= min(sides) and 2 * r.cut**2 <= px)]
    # A step over a whole large image may take hours.
    return [r for r in fitting if r.cut] or fitting if data.large else fitting


def alternatives(net: nn.Module, data: ImageData, batch: int, *, cut: bool) -> list[Regime]:
    """Return the regimes that measuring chooses from.

    Args:
        net: The network, in training.
        data: The images.
        batch: Whole images of a step.
        cut: Whether steps are cut into windows to fit the memory.
    """
    found = candidates(data, batch)
    if found[0].cut and not cut:
        found[1:1] = windows(net, data, found[0])
    return found


def windows(net: nn.Module, data: ImageData, crops: Regime) -> list[Regime]:
    """Return sub-images with the image around them, if they read little more than crops of their size.

    None where a layer looks at the whole image, as BatchNorm does in training.

    Args:
        net: The network, in training.
        data: The images.
        crops: The crops.
    """
    one = regime(crops.name.replace("crop", "patchwise"))
    shapes = list(data.survey.shapes.values())
    try:
        geometry = Planner(net, None).geometry(data.survey.channels, shapes[0])
    except FullconvError:
        return []
    read = prod((one.least + field - 1) / one.least for field in geometry.field)
    return [one] if read <= MOST_READ else []


def measuring_s(minutes: float | None) -> float:
    """Return the seconds that measuring may take at the start of a run of so many minutes."""
    return BUDGET * minutes * 60 if minutes else MEASURING_S


def choose(
    net: nn.Module,
    criterion: Criterion,
    data: ImageData,
    regimes: Sequence[Regime],
    *,
    within: float,
    memory: int | None = None,
) -> Choice:
    """Measure regimes on a copy of a network, and return the one that is worth most per second.

    Args:
        net: The network; it stays as it is.
        criterion: The loss.
        data: The images.
        regimes: What to choose from; the first one is taken where there is no time.
        within: Seconds that measuring may take.
        memory: Bytes that a step may add; None for no limit.
    """
    if len(regimes) == 1:
        return Choice(regime=regimes[0], readings=(), ending=not data.large)
    each = measured(net, criterion, data, regimes, within=within, memory=memory)
    readings: list[Reading] = []
    with _what_fits() as short:
        for reading in each:
            readings.append(reading)  # noqa: PERF402 - those before one that does not fit are kept
    seen = lasting(pooled(readings))
    best = _best(seen) if seen else regimes[0]
    ran_whole = any(not (r.regime.cut or r.regime.sampler) for r in seen)
    return Choice(regime=best, readings=seen, ending=ran_whole or (memory is None and not short))


def measured(
    net: nn.Module,
    criterion: Criterion,
    data: ImageData,
    regimes: Sequence[Regime],
    *,
    within: float,
    memory: int | None = None,
) -> Iterator[Reading]:
    """Return what regimes are found to be on a copy of a network, each measured when it is asked for.

    Regimes that there is no time for are left out; what cannot be made of one is raised.

    Args:
        net: The network; it stays as it is.
        criterion: The loss.
        data: The images.
        regimes: What to measure.
        within: Seconds that measuring may take.
        memory: Bytes that a step may add; None for no limit.
    """
    data.setup()
    until = time.perf_counter() + within
    device = best_device()
    twin, loss = copy.deepcopy(net).to(device).train(), on(device, criterion)

    def step(one: Regime) -> Step:
        return Step(twin, loss, sampler=one.sampler, memory=memory)

    def each() -> Iterator[Reading]:
        cheapest = min(regimes, key=data.step_px)
        _warm(twin, step(cheapest), data, cheapest, until)
        known: list[Reading] = []
        for one in regimes:
            if _time_for(one, data, known, until):
                known.append(_read(step(one), twin, one, data, until))
                yield known[-1]

    return each()


@contextmanager
def _what_fits() -> Generator[list[str]]:
    """Leave out what neither fits nor may be cut; yield what was said of memory that ran out."""
    short: list[str] = []
    try:
        yield short
    except FullconvError:
        return
    except Exception as error:
        if not is_shortage(error):
            raise
        short.append(str(error))


def _best(seen: Sequence[Reading]) -> Regime:
    """Return the regime of most worth; windows before crops that are hardly worth more."""
    best = max(seen, key=lambda r: r.worth)
    exact = [r for r in seen if r.regime.sampler and r.worth >= NEARLY * best.worth]
    return exact[0].regime if exact and best.regime.cut else best.regime


def _warm(net: nn.Module, step: Step, data: ImageData, one: Regime, until: float) -> None:
    descent = optimizer("adamw", net, 1e-3)
    device = next(net.parameters()).device
    for number, groups in enumerate(data.draw(one, WARM_STEPS)):
        if time.perf_counter() >= until:
            return
        loss = step(
            [(images.to(device), masks.to(device)) for images, masks in groups], (0, number)
        )
        descent.zero_grad()
        loss.backward()
        descent.step()


def _time_for(one: Regime, data: ImageData, known: Sequence[Reading], until: float) -> bool:
    """Return whether there is time for the fewest steps, from those of other regimes by the pixel."""
    by_px = max((r.seconds / data.step_px(r.regime) for r in known), default=0.0)
    return time.perf_counter() + LEAST_DRAWS * by_px * data.step_px(one) < until


def _read(step: Step, net: nn.Module, one: Regime, data: ImageData, until: float) -> Reading:
    draws = data.draw(one, DRAWS if one.cut else WHOLE_DRAWS)
    return read(step, net, one, draws, until=until)


def compared(
    module: Segmentation, data: ImageData, regimes: Sequence[Regime], *, within: float
) -> tuple[Reading, ...]:
    """Return what the steps of regimes are for a network as it is now; it stays as it is.

    Regimes whose steps would take longer than `within` seconds, or do not fit, are left out.
    """
    until = time.perf_counter() + within
    twin = copy.deepcopy(module.net)
    found: list[Reading] = []
    with _what_fits():
        for one in regimes:
            if _time_for(one, data, found, until):
                step = Step(twin, module.criterion, sampler=one.sampler, memory=module.memory)
                found.append(_read(step, twin, one, data, until))
    return pooled(found)


class Turn(pl.Callback):
    """Ask in the middle of a run whether whole images pay by now, and go over to them if so.

    Args:
        data: The images.
        interval: Steps between validations behind the turn.
    """

    def __init__(self, data: ImageData, interval: int) -> None:
        self.data, self.interval = data, interval
        self.asked = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on behind the turn, if a resumed run has made it."""
        del trainer
        assert isinstance(pl_module, Segmentation)
        if self.data.turned:
            self.asked = True
            pl_module.follow(self.data.regimes[-1].sampler)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Turn behind this step, if half of the run is over and it pays."""
        del outputs, batch, batch_idx
        assert isinstance(pl_module, Segmentation)
        if self.asked or pl_module.progress(trainer.global_step) < ENDING:
            return
        self.asked = True
        minutes = pl_module.budget_s and pl_module.budget_s / 60
        found = compared(pl_module, self.data, self.data.regimes, within=measuring_s(minutes))
        if len(found) < 2:
            pl_module.say(
                "whole images take too long, or too much memory, to ask whether they pay by now: no change"
            )
            return
        now, then = found
        pays = then.worth > now.worth
        pl_module.say(
            f"{then.regime.name} images buy {then.worth / now.worth:.2f} times the gradient signal per "
            f"second of {now.regime.name} now: {'they take over' if pays else 'no change'}"
        )
        if pays:
            self.data.turn(trainer.global_step)
            pl_module.follow(then.regime.sampler)
            trainer.val_check_batch = self.interval
