"""A plan: what training takes and costs, by regime, and what to choose."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import cache
from math import prod
from typing import Any

import torch
from torch import nn

from fullconv.errors import BadConfigError, FullconvError
from fullconv.execution import Planner
from fullconv.planning._bill import Bill, Layer, bill, layers
from fullconv.planning._budget import budget, free_bytes
from fullconv.planning._choice import Choice, choose, patch_px
from fullconv.planning._gauge import Gauge
from fullconv.planning._largest import largest
from fullconv.planning._manner import Manner, OptimizerName, Precision
from fullconv.planning._measure import measured
from fullconv.planning._ranks import first_rank_says
from fullconv.planning._regimes import Draft, RegimePlan, through_windows, whole
from fullconv.planning._rehearsal import Rehearsal, rehearse_forward, rehearse_step
from fullconv.planning._sizes import checked, shape_of_image
from fullconv.planning._stage import Stage
from fullconv.planning._table import table
from fullconv.planning._twin import device_of
from fullconv.planning._words import amount, times
from fullconv.sampling import Patchwise, Sampled, Sampler, Whole

# Sub-images of a step come from this many images at most, as in training.
MOST_IMAGES = 4
# Steps that take more are not rehearsed to find the largest: PyTorch counts bytes in 63 bits.
MOST_BYTES = 2**60
# Several images of a step take so much at most: layers may keep 2**15 times as much, within those bits.
MOST_IMAGE_BYTES = 2**45


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What training a network on images of one shape takes and costs. Printed, it is a table.

    Bytes count what training adds to the program: weights, gradients, the optimiser's state, images,
    activations, workspace.

    Attributes:
        network: Class of the network.
        device: Where it is.
        precision: ``32``, or ``bf16`` for autocast.
        optimizer: Its name.
        shape: Of an image, `(channels, *spatial)`.
        map_shape: Of its map, `(classes, *spatial)`.
        batch: Images of a step; all of the data set where it has fewer than were asked for.
        images: In the data set; None if not known.
        memory: Bytes that there are.
        image_bytes: Of one image as a tensor of 32-bit numbers.
        parameters: Numbers in the weights.
        parameter_bytes: Of weights and buffers.
        gradient_bytes: Of the weights' gradients.
        optimizer_bytes: Of the optimiser's state.
        saved_bytes: What forward keeps for backward, over whole images.
        layers: The same by layer.
        bill: Where the memory goes when a step over `batch` whole images takes most.
        forward_bytes: What a forward pass over one whole image takes, without gradients.
        largest_batch: Whole images that fit into one step, a reserve kept; 0 if not even one does.
        regimes: What steps of each regime take and cost.
        patch_px: Pixels of the sub-image that one unit needs, cut out by itself; None if the field
            is not finite.
        choice: What to do.
        error: How far off the peak may be, as a share of it.
        reserve: Share of the peak of what is chosen that is kept free, for it may be too small.
        measured: Whether a step was measured for it.
        unmeasured: Why none was, though it was asked for; empty otherwise.
    """

    network: str
    device: str
    precision: Precision
    optimizer: OptimizerName
    shape: tuple[int, ...]
    map_shape: tuple[int, ...]
    batch: int
    images: int | None
    memory: int
    image_bytes: int
    parameters: int
    parameter_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    saved_bytes: int
    layers: tuple[Layer, ...]
    bill: Bill
    forward_bytes: int
    largest_batch: int
    regimes: tuple[RegimePlan, ...]
    patch_px: int | None
    choice: Choice
    error: float
    reserve: float
    measured: bool
    unmeasured: str = ""

    @property
    def peak_bytes(self) -> int:
        """The most memory that a training step over `batch` whole images takes."""
        return self.bill.total

    @property
    def recommendation(self) -> str:
        """What to do and why, in one line."""
        return self.choice.words

    def regime(self, name: str) -> RegimePlan:
        """Return the plan of a regime by name.

        Raises:
            BadConfigError: If there is none of that name.
        """
        found = {regime.name: regime for regime in self.regimes}
        if name not in found:
            raise BadConfigError(f"`name` must be one of {', '.join(found)}, got {name!r}")
        return found[name]

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain values, for JSON."""
        regimes = [
            asdict(r) | {"pixels": r.pixels, "pixels_per_term": r.pixels_per_term,
                         "epoch_seconds": r.epoch_seconds}
            for r in self.regimes
        ]  # fmt: skip
        return asdict(self) | {
            "peak_bytes": self.peak_bytes,
            "recommendation": self.recommendation,
            "regimes": regimes,
        }

    def to_json(self) -> str:
        """Return the plan as JSON text."""
        return json.dumps(self.as_dict(), indent=2)

    def __str__(self) -> str:
        return table(self)


def plan(
    net: nn.Module,
    shape: tuple[int, ...],
    batch: int = 1,
    memory: str | int | None = None,
    images: int | None = None,
    *,
    sampler: Sampler | None = None,
    precision: Precision = "32",
    optimizer: OptimizerName = "adamw",
    measure: bool = False,
) -> Plan:
    """Return what training a network on images of one shape takes and costs, before anything runs.

    Steps are rehearsed on tensors without numbers: nothing is computed, and no memory is taken,
    whatever the size.

    Args:
        net: Takes `(batch, channels, *spatial)`, returns a map; in the mode that it is trained in. It
            may be on the meta device.
        shape: Of an image, `(channels, *spatial)`.
        batch: Images of a step; all of the data set where it has fewer.
        memory: What training may add to the program: "8 GiB", "500MB", "80%" of what is free, or bytes.
            None for all that is free but a margin.
        images: In the data set, for the seconds of an epoch and the largest step.
        sampler: Which units count: one more regime, or in place of that of its kind (`Sampled`,
            `Patchwise`) among those that are always planned; `Whole` is one of these.
        precision: ``32``, or ``bf16`` for autocast.
        optimizer: That of `torch.optim` with this name, in small letters, such as ``adamw``, ``rmsprop``;
            ``sgd`` with momentum.
        measure: Whether to make two small steps in a process of their own, some seconds in all, that say
            what this machine takes for what is counted, and how fast it is. They stay within what is free;
            where none can be made, the plan goes without and says why.

    Raises:
        BadConfigError: If an argument cannot be used.
        FullconvError: If the network does not take the shape, cannot be run without numbers, or nothing
            fits; the message says what would.

    Examples:
        >>> import torch, fullconv as fc
        >>> net = torch.nn.Conv2d(3, 2, 3, padding=1)
        >>> fc.plan(net, shape=(3, 980, 980), memory="1 GiB").largest_batch > 5
        True
    """
    manner = Manner(precision=precision, optimizer=optimizer)
    shape = shape_of_image(shape)
    _check_net(net)
    _check_sampler(sampler)
    _check_counts(batch=batch, images=images)
    _check_bytes(shape, batch)
    with torch.inference_mode(False), torch.device("cpu"):
        checked(rehearse_forward, Stage(net, manner), shape)
        gauge, unmeasured = _measured(net, shape, manner) if measure else (None, "")
        found = planned(
            net,
            shape,
            batch=batch,
            memory=budget(memory, device_of(net)),
            images=images,
            samplers={}
            if sampler is None or isinstance(sampler, Whole)
            else {_name(sampler): sampler},
            manner=manner,
            gauge=gauge,
        )
        return replace(found, unmeasured=unmeasured)


def _measured(net: nn.Module, shape: tuple[int, ...], manner: Manner) -> tuple[Gauge | None, str]:
    """Return what small steps say; or nothing, and why none could be made."""
    free = free_bytes(device_of(net))
    try:
        return first_rank_says(lambda: measured(net, shape, manner, free)), ""
    except FullconvError as error:
        return None, " ".join(str(error).split())


def planned(
    net: nn.Module,
    shape: tuple[int, ...],
    *,
    batch: int,
    memory: int,
    images: int | None,
    samplers: dict[str, Sampler],
    manner: Manner,
    gauge: Gauge | None = None,
) -> Plan:
    """Return a plan for bytes of memory, and any manner of making steps.

    Args:
        net: The network.
        shape: Of an image, `(channels, *spatial)`.
        batch: Images of a step; all of the data set where it has fewer.
        memory: Bytes that training may add to the program.
        images: In the data set; None if not known.
        samplers: Regimes besides those that are always planned, by name.
        manner: How steps are made.
        gauge: What the machine makes of a rehearsal, measured here; None for what is known of others.
    """
    net = getattr(net, "_orig_mod", net)
    stage = Stage(net, manner)
    gauge = gauge or Gauge.of(stage.device.type)
    batch = min(batch, images or batch)

    @cache
    def step(count: int) -> Rehearsal:
        return checked(rehearse_step, stage, shape, batch=count)

    def taken(count: int) -> int:
        return gauge.taken(step(count).course)

    course = step(batch).course
    weights = sum(p.numel() * p.element_size() for p in net.parameters() if p.requires_grad)
    of_state, of_weights = (int(course.alive([k])[0]) for k in ("optimizer", "parameters"))
    draft = Draft(
        stage=stage,
        planner=Planner(net, None),
        shape=tuple(shape),
        map_shape=step(batch).map_shape[1:],
        gauge=gauge,
        standing=of_weights + of_state + 2 * weights,
        memory=memory,
        images=images,
    )
    regimes = _regimes(draft, batch, taken(batch), samplers)
    assert draft.usable is not None
    most = largest(taken, min(draft.usable, MOST_BYTES), images)
    patch = patch_px(draft)
    return Plan(
        network=type(net).__name__,
        device=str(stage.device),
        precision=manner.precision,
        optimizer=manner.optimizer,
        shape=draft.shape,
        map_shape=step(batch).map_shape,
        batch=batch,
        images=images,
        memory=memory,
        image_bytes=4 * prod(shape),
        parameters=sum(p.numel() for p in net.parameters()),
        parameter_bytes=of_weights,
        gradient_bytes=weights,
        optimizer_bytes=of_state,
        saved_bytes=int(course.alive(["saved"]).max(initial=0)),
        layers=layers(course),
        bill=bill(course, gauge.beyond(course)),
        forward_bytes=gauge.taken(rehearse_forward(stage, shape).course),
        largest_batch=most,
        regimes=regimes,
        patch_px=patch,
        choice=choose(draft, regimes, most, taken, patch),
        error=gauge.error,
        reserve=memory / max(1, draft.usable) - 1,
        measured=gauge.measured,
    )


def _regimes(
    draft: Draft, batch: int, peak_bytes: int, samplers: dict[str, Sampler]
) -> tuple[RegimePlan, ...]:
    """Return the regimes that are always planned, and those that were asked for."""
    known: dict[str, Sampler] = {
        "streamed": Whole(),
        "sampled": Sampled(keep=0.25),
        "patchwise": Patchwise(count=64),
    }
    rows = [whole(draft, batch, peak_bytes)]
    for name, sampler in (known | samplers).items():
        images = _images(sampler, batch)
        rows.append(through_windows(draft, name, sampler, min(images, draft.images or images)))
    return tuple(rows)


def _images(sampler: Sampler, batch: int) -> int:
    """Return how many images a step looks at."""
    if isinstance(sampler, Sampled):
        return max(1, round(batch * sampler.images))
    if isinstance(sampler, Patchwise):
        return max(batch, min(sampler.count, MOST_IMAGES))
    return batch


def _name(sampler: Sampler) -> str:
    return getattr(type(sampler), "__name__", "sampler").lower()


def _check_net(net: object) -> None:
    if not isinstance(net, nn.Module):
        nearest = f"fullconv.networks.build({net if isinstance(net, str) else 'unet'!r}, classes=2)"
        raise BadConfigError(f"`net` must be a torch.nn.Module, got {net!r}: such as {nearest}")


def _check_sampler(sampler: object) -> None:
    if sampler is not None and (isinstance(sampler, type) or not callable(sampler)):
        raise BadConfigError(
            f"`sampler` must be a function of labels and a generator, got {sampler!r}: such as "
            "fullconv.Patchwise(count=64)"
        )


def _check_counts(*, batch: int, images: int | None) -> None:
    for key, value in {"batch": batch, "images": 1 if images is None else images}.items():
        if type(value) is not int or value < 1:
            raise BadConfigError(f"`{key}` must be a whole number of at least 1, got {value!r}")


def _check_bytes(shape: tuple[int, ...], batch: int) -> None:
    most = max(1, MOST_IMAGE_BYTES // (4 * prod(shape)))
    if batch > most:
        raise BadConfigError(
            f"`batch` must be images that take {amount(MOST_IMAGE_BYTES)} together, at most {most:,} of "
            f"{times(shape)} px, got {batch:,}"
        )
