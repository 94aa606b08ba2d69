"""Whether the steps of a run fit the memory that there is, planned before the first one is made."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import psutil
import torch
from torch import nn

from fullconv.errors import FullconvError
from fullconv.planning import ERROR, MARGIN, Course, Manner, Stage, bill, layers, rehearse_step
from fullconv.prediction import best_device, left_for_windows, process_memory
from fullconv.training._config import TrainConfig
from fullconv.training._data import ImageData
from fullconv.training._large import SHARED_BYTES
from fullconv.training._losses import Criterion
from fullconv.training._regime import Regime

LAYERS = 8  # that keep most are named
SMALL_PX = 2**14  # steps of so few px are not planned: they fit, and are over sooner


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The largest step of a run, uncut, and the memory that it has.

    Attributes:
        images: Of that step.
        shape: Of its images, `(channels, *spatial)`.
        left: Bytes that a step may add, weights, their gradients, the optimiser's state and the images
            counted already.
        held: Bytes of those.
        course: What it takes, operator by operator; None if it could not be rehearsed.
        why: Why not.
    """

    images: int
    shape: tuple[int, ...]
    left: int
    held: int
    course: Course | None
    why: str = ""

    @property
    def fits(self) -> bool:
        """Whether the step fits uncut, as far as is known, the error of the plan counted."""
        if self.course is None:
            return True
        return (self.course.peak_bytes - self.held) * (1 + ERROR) <= self.left

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
            "error": ERROR,
            "bill": asdict(bill(self.course, beyond=0)),
            "layers": [asdict(layer) for layer in ranked[:LAYERS]],
        }


def room_for(
    config: TrainConfig,
    net: nn.Module,
    criterion: Criterion,
    data: ImageData,
    chosen: Regime | None,
) -> Room:
    """Return what the largest step of a run takes uncut, and has.

    Args:
        config: Settings of the run.
        net: The network, as it is trained.
        criterion: The loss.
        data: The images.
        chosen: The regime; None for whole images.
    """
    images = chosen.images if chosen else config.batch
    channels = data.survey.channels
    sides = max((data.survey.shapes[s.name] for s in data.dataset.splits["train"]), key=prod)
    if chosen and chosen.cut:
        sides = (chosen.cut,) * len(sides)
    shape = (channels, *sides)
    manner = Manner(precision=config.precision, optimizer=config.optimizer, total=criterion.total)
    left = _left(config, net, data, images)
    if images * prod(sides) <= SMALL_PX:
        why = f"steps of {images} x {prod(sides)} px are taken to fit"
        return Room(images=images, shape=shape, left=left, held=0, course=None, why=why)
    try:
        stage = Stage(net, manner, best_device())
        course = rehearse_step(stage, shape, batch=images).course
    except FullconvError as error:
        return Room(images=images, shape=shape, left=left, held=0, course=None, why=str(error))
    weights = sum(p.numel() * p.element_size() for p in net.parameters() if p.requires_grad)
    held = course.standing_bytes + weights + int(course.alive(["data"])[0])
    return Room(images=images, shape=shape, left=left, held=held, course=course)


def left_for_steps(limit: int, net: nn.Module, data: ImageData, images: int) -> int:
    """Return the bytes that a step may add in a process with that limit.

    Gradients and the optimiser's state take three times the weights; images are held where they are
    cached, and those of a step as they are read and put together, with one more on its way.
    """
    weights = sum(p.numel() * p.element_size() for p in net.parameters())
    largest = max(prod(shape) for shape in data.survey.shapes.values())
    if data.large:
        return left_for_windows(limit, net, held_bytes=2 * SHARED_BYTES + 3 * weights)
    held = data.cached_bytes + (1 + images) * largest * (4 * data.survey.channels + 8) + 3 * weights
    return left_for_windows(limit, net, held_bytes=held)


def _left(config: TrainConfig, net: nn.Module, data: ImageData, images: int) -> int:
    """Return the bytes that a step may add: within `memory`, or what is free but a margin."""
    device = best_device()
    if config.memory is None and device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        weights = sum(p.numel() * p.element_size() for p in net.parameters())
        return max(0, int(free * (1 - MARGIN["cuda"])) - 4 * weights)
    limit = process_memory(config.memory or f"{100 * (1 - MARGIN['cpu']):g}%")
    try:
        return left_for_steps(limit, net, data, images)
    except FullconvError:
        if config.memory is not None:
            raise
        return 0


def peak_bytes() -> int:
    """Return the most memory that the process, or the allocator of a GPU, has held so far."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved()
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
