"""Whether a network keeps the images of a batch apart: windows of one image run together as a batch."""

from __future__ import annotations

import torch

from fullconv.errors import NotLocalError
from fullconv.tracing._axis import on_cpu
from fullconv.tracing._paths import same_path
from fullconv.tracing._program import Program
from fullconv.tracing._reach import Reach
from fullconv.tracing._subject import BATCH, Subject
from fullconv.tracing._sweep import State, follow

OF_IMAGES = -2  # counted from the first spatial axis, as `follow` does


def check_images(subject: Subject, shape: tuple[int, ...]) -> None:
    """Refuse the call that mixes the images of a batch: along their axis, each is a position.

    Args:
        subject: The network.
        shape: Of images, without channels, that it takes.
    """
    base = subject.record(shape)
    try:
        more = subject.record(shape, batch=BATCH + 1)
    except Exception:  # noqa: BLE001 - a network for batches of a fixed size says so when it is run
        return
    if same_path(base, more):
        return  # a loop over the images
    with on_cpu():
        _follow_images(base, more)


def _follow_images(base: Program, more: Program) -> None:
    state = State()
    try:
        for _ in follow(base, more, state, axis=OF_IMAGES, period=1):
            pass
    except NotLocalError as error:
        raise _mixes(error) from None
    reach = state.reach_of.get(base.output)
    if reach and not _each_reads_itself(reach):
        raise _mixes(base.calls[-1].refused(""))


def _each_reads_itself(reach: Reach) -> bool:
    image = torch.arange(reach.size(0)).reshape(-1, *[1] * (reach.ndim - 1))
    start, minus_stop = reach.parts[:2]
    return bool((start >= image).all() and (minus_stop >= -image - 1).all())


def _mixes(error: NotLocalError) -> NotLocalError:
    return NotLocalError.at(
        module=error.module,
        module_class=error.module_class,
        operator=error.operator,
        why="it mixes the images of a batch: what one of them gives depends on the others, and windows "
        "that run together are such a batch",
        remedies=("normalise each image by itself, or by numbers that are fixed",),
    )
