"""The whole job, from a folder of images to a run."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import seed_everything
from numpy.typing import NDArray
from rich.console import Console
from torch import nn

from fullconv.errors import BadConfigError, FullconvError
from fullconv.execution import in_words
from fullconv.images import Dataset, Sample, Survey, open_dataset, survey, write_labels
from fullconv.prediction import best_device, left_for_windows, process_memory
from fullconv.runs import (
    Recipe,
    Run,
    check_match,
    drop_rows_after,
    read_checkpoint,
    write_json,
    write_text,
)
from fullconv.tracing import trace
from fullconv.training._auto import candidates, choose, measuring_s
from fullconv.training._config import TrainConfig
from fullconv.training._counting import counting
from fullconv.training._data import ImageData
from fullconv.training._evaluation import evaluate
from fullconv.training._fit import fit
from fullconv.training._losses import class_weights, criterion
from fullconv.training._module import Segmentation
from fullconv.training._noise import Reading
from fullconv.training._recipes import needs_weights
from fullconv.training._record import note_end, note_memory, note_start
from fullconv.training._regime import Regime, regime
from fullconv.training._room import left_for_steps, room_for
from fullconv.training._score_run import held_bytes
from fullconv.training._starting import check_same_kind, start, warn_of_repeats

QUICK_S = 300.0  # at most, to compare regimes without training


def train(
    config: TrainConfig | None = None,
    *,
    resume: Path | None = None,
    console: Console | None = None,
) -> Run:
    """Train a network on the images of a folder and evaluate it on those held out.

    Args:
        config: The settings; with `resume` those of the run, or with another budget.
        resume: Folder of a run to go on with.
        console: Where to show progress; None for the terminal.

    Returns:
        The run. After Ctrl-C it has the weights so far and no evaluation, and its ``run.json``
        says that it was interrupted.

    Raises:
        BadConfigError: If a setting cannot be used.
        BadDataError: If the data cannot; the message lists all bad files.
        BadRunError: If the run to go on with cannot.
        BadOutputError: If the disk refuses; what was saved before is kept.
    """
    console = console or Console(stderr=True)
    run, config = _prepare(config, resume)
    with _no_empty_folder(run), counting(console, "reading") as progress:
        dataset = open_dataset(config.data)
        facts = survey(dataset, progress=progress)
    warn_of_repeats(dataset, console)
    seed_everything(config.seed, verbose=False)
    recipe = _recipe(config, facts)
    if resume:
        check_same_kind(run, recipe)
    with _no_empty_folder(run):
        net = recipe.build()
        _check_network(net, recipe)
        limit = None if config.memory is None else process_memory(config.memory)
        data = _data(config, dataset, facts, limit)
        chosen = None if config.sampling == "auto" else _regime(config, recipe, net)
        held = chosen.images if chosen and not chosen.cut else config.batch
        memory = None if limit is None else left_for_steps(limit, net, data, held)
        module = _module(config, net, facts, chosen, memory)
        room = room_for(config, module.net, module.criterion, data, chosen)
    if memory is None and not room.fits:
        memory = room.left
        module.keep_within(memory)
        console.print(f"steps are cut into windows: uncut, they take more than {in_words(memory)}")
    if resume:
        _go_back_to_checkpoint(run, config, module)
    elif config.weights:
        start(config.weights, config.net, module.net, console)
    elif config.recipe:
        console.print(f"warning: {needs_weights(config.recipe)}")
    with _no_empty_folder(run):
        if chosen:
            data.follow(chosen)
        else:
            _follow_what_pays(run, config, module, data, memory, console)
        with counting(console, "counting classes") as progress:
            data.count_classes(progress)
    run.write_config(config.to_dict())
    run.write_recipe(recipe)
    write_json(run.data_json, _data_facts(config.data, dataset, facts))
    note_start(run, module)
    note_memory(run, module, room)
    interrupted = fit(config, run, module, data, console=console, resume=resume is not None)
    note_end(run, module, interrupted=interrupted)
    note_memory(run, module, room)
    if not interrupted:
        _evaluate(run, dataset, facts, limit=limit, console=console)
    return run


def read_regimes(
    config: TrainConfig, dataset: Dataset, facts: Survey, names: Sequence[str]
) -> tuple[Reading, ...]:
    """Return what some steps of each regime are, for a fresh network that has seen a few.

    Args:
        config: Settings of the runs that would be trained.
        dataset: The images.
        facts: What is in them.
        names: The regimes.

    Raises:
        FullconvError: If there is no time for one of them.
    """
    recipe = _recipe(config, facts)
    net = recipe.build()
    module = _module(config, net, facts, None, None)
    data = _data(config, dataset, facts, None)
    chosen = [_regime(replace(config, sampling=name), recipe, net) for name in names]
    readings = choose(module.net, module.criterion, data, chosen, within=QUICK_S).readings
    missing = {one.name for one in chosen} - {one.regime.name for one in readings}
    if missing:
        raise FullconvError(
            f"`regimes` must be measured within {QUICK_S:.0f} s, got no time for {', '.join(sorted(missing))}; "
            "name fewer or smaller ones, or compare by training"
        )
    return readings


def fitting_regimes(config: TrainConfig, dataset: Dataset, facts: Survey) -> list[str]:
    """Return the names of the regimes worth comparing on these images: ends, and what lies between."""
    data = _data(config, dataset, facts, None)
    names = [one.name for one in candidates(data, config.batch)]
    return [*names, "sampled:0.5"] if len(dataset.splits["train"]) > 2 * config.batch else names


def _prepare(config: TrainConfig | None, resume: Path | None) -> tuple[Run, TrainConfig]:
    """Return the run and the settings: of a new run, or of one that goes on."""
    if resume is None:
        if config is None:
            raise BadConfigError("`config` must be given for a new run, got none")
        return Run.create(config.out), config
    run = Run.open(resume)
    earlier = TrainConfig.from_dict(run.config())
    return run, config.resuming(earlier) if config else earlier


@contextmanager
def _no_empty_folder(run: Run) -> Generator[None]:
    """Take a run's folder away again if what fails leaves it empty."""
    try:
        yield
    except BaseException:
        with suppress(OSError):  # it is not empty
            run.path.rmdir()
        raise


def _recipe(config: TrainConfig, facts: Survey) -> Recipe:
    return Recipe(
        name=config.net,
        channels=facts.channels,
        table=facts.classes,
        mean=facts.mean,
        std=facts.std,
        options=config.options,
        padding=config.padding,
    )


def _regime(config: TrainConfig, recipe: Recipe, net: nn.Module) -> Regime:
    """Return what steps are made of; a coarse cell is as large as one of the deepest layer's."""
    cell = 1
    if config.sampling.startswith("sampled-coarse"):
        cell = trace(net.eval(), recipe.channels).axes[0].units
        net.train()
    ignore = recipe.table.ignore
    return regime(config.sampling, batch=config.batch, ignore=ignore, cell=cell)


def _follow_what_pays(
    run: Run,
    config: TrainConfig,
    module: Segmentation,
    data: ImageData,
    memory: int | None,
    console: Console,
) -> None:
    """Choose a regime by measuring, or take the one that a resumed run has chosen."""
    if run.sampling_json.is_file():
        known = run.sampling()
        name, ending = known["sampling"], known["ends_on_whole"]
    else:
        choice = choose(
            module.net,
            module.criterion,
            data,
            candidates(data, config.batch),
            within=measuring_s(config.minutes),
            memory=memory,
        )
        write_json(run.sampling_json, choice.to_json())
        console.print(f"sampling {choice.why}")
        name, ending = choice.regime.name, choice.ending
    whole = regime("whole", batch=config.batch) if ending and name != "whole" else None
    data.follow(regime(name, batch=config.batch), whole)


def _data(config: TrainConfig, dataset: Dataset, facts: Survey, limit: int | None) -> ImageData:
    return ImageData(
        dataset,
        facts,
        batch=config.batch,
        memory=limit,
        seed=config.seed,
        workers=config.workers,
        augment=config.augment,
        replacement=config.replacement,
    )


def _module(
    config: TrainConfig, net: nn.Module, facts: Survey, chosen: Regime | None, memory: int | None
) -> Segmentation:
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


def _go_back_to_checkpoint(run: Run, config: TrainConfig, module: Segmentation) -> None:
    """Check that the run can go on from its checkpoint, and drop what was logged behind it."""
    state = read_checkpoint(run.checkpoint)
    check_match(run.checkpoint, state["state_dict"], module.state_dict())
    if config.minutes and state["seconds"] >= config.minutes * 60:
        raise BadConfigError(
            f"`minutes` must be more than the run has had ({state['seconds'] / 60:.1f}), got "
            f"{config.minutes:g}; give a larger total to go on"
        )
    if config.epochs and state["epochs"] >= config.epochs:
        raise BadConfigError(
            f"`epochs` must be more than the run has had ({state['epochs']:g}), got "
            f"{config.epochs}; give a larger total to go on"
        )
    for path in (run.steps_csv, run.validation_csv):
        drop_rows_after(path, state["global_step"])


def _evaluate(
    run: Run, dataset: Dataset, facts: Survey, *, limit: int | None, console: Console
) -> None:
    """Score the best weights on the held-out images, and keep the predictions."""
    split = dataset.held_out
    if split not in dataset.splits:
        return
    classes = run.classes()
    samples = dataset.splits[split]
    net = run.network().to(best_device())
    held = held_bytes(samples, facts)

    def keep(sample: Sample, labels: NDArray[Any]) -> None:
        write_labels(run.predictions / f"{sample.name}.png", labels, classes)

    with counting(console, "evaluating") as progress:
        result = evaluate(
            net,
            samples,
            classes,
            memory=None if limit is None else left_for_windows(limit, net, held_bytes=held),
            progress=progress,
            keep=keep,
            folder=run.predictions,
        )
    write_json(run.evaluation_json, result.to_json(split))
    write_text(run.evaluation_csv, result.to_csv())


def _data_facts(path: Path, dataset: Dataset, facts: Survey) -> dict[str, Any]:
    """Return the samples of each split and the survey, as JSON values."""
    splits = {
        split: [
            {"name": s.name, "image": str(s.image), "mask": str(s.mask) if s.mask else None}
            for s in samples
        ]
        for split, samples in dataset.splits.items()
    }
    return {"data": str(path), "splits": splits, "survey": asdict(facts)}
