"""The progress of a run in the terminal."""

import time
from typing import Any

import lightning.pytorch as pl
import psutil
import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fullconv.training._module import Segmentation

REFRESH_S = 0.5


class Bar(pl.Callback):
    """A bar with loss, mean IU, images/s and memory; a line per validation where it is no terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task("training", total=1.0, text="")
        self._mean_iu = "-"
        self._images = 0
        self._shown = self._since = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        del trainer, pl_module
        self._since = time.monotonic()
        self._progress.start()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Bring the bar up to date, at most twice a second, and behind the last step."""
        del batch_idx
        self._images += sum(len(images) for images, _ in batch)
        now = time.monotonic()
        if now - self._shown < REFRESH_S and not trainer.should_stop:
            return
        assert isinstance(pl_module, Segmentation)
        self._shown = now
        text = (
            f"loss {float(outputs['loss']):.4f}  mean IU {self._mean_iu}  "
            f"{self._images / (now - self._since):.2f} images/s  {_memory()}"
        )
        done = pl_module.progress(trainer.global_step)
        self._progress.update(self._task, completed=done, text=text)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the mean IU."""
        assert isinstance(pl_module, Segmentation)
        self._mean_iu = f"{float(trainer.callback_metrics['mean_iu']):.3f}"
        if not self.console.is_terminal:
            self.console.print(
                f"step {trainer.global_step}  {pl_module.seconds():.0f} s  mean IU {self._mean_iu}"
            )

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Put the bar away, so that the error has the terminal to itself."""
        del trainer, pl_module, exception
        self._progress.stop()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Put the bar away."""
        del trainer, pl_module, stage
        self._progress.stop()


def _memory() -> str:
    used = psutil.Process().memory_info().rss
    if torch.cuda.is_available():
        used = torch.cuda.max_memory_allocated()
    return f"{used / 2**30:.1f} GiB"
