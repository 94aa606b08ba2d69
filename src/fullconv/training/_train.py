"""The whole job, from a folder of images to a run."""

import logging
import os
import platform
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from math import ceil, prod
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import psutil
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

from fullconv.images import Dataset, Sample, Survey, open_dataset, survey, write_labels
from fullconv.runs import Recipe, Run, save_weights, write_json, write_text
from fullconv.training._callbacks import Best, Checkpoint, Ending, Rows
from fullconv.training._config import TrainConfig
from fullconv.training._data import VALIDATION_IMAGES, ImageData, spread
from fullconv.training._evaluation import evaluate
from fullconv.training._losses import balanced_weights, criterion
from fullconv.training._module import Segmentation
from fullconv.training._progress import Bar

VALIDATION_SHARE = 0.1  # of the time at most; a forward costs about a third of a step


def train(
    config: TrainConfig, *, resume: Path | None = None, console: Console | None = None
) -> Run:
    """Train a network on the images of a folder and evaluate it on those held out.

    Args:
        config: The settings.
        resume: Folder of the run to go on with, `config` being its own but for more time.
        console: Where to show progress; None for the terminal.

    Returns:
        The run. After Ctrl-C it has the weights so far, and its ``run.json`` says so.
    """
    console = console or Console(stderr=True)
    run = Run(resume) if resume else Run.create(config.out)
    dataset = open_dataset(config.data)
    facts = survey(dataset, workers=config.workers or os.cpu_count() or 1)
    pl.seed_everything(config.seed, verbose=False)
    recipe = Recipe(
        name=config.net,
        channels=facts.channels,
        table=facts.classes,
        mean=facts.mean,
        std=facts.std,
        options=config.options,
    )
    data = ImageData(
        dataset,
        facts,
        batch=config.batch,
        seed=config.seed,
        workers=config.workers,
        augment=config.augment,
    )
    module = segmentation(config, recipe, facts)
    if not resume:
        run.write_config(config.to_dict())
        run.write_recipe(recipe)
        write_json(run.data_json, data_facts(config.data, dataset, facts))
    started = datetime.now(UTC)
    ending = fit(config, run, module, data, resume=resume is not None, console=console)
    write_json(run.run_json, about(started, module, interrupted=ending.asked))
    if not ending.asked:
        evaluate_run(run, dataset, memory=config.memory)
    return run


def segmentation(config: TrainConfig, recipe: Recipe, facts: Survey) -> Segmentation:
    """Return the module to train."""
    counts = facts.counts["train"]
    weights = balanced_weights(counts) if config.class_weights == "balanced" else None
    return Segmentation(
        recipe.build(),
        recipe.table.num_classes,
        criterion(config.loss, weights=weights, ignore=recipe.table.ignore),
        ignore=recipe.table.ignore,
        optimizer=config.optimizer,
        lr=config.lr,
        budget_s=config.minutes * 60 if config.minutes else None,
    )


def fit(
    config: TrainConfig,
    run: Run,
    module: Segmentation,
    data: ImageData,
    *,
    resume: bool,
    console: Console,
) -> Ending:
    """Train with Lightning's trainer, and return how it ended."""
    ending = Ending()
    steps_per_epoch = ceil(len(data.dataset.splits["train"]) / config.batch)
    with _quiet():
        trainer = pl.Trainer(
            max_epochs=config.epochs or -1,
            precision="bf16-mixed" if config.precision == "bf16" else "32-true",
            val_check_interval=validation_interval(data),
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            callbacks=[
                Rows(run, steps_per_epoch=steps_per_epoch),
                Best(run),
                ending,
                Checkpoint(run),
                Bar(console),
            ],
            logger=TensorBoardLogger(run.path, name=run.tensorboard.name, version=""),
            log_every_n_steps=10,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=run.path,
        )
        path = run.checkpoint if resume else None
        with ending.on_interrupt():
            trainer.fit(module, datamodule=data, ckpt_path=path, weights_only=True)
    if not run.best.exists():
        save_weights(run.best, module.net, {"step": str(trainer.global_step)})
    return ending


def validation_interval(data: ImageData) -> int:
    """Return the number of steps between validations that keeps them to a tenth of the time."""
    shapes = data.survey.shapes
    splits = data.dataset.splits

    def px(samples: Any) -> int:
        return sum(prod(shapes[s.name]) for s in samples)

    val = px(spread(splits.get("val", ()), VALIDATION_IMAGES))
    per_step = px(splits["train"]) / len(splits["train"]) * data.batch
    return max(1, ceil(val / 3 / VALIDATION_SHARE / per_step))


def evaluate_run(run: Run, dataset: Dataset, *, memory: str | None) -> None:
    """Score the held-out images and keep their predictions."""
    split = "test" if "test" in dataset.splits else "val"
    if split not in dataset.splits:
        return
    classes = run.classes()

    def keep(sample: Sample, labels: Any) -> None:
        write_labels(run.predictions / f"{sample.name}.png", labels, classes)

    run.predictions.mkdir(exist_ok=True)
    result = evaluate(run.network(), dataset.splits[split], classes, memory=memory, keep=keep)
    write_json(run.evaluation_json, result.to_json(split))
    write_text(run.evaluation_csv, result.to_csv())


def data_facts(path: Path, dataset: Dataset, facts: Survey) -> dict[str, Any]:
    """Return the samples of each split and the survey, as JSON values."""
    splits = {
        split: [{"name": s.name, "image": str(s.image), "mask": str(s.mask)} for s in samples]
        for split, samples in dataset.splits.items()
    }
    return {"data": str(path), "splits": splits, "survey": asdict(facts)}


def about(started: datetime, module: Segmentation, *, interrupted: bool) -> dict[str, Any]:
    """Return command, versions, machine, start and duration."""
    packages = ("fullconv", "torch", "lightning", "torchmetrics", "kornia", "numpy")
    return {
        "command": " ".join(sys.argv),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "machine": {
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "memory_bytes": psutil.virtual_memory().total,
            "device": str(module.device),
        },
        "start": started.isoformat(timespec="seconds"),
        "seconds": round(module.seconds(), 1),
        "steps": module.trainer.global_step,
        "parameters": sum(p.numel() for p in module.net.parameters()),
        "interrupted": interrupted,
    }


@contextmanager
def _quiet() -> Generator[None]:
    """Keep the trainer's advice to itself: the bar and the rows say what matters."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
