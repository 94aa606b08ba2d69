"""The training itself: Lightning's trainer, and what it is told."""

import errno
import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from math import ceil

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

from fullconv.errors import BadOutputError
from fullconv.runs import Run, save_weights
from fullconv.training._auto import Turn
from fullconv.training._callbacks import Best, Checkpoint, Ending, Rows
from fullconv.training._config import TrainConfig
from fullconv.training._data import ImageData
from fullconv.training._module import Segmentation
from fullconv.training._progress import Bar
from fullconv.training._regime import Regime
from fullconv.training._settling import Settling

VALIDATION_SHARE = 0.1  # of the time at most
FORWARD_SHARE = 1 / 3  # of a step's time: a backward costs about two forwards

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def fit(
    config: TrainConfig,
    run: Run,
    module: Segmentation,
    data: ImageData,
    *,
    console: Console,
    resume: bool,
) -> bool:
    """Train until epochs or minutes are over, or Ctrl-C; return whether it was interrupted.

    Behind each step: whether it was the last, a row, the best weights, a checkpoint, the bar.
    """
    module.say = console.print
    interval = validation_interval(data, data.regime)
    ending = Ending(validation_interval=interval)
    whole = Regime(name="whole", images=config.images)
    callbacks: list[pl.Callback] = [
        Settling(),
        *([Turn(data, validation_interval(data, whole))] if data.turns else []),
        ending,
        Rows(run, steps_per_epoch=data.steps_per_epoch),
        Best(run),
        Checkpoint(run),
        Bar(console),
    ]
    with _quiet():
        trainer = pl.Trainer(
            devices=1,
            max_epochs=config.epochs or -1,
            precision="bf16-mixed" if config.precision == "bf16" else "32-true",
            val_check_interval=interval,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            callbacks=callbacks,
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
            try:
                trainer.fit(module, datamodule=data, ckpt_path=path, weights_only=True)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                raise BadOutputError(
                    f"`out` = {run.path} must be writable, got: {error}; what was saved before is "
                    "kept. Free some space and go on with `--resume`"
                ) from error
    if not data.validation:
        save_weights(run.best, module.net, {"step": str(trainer.global_step)})
    return ending.asked


def validation_interval(data: ImageData, regime: Regime) -> int:
    """Return the number of steps between validations that keeps them to a tenth of the time."""
    return max(
        1, ceil(data.validation_px * FORWARD_SHARE / VALIDATION_SHARE / data.step_px(regime))
    )


@contextmanager
def _quiet() -> Generator[None]:
    """Keep the trainer's advice to itself: what matters is in the rows and on the bar."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            yield
    finally:
        logger.setLevel(level)
