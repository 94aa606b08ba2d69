"""The whole job, from a folder of images to a run."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lightning.pytorch import seed_everything
from numpy.typing import NDArray
from rich.console import Console

from fullconv.errors import BadConfigError, BadDataError, BadOutputError, FullconvError
from fullconv.execution import give_back_freed_memory
from fullconv.images import Dataset, Sample, Survey, open_dataset, survey, write_labels
from fullconv.prediction import best_device, left_for_windows
from fullconv.regions import check_output
from fullconv.runs import (
    Run,
    check_match,
    drop_rows_after,
    read_checkpoint,
    write_json,
    write_text,
)
from fullconv.training._auto import alternatives, candidates, choose, measured, measuring_s
from fullconv.training._config import TrainConfig
from fullconv.training._counting import counting
from fullconv.training._evaluation import evaluate
from fullconv.training._fit import fit
from fullconv.training._job import Job, data_for, job_for, module_for, recipe_for, regime_of
from fullconv.training._module import Segmentation
from fullconv.training._noise import Reading, lasting, pooled
from fullconv.training._recipes import needs_weights
from fullconv.training._record import note_end, note_finished, note_memory, note_start
from fullconv.training._regime import regime
from fullconv.training._score_run import held_bytes
from fullconv.training._shortage import is_shortage
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
        says that it is not finished. A run that ended in its evaluation is evaluated with `resume`.

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
    recipe = recipe_for(config, facts)
    if resume:
        check_same_kind(run, recipe)
    with _no_empty_folder(run):
        job = job_for(config, recipe, dataset, facts, console)
    config = job.config
    trained = False
    if resume:
        trained = _go_back_to_checkpoint(run, config, job.module)
    elif config.weights:
        start(config.weights, config.net, job.module.net, console)
    elif config.recipe:
        console.print(f"warning: {needs_weights(config.recipe)}")
    with _no_empty_folder(run):
        if not job.chosen and not trained:
            _follow_what_pays(run, config, job, console)
        with counting(console, "counting classes") as progress:
            job.data.count_classes(progress)
    run.write_config(config.to_dict())
    run.write_recipe(recipe)
    write_json(run.data_json, _data_facts(config.data, dataset, facts))
    if trained:
        console.print("the run is trained; what is left is its evaluation")
    elif _fit(run, config, job, console=console, resume=resume is not None):
        return run
    if _evaluate_if_it_fits(run, dataset, facts, limit=job.limit, console=console):
        note_finished(run)
    return run


def _fit(run: Run, config: TrainConfig, job: Job, *, console: Console, resume: bool) -> bool:
    """Train, keep notes of it, and return whether it was interrupted."""
    note_start(run, job.module)
    note_memory(run, job.module, job.room)
    try:
        interrupted = fit(config, run, job.module, job.data, console=console, resume=resume)
        trainer = job.module.trainer
        device, steps = trainer.strategy.root_device, trainer.global_step
        note_end(run, device=device, seconds=job.module.seconds(), steps=steps)
    finally:
        note_memory(run, job.module, job.room)
    return interrupted


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
        BadConfigError: If the images cannot make steps of one of them.
        FullconvError: If there is no time for one of them, or no memory.
    """
    recipe = recipe_for(config, facts)
    net = recipe.build()
    module = module_for(config, net, facts, None, None)
    data = data_for(config, dataset, facts, None)
    chosen = [regime_of(replace(config, sampling=name), recipe, net) for name in names]
    for one in chosen:
        data.check(one)
    each = measured(module.net, module.criterion, data, chosen, within=QUICK_S)
    with _no_cuts():
        readings = lasting(pooled(list(each)))
    missing = {one.name for one in chosen} - {one.regime.name for one in readings}
    if missing:
        raise FullconvError(
            f"`regimes` must be measured within {QUICK_S:.0f} s, got no time for {', '.join(sorted(missing))}; "
            "name fewer or smaller ones, or compare by training"
        )
    return readings


@contextmanager
def _no_cuts() -> Generator[None]:
    """Say what to do where steps that are measured run out of memory."""
    try:
        yield
    except Exception as error:
        if not is_shortage(error):
            raise
        said = str(error).strip().partition("\n")[0] or "out of memory"
        raise FullconvError(
            f"`regimes` must fit into memory to be measured, got {said}; "
            "name smaller ones, or compare by training, which cuts steps into windows"
        ) from error


def check_regimes(
    config: TrainConfig, dataset: Dataset, facts: Survey, names: Sequence[str]
) -> None:
    """Refuse regimes of which these images cannot make steps, before the first of them is trained.

    Args:
        config: Settings of the runs that would be trained.
        dataset: The images.
        facts: What is in them.
        names: The regimes.

    Raises:
        BadConfigError: If there are no images for one of them, or too few.
        NotLocalError: If one has cells of a network that has none.
    """
    recipe = recipe_for(config, facts)
    net = recipe.build()
    data = data_for(config, dataset, facts, None)
    for name in names:
        if name != "auto":  # takes what fits
            data.check(regime_of(replace(config, sampling=name), recipe, net))


def fitting_regimes(config: TrainConfig, dataset: Dataset, facts: Survey) -> list[str]:
    """Return the names of the regimes worth comparing on these images: ends, and what lies between."""
    data = data_for(config, dataset, facts, None)
    names = [one.name for one in candidates(data, config.images)]
    return [*names, "sampled:0.5"] if len(dataset.splits["train"]) > 2 * config.images else names


def _prepare(config: TrainConfig | None, resume: Path | None) -> tuple[Run, TrainConfig]:
    """Return the run and the settings: of a new run, or of one that goes on."""
    if resume is None:
        if config is None:
            raise BadConfigError("`config` must be given for a new run, got none")
        check_output(config.out)  # before hours of work whose predictions could not be read again
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


def _follow_what_pays(run: Run, config: TrainConfig, job: Job, console: Console) -> None:
    """Choose a regime by measuring, or take the one that a resumed run has chosen."""
    if run.sampling_json.is_file():
        known = run.sampling()
        name, ending = known["sampling"], known["ends_on_whole"]
    else:
        net, cut = job.module.net, job.memory is not None
        found = alternatives(net, job.data, config.images, cut=cut)
        choice = choose(
            job.module.net,
            job.module.criterion,
            job.data,
            found,
            within=measuring_s(config.minutes),
            memory=job.memory,
        )
        write_json(run.sampling_json, choice.to_json())
        console.print(f"sampling {choice.why}")
        name, ending = choice.regime.name, choice.ending
    whole = regime("whole", batch=config.images) if ending and name != "whole" else None
    chosen = regime(name, batch=config.images)
    job.data.follow(chosen, whole)
    job.module.follow(chosen.sampler)


def _go_back_to_checkpoint(run: Run, config: TrainConfig, module: Segmentation) -> bool:
    """Drop what was logged behind the checkpoint; return whether nothing but the evaluation is left."""
    state = read_checkpoint(run.checkpoint)
    check_match(run.checkpoint, state["state_dict"], module.state_dict())
    evaluated = run.about()["finished"] and run.evaluation_json.exists()
    trained = _is_over(config, state) and not evaluated
    if trained:
        note_start(run, module)
        note_end(run, device=best_device(), seconds=state["seconds"], steps=state["global_step"])
    else:
        _refuse_to_train_no_more(config, state)
    for path in (run.steps_csv, run.validation_csv):
        drop_rows_after(path, state["global_step"])
    return trained


def _is_over(config: TrainConfig, state: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint has used up its budget."""
    minutes, epochs = config.minutes, config.epochs
    return bool(
        (minutes and state["seconds"] >= minutes * 60) or (epochs and state["epochs"] >= epochs)
    )


def _refuse_to_train_no_more(config: TrainConfig, state: Mapping[str, Any]) -> None:
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


def _evaluate_if_it_fits(
    run: Run, dataset: Dataset, facts: Survey, *, limit: int | None, console: Console
) -> bool:
    """Evaluate the run and return True, or say why its memory is too small: what it has learnt stays."""
    try:
        _evaluate(run, dataset, facts, limit=limit, console=console)
    except (BadDataError, BadOutputError):
        raise
    except FullconvError as error:
        if limit is None:
            raise
        console.print(
            f"warning: the run is not evaluated: {error}. `fullconv evaluate` does it with more memory",
            soft_wrap=True,
        )
        return False
    return True


def _evaluate(
    run: Run, dataset: Dataset, facts: Survey, *, limit: int | None, console: Console
) -> None:
    """Score the best weights on the held-out images, and keep the predictions."""
    # One of fewer epochs does not pass for that of the run if this ends early.
    run.evaluation_json.unlink(missing_ok=True)
    split = dataset.held_out
    if split not in dataset.splits:
        return
    classes = run.classes()
    samples = dataset.splits[split]
    net = run.network().to(best_device())
    held = held_bytes(samples, facts)
    give_back_freed_memory()  # of the steps, which would count as held by the program

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
