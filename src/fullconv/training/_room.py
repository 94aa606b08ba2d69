"""Whether the steps of a run fit the memory that there is, planned before the first one is made."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from math import prod
from typing import Any, TypeVar

import psutil
import torch
from torch import nn

from fullconv.errors import FullconvError
from fullconv.execution import WITH_BACKWARD, operations
from fullconv.planning import (
    MARGIN,
    Course,
    Gauge,
    Manner,
    Stage,
    Took,
    amount,
    bill,
    duration,
    layers,
    least_of_ranks,
    measured_here,
    rehearse_step,
    steps_here,
    times,
)
from fullconv.prediction import best_device, left_for_windows, process_memory
from fullconv.tracing import record
from fullconv.training._config import TrainConfig
from fullconv.training._data import ImageData
from fullconv.training._large import SHARED_BYTES
from fullconv.training._losses import Criterion, on

T = TypeVar("T")
UNSEEN = Gauge.of("")  # what is loaded for good is counted beside steps
SHORT_S = 5.0  # steps that take no longer are made once themselves, before the run
LAYERS = 8  # that keep most are named
SMALL_PX = 2**14  # steps of so few px are not planned: they fit, and are over sooner


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A step of a run, uncut and over its largest images, and the memory that it has.

    Attributes:
        images: Of that step.
        shape: Of its images, `(channels, *spatial)`.
        left: Bytes that a step may add, weights, their gradients, the optimiser's state and the images
            counted already.
        held: Bytes of those.
        course: What it takes, operator by operator; None if it was not rehearsed.
        gauge: What this machine makes of that.
        work: Operations of the step.
        made: What the step itself took, if it was made.
        why: Why it was not rehearsed.
    """

    images: int
    shape: tuple[int, ...]
    left: int
    held: int = 0
    course: Course | None = None
    gauge: Gauge = UNSEEN
    work: float = 0.0
    made: Took | None = None
    why: str = ""

    @property
    def step_bytes(self) -> int:
        """Bytes that the step adds: measured, or planned with a reserve; 0 if not known."""
        if self.made is not None:
            return max(0, self.made.peak_bytes - self.made.before_bytes - self.held)
        if self.course is None:
            return 0
        added = (self.course.peak_bytes - self.held) * max(1.0, self.gauge.factor)
        return round(self.gauge.needed(added))

    @property
    def fits(self) -> bool:
        """Whether the step fits uncut, as far as is known."""
        return self.step_bytes <= self.left

    @property
    def seconds(self) -> float | None:
        """Seconds of the step, as measured steps have it; None if none was measured."""
        if self.made is not None:
            return self.made.seconds
        return self.gauge.pace.seconds(self.work, 1) if self.gauge.measured else None

    @property
    def words(self) -> str:
        """What the step takes, in one line; empty if nothing was measured."""
        if self.seconds is None:
            return ""
        images = (
            f"{self.images} image{'s' if self.images > 1 else ''} of {times(self.shape[1:])} px"
        )
        about = "" if self.made else "about "
        step = f"a step over {images} takes {about}{amount(self.step_bytes)} of {amount(self.left)}"
        how = "measured" if self.made else "as small steps say that were made"
        return f"{step} and {about}{duration(self.seconds)}, {how}"

    def to_json(self) -> dict[str, Any]:
        """Return where the memory goes, as JSON values."""
        found: dict[str, Any] = {
            "images": self.images,
            "shape": list(self.shape),
            "fits": self.fits,
        }
        if self.course is None:
            return found | {"why": self.why}
        ranked = sorted(layers(self.course), key=lambda layer: -layer.saved_bytes)
        return found | {
            "peak_bytes": self.course.peak_bytes,
            "error": self.gauge.error,
            "factor": self.gauge.factor,
            "step_bytes": self.step_bytes,
            "seconds": self.seconds,
            "measured": self.made is not None,
            "bill": asdict(bill(self.course, beyond=0)),
            "layers": [asdict(layer) for layer in ranked[:LAYERS]],
        }


class Rooms:
    """What the largest steps of a run take uncut, by their number of images.

    Args:
        config: Settings of the run.
        net: The network, as it is trained.
        criterion: The loss.
        data: The images.
        cut: Side of the sub-images of a step; None for whole images.

    Attributes:
        unmeasured: Why steps that were to be measured were not; empty if they were.
    """

    def __init__(
        self,
        config: TrainConfig,
        net: nn.Module,
        criterion: Criterion,
        data: ImageData,
        cut: int | None,
    ) -> None:
        self.net, self.unmeasured = net, ""
        largest = max((data.survey.shapes[s.name] for s in data.dataset.splits["train"]), key=prod)
        sides = (cut,) * len(largest) if cut else largest
        self.shape: tuple[int, ...] = (data.survey.channels, *sides)
        self._left = partial(left_now, config, net, data)
        self._device = best_device()
        self._manner = Manner(
            precision=config.precision,
            optimizer=config.optimizer,
            total=on(self._device, criterion).total,
        )

    def of(self, images: int, small_px: int | None = None) -> Room:
        """Return what a step over so many images takes, and what there is for it.

        Args:
            images: Of the step.
            small_px: Steps of no more px than these are not planned; None for `SMALL_PX`.
        """
        room = Room(images=images, shape=self.shape, left=self._left(images))
        px = prod(self.shape[1:])
        if images * px <= (SMALL_PX if small_px is None else small_px):
            return replace(room, why=f"steps of {images} x {px} px are taken to fit")
        try:
            course = rehearse_step(self._stage, self.shape, batch=images).course
        except FullconvError as error:
            return replace(room, why=str(error))
        trained = (p for p in self.net.parameters() if p.requires_grad)
        weights = sum(p.numel() * p.element_size() for p in trained)
        held = course.standing_bytes + weights + int(course.alive(["data"])[0])
        work = images * self._work if self.gauge.measured else 0.0
        return replace(room, held=held, course=course, gauge=self.gauge, work=work)

    def made(self, room: Room) -> Room:
        """Return the same, with what the step took when it was made: if it fits, and is short."""
        if not room.fits or room.seconds is None or room.seconds > SHORT_S:
            return room
        steps = [(room.images, self.shape)]
        found = self._tried(lambda: steps_here(self.net, self._manner, self._device, steps, runs=1))
        return room if found is None else replace(room, made=found[0])

    @cached_property
    def gauge(self) -> Gauge:
        """What this machine makes of rehearsals: from small steps made now, where they fit and can be."""
        found = self._tried(
            lambda: measured_here(self.net, self.shape, self._manner, self._device, self._left(1))
        )
        return found or UNSEEN

    def _tried(self, run: Callable[[], T]) -> T | None:
        """Return what a run that measures returns; None, and the reason kept, where it fails.

        It has other weights than the network: what fails then may be right in training.
        """
        try:
            return run()
        except Exception as error:  # noqa: BLE001 - whatever a network does with such weights
            self.unmeasured = (str(error).splitlines() or [type(error).__name__])[0]
            return None

    @cached_property
    def _stage(self) -> Stage:
        return Stage(self.net, self._manner, self._device)

    @cached_property
    def _work(self) -> float:
        return WITH_BACKWARD * operations(record(self.net, self.shape[0], self.shape[1:]))


def left_for_steps(limit: int, net: nn.Module, data: ImageData, images: int) -> int:
    """Return the bytes that a step may add in a process with that limit.

    Gradients and the optimiser's state take three times the weights; images are held where they are
    cached, and those of a step as they are read and put together, with one more on its way.
    """
    weights = sum(p.numel() * p.element_size() for p in net.parameters())
    if data.large:
        return left_for_windows(limit, net, held_bytes=2 * SHARED_BYTES + 3 * weights)
    held = data.cached_bytes + (1 + images) * _image_bytes(data) + 3 * weights
    return left_for_windows(limit, net, held_bytes=held)


def left_now(config: TrainConfig, net: nn.Module, data: ImageData, images: int) -> int:
    """Return the bytes that a step may add: within `memory`, or what is free but a margin.

    All ranks of a distributed run have the least of any.
    """
    device = best_device()
    if config.memory is None and device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        weights = sum(p.numel() * p.element_size() for p in net.parameters())
        held = 4 * weights + images * _image_bytes(data)
        return least_of_ranks(max(0, int(free * (1 - MARGIN["cuda"])) - held))
    limit = process_memory(config.memory or f"{100 * (1 - MARGIN['cpu']):g}%")
    try:
        return least_of_ranks(left_for_steps(limit, net, data, images))
    except FullconvError:
        if config.memory is not None:
            raise
        return least_of_ranks(0)


def _image_bytes(data: ImageData) -> int:
    """Return the bytes of the largest image, as 32-bit numbers, with its labels."""
    largest = max(prod(shape) for shape in data.survey.shapes.values())
    return largest * (4 * data.survey.channels + 8)


def peak_bytes() -> int:
    """Return the most memory that the process, or the allocator of a GPU, has held so far."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved()
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
