"""What a run works with: its network, images and steps, as the settings say."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from rich.console import Console
from torch import nn

from fullconv.errors import BadConfigError
from fullconv.execution import in_words
from fullconv.images import Dataset, Survey
from fullconv.prediction import process_memory
from fullconv.runs import Recipe
from fullconv.tracing import trace
from fullconv.training._batch import Batch, batch_for
from fullconv.training._config import TrainConfig
from fullconv.training._data import ImageData
from fullconv.training._losses import class_weights, criterion
from fullconv.training._module import Segmentation
from fullconv.training._regime import Regime, regime
from fullconv.training._room import Room, Rooms, left_for_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a run works with.

    Attributes:
        config: The settings, with a number of images per step.
        module: The network, its loss and its optimiser.
        data: The images.
        chosen: What steps are made of; None to choose by measuring.
        room: What the largest step takes, and what there is for it.
        limit: Bytes for the process; None for no limit.
        memory: Bytes for the windows of a step; None where steps are not cut.
    """

    config: TrainConfig
    module: Segmentation
    data: ImageData
    chosen: Regime | None
    room: Room
    limit: int | None
    memory: int | None


def job_for(
    config: TrainConfig, recipe: Recipe, dataset: Dataset, facts: Survey, console: Console
) -> Job:
    """Return what a run works with; its steps are cut into windows where they would not fit."""
    net = recipe.build()
    _check_network(net, recipe)
    limit = None if config.memory is None else process_memory(config.memory)
    chosen = _chosen(config, recipe, net)
    data = _drawn(data_for(config, dataset, facts, limit), chosen)
    module = module_for(config, net, facts, chosen, None)
    rooms = Rooms(config, module.net, module.criterion, data, chosen.cut if chosen else None)
    if config.batch == "auto":
        config = _settled(config, rooms, recipe, data, console)
        chosen = _chosen(config, recipe, net)
        data = _drawn(data_for(config, dataset, facts, limit), chosen)
    images, held = _images(config, chosen, len(dataset.splits["train"]))
    memory = None if limit is None else left_for_steps(limit, net, data, held)
    module.keep_within(memory)
    room = rooms.made(rooms.of(images))
    if rooms.unmeasured:
        console.print(f"no step is measured before the run: {rooms.unmeasured}", soft_wrap=True)
    if room.words:
        console.print(room.words, soft_wrap=True)
    if memory is None and not room.fits:
        memory = room.left
        module.keep_within(memory)
        console.print(f"steps are cut into windows: uncut, they take more than {in_words(memory)}")
    return Job(
        config=config,
        module=module,
        data=data,
        chosen=chosen,
        room=room,
        limit=limit,
        memory=memory,
    )


def _images(config: TrainConfig, chosen: Regime | None, count: int) -> tuple[int, int]:
    """Return the images of a step, or its sub-images, and the whole ones that are held for it.

    Of whole ones, an epoch has no more than there are, however many a step was to take.
    """
    held = min(config.images, count)
    if chosen is None:
        return held, held
    if chosen.cut:
        return chosen.images, held
    images = min(chosen.images, count)
    return images, images


def _drawn(data: ImageData, chosen: Regime | None) -> ImageData:
    """Return the images, drawn as chosen: refused here where they cannot be, before steps are measured."""
    if chosen:
        data.follow(chosen)
    return data


def _chosen(config: TrainConfig, recipe: Recipe, net: nn.Module) -> Regime | None:
    return None if config.sampling == "auto" else regime_of(config, recipe, net)


def _settled(
    config: TrainConfig, rooms: Rooms, recipe: Recipe, data: ImageData, console: Console
) -> TrainConfig:
    """Return the settings with a number of images per step."""

    def images_of(batch: int) -> int:
        chosen = _chosen(replace(config, batch=batch), recipe, rooms.net)
        return chosen.images if chosen else batch

    if config.sampling.startswith(("crop", "patchwise")):
        found = Batch(images=1, why=f"`sampling` = {config.sampling} counts what steps have")
    elif data.large:
        found = Batch(images=1, why="images are read in parts")
    else:
        found = batch_for(rooms, len(data.dataset.splits["train"]), images_of)
    console.print(f"batch {found.images}: {found.why}", soft_wrap=True)
    return replace(config, batch=found.images)


def recipe_for(config: TrainConfig, facts: Survey) -> Recipe:
    """Return how the network is built: as the settings say, for these images and classes."""
    return Recipe(
        name=config.net,
        channels=facts.channels,
        table=facts.classes,
        mean=facts.mean,
        std=facts.std,
        options=config.options,
        padding=config.padding,
    )


def regime_of(config: TrainConfig, recipe: Recipe, net: nn.Module) -> Regime:
    """Return what steps are made of; a coarse cell is as large as one of the deepest layer's."""
    cell = 1
    if config.sampling.startswith("sampled-coarse"):
        cell = trace(net.eval(), recipe.channels).axes[0].units
        net.train()
    ignore = recipe.table.ignore
    return regime(config.sampling, batch=config.images, ignore=ignore, cell=cell)


def data_for(config: TrainConfig, dataset: Dataset, facts: Survey, limit: int | None) -> ImageData:
    """Return the images; with a limit, those that are too large for it are read in parts."""
    return ImageData(
        dataset,
        facts,
        batch=config.images,
        memory=limit,
        seed=config.seed,
        workers=config.workers,
        augment=config.augment,
        replacement=config.replacement,
    )


def module_for(
    config: TrainConfig, net: nn.Module, facts: Survey, chosen: Regime | None, memory: int | None
) -> Segmentation:
    """Return the network with the loss and the optimiser that the settings say."""
    weights = class_weights(config.class_weights, facts.counts["train"])
    ignore = facts.classes.ignore
    return Segmentation(
        net,
        facts.classes.num_classes,
        criterion(config.loss, weights=weights, ignore=ignore),
        ignore=ignore,
        optimizer=config.optimizer,
        momentum=config.momentum,
        lr=config.lr,
        budget_s=config.minutes * 60 if config.minutes else None,
        sampler=chosen.sampler if chosen else None,
        seed=config.seed,
        memory=memory,
    )


def _check_network(net: nn.Module, recipe: Recipe) -> None:
    """Refuse a network that cannot learn, or has another number of classes than the data."""
    if not any(p.requires_grad for p in net.parameters()):
        raise BadConfigError(
            f"`net` = {recipe.name} must have weights to train, got none that require a gradient"
        )
    try:
        with torch.no_grad():
            channels = net.eval()(torch.zeros(1, recipe.channels, 64, 64)).shape[1]
    except Exception:  # noqa: BLE001 - not every network takes this size; the first step will tell
        return
    finally:
        net.train()
    if channels != recipe.table.num_classes:
        raise BadConfigError(
            f"`net` = {recipe.name} must return a map with a channel for each of the "
            f"{recipe.table.num_classes} classes, got {channels}"
        )
