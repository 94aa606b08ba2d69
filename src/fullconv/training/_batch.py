"""`--batch auto`: as many images in a step as fit, and make it faster.

How a step is cut does not touch its gradient, so nothing but speed and the number of steps hangs on
memory. Larger steps than are faster for each image are not chosen: smaller ones learn more from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from fullconv.planning import Gauge, amount, largest
from fullconv.training._room import Rooms

# Of a step's time goes to starting it, at most, where the step is large enough.
STARTING = 0.05
# An epoch has so many steps at least, as far as there are images.
STEPS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """How many images a step has, and why no more.

    Attributes:
        images: Of a step, as `TrainConfig.batch`.
        why: The reason.
    """

    images: int
    why: str


def batch_for(rooms: Rooms, count: int, images_of: Callable[[int], int]) -> Batch:
    """Return how many images a step has.

    Args:
        rooms: What steps take.
        count: Training images that there are.
        images_of: How many images a step looks at, for a batch: samplers take more.

    Returns:
        The least of: what fits, beyond what no step is faster for each image, and what leaves an epoch
        of 8 steps; 1 at least, which is cut into windows where it does not fit.
    """
    one = rooms.of(images_of(1), small_px=0)
    if one.course is None:
        return Batch(images=1, why=f"larger steps cannot be planned: {one.why}")
    most = _most(count, images_of)
    pays = _pays(one.gauge, one.work)

    def needed(batch: int) -> int:
        room = rooms.of(images_of(batch), small_px=0)
        return room.step_bytes + one.left - room.left

    fits = largest(needed, one.left, count)
    found = max(1, min(fits, most, pays))
    if count == 1 == fits:
        why = "there is 1 image"
    elif fits <= min(most, pays):
        why = f"no more fit into {amount(one.left)}"
    elif pays <= most:
        why = f"larger steps are no faster for each image; {fits} would fit"
    else:
        why = f"an epoch has {ceil(count / found)} steps then; {fits} would fit"
    return Batch(images=found, why=why)


def _most(count: int, images_of: Callable[[int], int]) -> int:
    """Return the largest batch that leaves an epoch its steps, and takes no more images than there are."""
    found = max(1, count // STEPS)
    while found > 1 and images_of(found) > count:
        found -= 1
    return found


def _pays(gauge: Gauge, work: float) -> int:
    """Return from which batch on steps are as fast for each image as they get; 1 if not measured."""
    if not gauge.measured or work <= 0:
        return 1
    each = gauge.pace.rate * work
    return max(1, ceil(gauge.pace.start * (1 - STARTING) / (STARTING * each)))
