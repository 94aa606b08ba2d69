"""A network with its loss, optimiser and metrics, for any Lightning `Trainer`."""

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import SumMetric

from fullconv.errors import FullconvError
from fullconv.execution import in_words
from fullconv.sampling import Sampler
from fullconv.scoring import Confusion, score
from fullconv.training._config import OptimizerName, default_lr
from fullconv.training._losses import Criterion, CrossEntropy
from fullconv.training._schedule import SCHEDULES, optimizer
from fullconv.training._shortage import patiently
from fullconv.training._step import Group, Step


class Segmentation(pl.LightningModule):
    """A network that learns to label whole images.

    Batches are lists of groups, as `ImageData` gives them. Logs ``loss`` in training, and
    ``val_loss``, ``pixel_accuracy``, ``mean_accuracy``, ``mean_iu`` and ``fw_iu`` in validation,
    from one confusion matrix.

    Args:
        net: Raw pixels ``(N, C, H, W)`` in, logits ``(N, classes, H, W)`` out.
        classes: Number of classes.
        criterion: The loss; None for the mean cross entropy over the step's valid units.
        ignore: Label of the units that do not count.
        optimizer: ``adamw`` with warm-up and cosine, or the paper's ``sgd`` at a fixed rate.
        momentum: Of ``sgd``.
        lr: Largest learning rate; None for the one that goes with the optimiser.
        budget_s: Seconds that training may take; the learning rate then follows the clock. None to
            follow the trainer's steps.
        sampler: Which units of a step's images count; None for all.
        seed: Seed of the sampler.
        memory: Bytes that a step may add: it is cut into windows where it must be. None for no limit.
    """

    def __init__(
        self,
        net: nn.Module,
        classes: int,
        criterion: Criterion | None = None,
        *,
        ignore: int = 255,
        optimizer: OptimizerName = "adamw",
        momentum: float = 0.99,
        lr: float | None = None,
        budget_s: float | None = None,
        sampler: Sampler | None = None,
        seed: int = 0,
        memory: int | None = None,
    ) -> None:
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (missing overload)
        self.criterion = criterion or CrossEntropy(ignore=ignore)
        self.optimizer_name: OptimizerName = optimizer
        self.momentum = momentum
        summed = isinstance(self.criterion, CrossEntropy) and not self.criterion.mean
        self.lr = lr or default_lr(optimizer, summed=summed)
        self.budget_s = budget_s
        self._step = Step(self.net, self.criterion, sampler=sampler, seed=seed, memory=memory)
        self.confusion = Confusion(classes, ignore=ignore)
        self.val_total = SumMetric()
        self.val_weight = SumMetric()
        self.say: Callable[[str], Any] = logging.getLogger(__name__).warning
        self.shortages: list[dict[str, int]] = []
        self._batch: Sequence[Group] = ()
        self._earlier_s = 0.0
        self._random: dict[str, Any] | None = None
        self._start = time.monotonic()

    @property
    def memory(self) -> int | None:
        """Bytes that a step may add; None for no limit."""
        return self._step.memory

    def keep_within(self, memory: int | None) -> None:
        """Let steps add that many bytes from now on; None for no limit."""
        self._step.keep_within(memory)

    def follow(self, sampler: Sampler | None) -> None:
        """Let these units of a step's images count from now on; None for all."""
        self._step.sampler = sampler

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of a stack of images."""
        return self.net(images)

    def training_step(self, batch: Sequence[Group], batch_idx: int) -> Tensor:
        """Return the loss over the step's valid units."""
        del batch_idx
        self._batch = batch
        trainer = self.trainer
        place = trainer.current_epoch, trainer.global_step, trainer.global_rank
        loss = self._step(batch, place)
        self.log("loss", loss, batch_size=1)
        return loss

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None
    ) -> None:
        """Make a step; one that runs out of memory is made again, in smaller windows."""
        super().optimizer_step(
            epoch, batch_idx, optimizer, lambda: patiently(optimizer_closure, self._make_room)
        )

    def _make_room(self, said: str) -> None:
        """Let this step and all later ones take half the memory, and say so.

        Raises:
            FullconvError: If it cannot be cut further.
        """
        self.zero_grad()
        step = self.trainer.global_step + 1
        try:
            memory = self._step.halve(self._batch)
        except FullconvError as error:
            raise FullconvError(
                f"step {step} ran out of memory, and cannot be cut into smaller windows: {error}. "
                f"Fewer images in a step (`--batch`), a smaller network or bf16 take less ({said})"
            ) from error
        self.shortages.append({"step": step, "memory_bytes": memory})
        self.say(
            f"step {step} ran out of memory: it goes on in windows that take {in_words(memory)}, with "
            "the same result"
        )

    def validation_step(self, batch: Sequence[Group], batch_idx: int) -> None:
        """Count the units of a group of images; what runs out of memory is run in smaller windows."""
        del batch_idx
        for images, targets in batch:
            logits = patiently(
                partial(self._step.logits, images, targets),
                partial(self._make_room_to_see, (images, targets)),
            )
            self.confusion.update(logits.argmax(1), targets)
            self.val_total.update(self.criterion.total(logits, targets.long()))
            self.val_weight.update(self.criterion.weight(targets))

    def _make_room_to_see(self, group: Group, said: str) -> None:
        """Let this validation and all later ones take half the memory, and say so.

        Raises:
            FullconvError: If it cannot be cut further.
        """
        behind = f"the validation behind step {self.trainer.global_step} ran out of memory"
        try:
            memory = self._step.halve_logits([group])
        except FullconvError as error:
            raise FullconvError(
                f"{behind}, and cannot be cut into smaller windows: {error} ({said})"
            ) from error
        self.say(f"{behind}: it goes on in windows that take {in_words(memory)}")

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of all validation images, and start afresh."""
        scores = score(self.confusion.matrix())
        weight = self.val_weight.compute()
        loss = self.val_total.compute() / torch.where(weight > 0, weight, 1)
        self.log("val_loss", loss)
        for name in ("pixel_accuracy", "mean_accuracy", "mean_iu", "fw_iu"):
            self.log(name, getattr(scores, name), prog_bar=name == "mean_iu")
        for metric in (self.confusion, self.val_total, self.val_weight):
            metric.reset()

    def configure_optimizers(self) -> Any:
        """Return the optimiser, and a schedule that follows `progress`."""
        chosen = optimizer(self.optimizer_name, self.net, self.lr, self.momentum)
        shape = SCHEDULES[self.optimizer_name]
        schedule = LambdaLR(chosen, lambda step: shape(self.progress(step)))
        return {"optimizer": chosen, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def progress(self, step: int) -> float:
        """Return how much of the training is done after `step` steps, from 0 to 1."""
        if self.budget_s is not None:
            return min(1.0, self.seconds() / self.budget_s)
        return min(1.0, step / self.trainer.estimated_stepping_batches)

    def seconds(self) -> float:
        """Return the seconds spent in training so far, earlier sessions of the run included."""
        return self._earlier_s + time.monotonic() - self._start

    def on_train_start(self) -> None:
        """Start the clock, and go on with the random numbers of a resumed run."""
        self._start = time.monotonic()
        if self._random is not None:
            torch.set_rng_state(self._random["cpu"])
            if self.device.type == "cuda":
                torch.cuda.set_rng_state_all(self._random["cuda"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note the time spent, and the state of the random numbers (dropout draws from them)."""
        cuda = torch.cuda.get_rng_state_all() if self.device.type == "cuda" else []
        checkpoint["random"] = {"cpu": torch.get_rng_state(), "cuda": cuda}
        checkpoint["seconds"] = self.seconds()
        checkpoint["epochs"] = self.trainer.global_step / self.trainer.num_training_batches

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember both until training starts."""
        self._earlier_s = float(checkpoint["seconds"])
        self._random = checkpoint["random"]
