"""What happens beside the steps: rows, weights, checkpoints, the end of the run.

Each callback does one thing. Steps are counted from 1 in what is written.
"""

import math
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from fullconv.errors import BadConfigError
from fullconv.images import atomic
from fullconv.runs import Run, append_row, save_weights, weights_notes
from fullconv.training._module import Segmentation

DENSE_STEPS = 1000  # each of the first steps gets a row, then every tenth
SAVE_EVERY_S = 60.0
SAVE_SHARE = 0.02  # of the time at most, for networks that take long to write


class Rows(pl.Callback):
    """Write ``steps.csv`` and ``validation.csv``, and stop where the loss is no number.

    It comes behind `Ending`, so that the last step has its row. A row has the mean loss of the steps since the row before; only then is the device waited for.
    """

    def __init__(self, run: Run, *, steps_per_epoch: int) -> None:
        self.run = run
        self.steps_per_epoch = steps_per_epoch
        self.num_images = 0
        self._losses: list[Tensor] = []
        self._lr = 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the learning rate that the step will use."""
        del pl_module, batch, batch_idx
        self._lr = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Take the loss of a step, and write a row when one is due."""
        del batch_idx
        self._losses.append(outputs["loss"].detach())
        self.num_images += sum(len(images) for images, _ in batch)
        step = trainer.global_step
        if step > DENSE_STEPS and step % 10 and not trainer.should_stop:
            return
        loss = float(torch.stack(self._losses).mean())
        self._losses = []
        if not math.isfinite(loss):
            raise BadConfigError(
                f"`lr` must be small enough for the loss to stay a number, got {loss} at step "
                f"{step}; the weights saved before are kept. Try a tenth of the rate"
            )
        append_row(
            self.run.steps_csv,
            self._stamp(trainer, pl_module)
            | {"images": self.num_images, "loss": loss, "lr": self._lr},
        )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write a row of metrics."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        names = ("pixel_accuracy", "mean_accuracy", "mean_iu", "fw_iu")
        append_row(
            self.run.validation_csv,
            self._stamp(trainer, pl_module)
            | {"loss": values["val_loss"], **{name: values[name] for name in names}},
        )

    def _stamp(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, Any]:
        assert isinstance(module, Segmentation)
        step = trainer.global_step
        epoch = (step - 1) // self.steps_per_epoch
        return {"step": step, "epoch": epoch, "seconds": round(module.seconds(), 3)}

    def state_dict(self) -> dict[str, Any]:
        """Return the number of images seen."""
        return {"num_images": self.num_images}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.num_images = state_dict["num_images"]


class Best(pl.Callback):
    """Keep the weights of the validation with the largest mean IU.

    Its value is noted in the file itself, so a resumed run knows it.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.mean_iu = float(weights_notes(run.best).get("mean_iu", "-inf"))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the weights if they are better than all before."""
        assert isinstance(pl_module, Segmentation)
        mean_iu = float(trainer.callback_metrics["mean_iu"])
        if mean_iu > self.mean_iu:
            notes = {"step": str(trainer.global_step), "mean_iu": repr(mean_iu)}
            save_weights(self.run.best, pl_module.net, notes)
            self.mean_iu = mean_iu


class Ending(pl.Callback):
    """End the run after a step: when its time is over, or when asked to by Ctrl-C."""

    def __init__(self, *, validation_interval: int) -> None:
        self.asked = False
        self.validation_interval = validation_interval

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stop the trainer behind this step."""
        del outputs, batch, batch_idx
        assert isinstance(pl_module, Segmentation)
        if self.asked or pl_module.progress(trainer.global_step) >= 1:
            trainer.should_stop = True
        if self.asked and trainer.global_step % self.validation_interval:
            trainer.limit_val_batches = 0  # who presses Ctrl-C does not want to wait for one more

    @contextmanager
    def on_interrupt(self) -> Generator[None]:
        """Let the first Ctrl-C, or request to terminate, end the run behind its step.

        A second one has its usual effect. A batch system that terminates the process finds it ended
        by Lightning, and the run saved.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def ask(number: int, _frame: Any) -> None:
            self.asked = True
            signal.signal(number, usual[signal.Signals(number)])

        for number in usual:
            signal.signal(number, ask)
        try:
            yield
        finally:
            for number, handler in usual.items():
                signal.signal(number, handler)


class Checkpoint(pl.Callback):
    """Save everything that is needed to go on: now and then, and behind the last step.

    It must come behind `Ending`. It saves between steps alone, where order, optimiser and random
    numbers are all at the same point.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._last = time.monotonic()
        self._wait_s = SAVE_EVERY_S

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save if it is time to, or the end."""
        del outputs, batch, batch_idx
        due = time.monotonic() - self._last >= self._wait_s
        if due or trainer.should_stop:
            self.save(trainer, pl_module)

    def save(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Save checkpoint and weights."""
        assert isinstance(module, Segmentation)
        start = time.monotonic()
        with atomic(self.run.checkpoint) as temporary:
            trainer.save_checkpoint(temporary, weights_only=False)
        save_weights(self.run.last, module.net, {"step": str(trainer.global_step)})
        self._last = time.monotonic()
        self._wait_s = max(SAVE_EVERY_S, (self._last - start) / SAVE_SHARE)
