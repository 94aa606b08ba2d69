"""A few small steps, really made, that say what a machine makes of a rehearsal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from math import ceil, prod
from pathlib import Path

import torch
from torch import nn

from fullconv.errors import FullconvError
from fullconv.execution import WITH_BACKWARD, give_back_freed_memory, operations
from fullconv.planning._gauge import MEASURED_ERROR, Gauge
from fullconv.planning._ledger import Course
from fullconv.planning._manner import Manner
from fullconv.planning._pace import fitted
from fullconv.planning._rehearsal import rehearse_step
from fullconv.planning._sizes import nearest_shapes
from fullconv.planning._small_steps import RUNS, Took, measure, without_weights
from fullconv.planning._twin import device_of
from fullconv.planning._words import amount
from fullconv.tracing import record

# Pixels of the images of small steps: enough to tell starting from computing.
SMALL_PX = (160**2, 384**2)
# A step that is measured takes no more than this, whatever was planned.
MOST_BYTES = 2**30
# In a process that has more to do, steps have no more operations, unless there are no smaller ones.
MOST_WORK = 1e11
FEW = 3  # images of a step at least, where one is as small as any that would be tried
# What the larger step takes beyond weights, if few images are enough for it.
TELLING_BYTES, MOST_IMAGES = 2**27, 4
SECONDS = 300  # after which a small step is given up


def measured(
    net: nn.Module, shape: tuple[int, ...], manner: Manner, limit: int | None = None
) -> Gauge:
    """Return what this machine makes of rehearsals, from small steps in a process of its own.

    Args:
        net: The network, in the mode that it is trained in.
        shape: Of the images that are planned, `(channels, *spatial)`; small ones are like them.
        manner: How steps are made.
        limit: Bytes that they may add; None for no more than `MOST_BYTES`.

    Raises:
        FullconvError: If no such step could be made; the message says why.
    """
    device = device_of(net)
    # The largest one first: others leave kernels and freed memory behind.
    shapes = small_shapes(net, shape, manner, limit)[::-1]
    steps = _several(net, shapes, manner, limit)
    return _gauge(net, manner, device, steps, _in_a_process(net, manner, device, steps))


def _several(
    net: nn.Module, shapes: Sequence[tuple[int, ...]], manner: Manner, limit: int | None
) -> list[tuple[int, tuple[int, ...]]]:
    """Return steps of two sizes, the larger one first; of one size if there is no other that fits.

    It is over several images where one takes so little that what is loaded for good hides the rest.
    """
    course = rehearse_step(net, shapes[0], manner=manner).course
    telling = ceil(TELLING_BYTES / max(1, course.peak_bytes - course.standing_bytes))
    images = min(max(telling, 1 if len(shapes) > 1 else FEW), MOST_IMAGES)
    while images > 1 and not _is_small(
        net, rehearse_step(net, shapes[0], batch=images, manner=manner).course, limit
    ):
        images -= 1
    return list(dict.fromkeys([(images, shapes[0]), (1, shapes[-1])]))


def _is_small(net: nn.Module, course: Course, limit: int | None) -> bool:
    """Return whether a step may be made to be measured: within `MOST_BYTES`, and the limit for sure."""
    gauge = Gauge.of(device_of(net).type)
    within = limit is None or gauge.needed(gauge.taken(course)) <= limit
    return within and course.peak_bytes <= MOST_BYTES


def _gauge(
    net: nn.Module,
    manner: Manner,
    device: torch.device,
    steps: Sequence[tuple[int, tuple[int, ...]]],
    took: Sequence[Took],
) -> Gauge:
    """Return what is known after some steps, the largest one first."""
    images, shape = steps[0]
    course = rehearse_step(net, shape, batch=images, manner=manner).course
    work = [n * _work(net, shape) for n, shape in steps]
    return replace(
        Gauge.of(device.type).seen(course, took[0].peak_bytes - took[0].before_bytes),
        error=MEASURED_ERROR,
        pace=fitted([(w, t.seconds) for w, t in zip(work, took, strict=True)]),
        measured=True,
    )


def measured_here(
    net: nn.Module,
    shape: tuple[int, ...],
    manner: Manner,
    device: torch.device,
    limit: int | None = None,
) -> Gauge:
    """Return what this machine makes of rehearsals, from small steps in this process.

    They take no more than `MOST_BYTES`, and few seconds. Random numbers stay as they are.

    Args:
        net: The network, in the mode that it is trained in; it stays as it is.
        shape: Of the images that are planned, `(channels, *spatial)`; small ones are like them.
        manner: How steps are made.
        device: Where.
        limit: Bytes that they may add; None for no more than `MOST_BYTES`.

    Raises:
        FullconvError: If no such step could be made; the message says why.
    """
    shapes = small_shapes(net, shape, manner, limit)[::-1]
    short = [s for s in shapes if _work(net, s) <= MOST_WORK]
    steps = _several(net, short or shapes[-1:], manner, limit)
    return _gauge(net, manner, device, steps, steps_here(net, manner, device, steps))


def steps_here(
    net: nn.Module,
    manner: Manner,
    device: torch.device,
    shapes: Sequence[tuple[int, tuple[int, ...]]],
    runs: int = RUNS,
) -> list[Took]:
    """Return what steps over images of these numbers and shapes took in this process.

    What they took is given back to the system: it would count as held by the program ever after.

    Args:
        net: The network; a copy of it with other numbers is trained.
        manner: How steps are made.
        device: Where.
        shapes: Numbers and shapes of images.
        runs: Steps of each that are timed.

    Raises:
        FullconvError: If this system does not say what a process takes.
    """
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            return measure(without_weights(net), manner, device, shapes, runs)
    except OSError as error:
        raise FullconvError(f"memory must be known to be measured, got {error}") from error
    finally:
        give_back_freed_memory()


def small_shapes(
    net: nn.Module, shape: tuple[int, ...], manner: Manner, limit: int | None = None
) -> list[tuple[int, ...]]:
    """Return shapes of small images that the network takes, smallest first.

    Args:
        net: The network, in the mode that it is trained in.
        shape: Of the images that are planned, `(channels, *spatial)`.
        manner: How steps are made.
        limit: Bytes that a step over one of them may add; None for no more than `MOST_BYTES`.

    Raises:
        FullconvError: If none of them would be small.
    """
    channels, *sides = shape
    found: dict[tuple[int, ...], None] = {}
    for px in SMALL_PX:
        share = min(1.0, (px / prod(sides)) ** (1 / len(sides)))
        small = (channels, *(max(1, round(side * share)) for side in sides))
        fitting = _fitting(net, small)
        if _is_small(net, rehearse_step(net, fitting, manner=manner).course, limit):
            found[fitting] = None
    if not found:
        most = MOST_BYTES if limit is None else min(limit, MOST_BYTES)
        raise FullconvError(
            f"`net` must take images that are small enough to be tried, got one whose smallest step "
            f"would take more than {amount(most)}"
        )
    return list(found)


def _work(net: nn.Module, shape: tuple[int, ...]) -> float:
    """Return the operations of a step over one image."""
    return WITH_BACKWARD * operations(record(net, shape[0], shape[1:]))


def _fitting(net: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape, or the nearest larger one that the network takes."""
    try:
        rehearse_step(net, shape)
    except FullconvError:
        nearest = nearest_shapes(net, shape)
        return (shape[0], *nearest[-1]) if nearest else shape
    return shape


def _in_a_process(
    net: nn.Module,
    manner: Manner,
    device: torch.device,
    shapes: Sequence[tuple[int, tuple[int, ...]]],
) -> list[Took]:
    """Return what steps over images of these numbers and shapes took in a process of their own."""
    job = {"device": str(device), "threads": torch.get_num_threads(), "shapes": shapes}
    path = os.pathsep.join(filter(None, sys.path))
    with tempfile.TemporaryDirectory(prefix="fullconv-") as folder:
        home = Path(folder)
        (home / "job.json").write_text(json.dumps(job))
        try:
            torch.save((without_weights(net), manner), home / "net.pt")
            done = subprocess.run(
                [sys.executable, "-m", "fullconv.planning._small_steps", folder],
                capture_output=True, text=True, check=True, timeout=SECONDS,
                env=os.environ | {"PYTHONPATH": path},
            )  # fmt: skip
        except subprocess.SubprocessError as error:
            said = str(getattr(error, "stderr", None) or error).strip().splitlines()
            raise _not_measured(net, said[-1], "plan without") from error
        except Exception as error:  # whatever cannot be pickled
            how = "define what it holds in a module that can be imported"
            raise _not_measured(net, str(error), how) from error
    return [Took(**took) for took in json.loads(done.stdout.strip().splitlines()[-1])]


def _not_measured(net: nn.Module, why: str, how: str) -> FullconvError:
    return FullconvError(
        f"`net` must run in a process of its own to be measured, got a {type(net).__name__} that does "
        f"not: {why}; {how}"
    )
