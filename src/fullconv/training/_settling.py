"""Running statistics of BatchNorm that are right from the first steps on.

PyTorch starts them at mean 0 and variance 1 and moves them by a tenth towards those of each batch:
after 10 steps a third of what evaluation uses is still the start, after 30 a twenty-fifth. So that
early validations and short runs are judged by what they learnt, the first batches are averaged with
equal weights instead, until a tenth is the larger share. What is learnt does not change.
"""

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle


class Settling(pl.Callback):
    """Average the statistics of the first batches with equal weights."""

    def __init__(self) -> None:
        self._hooks: list[tuple[_BatchNorm, float, RemovableHandle]] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Watch every norm that keeps statistics; a resumed one goes on where it was."""
        del trainer
        for norm in pl_module.modules():
            if (
                isinstance(norm, _BatchNorm)
                and norm.momentum
                and norm.num_batches_tracked is not None
            ):
                hook = norm.register_forward_pre_hook(_shares(norm))
                self._hooks.append((norm, norm.momentum, hook))

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the norms as they were."""
        del trainer, pl_module
        for norm, usual, hook in self._hooks:
            hook.remove()
            norm.momentum = usual
        self._hooks = []


def _shares(watched: _BatchNorm) -> Callable[[_BatchNorm, Any], None]:
    """Return what gives the next batch its share: 1 / n of the n-th, or the usual if that is more."""
    usual, seen = watched.momentum or 0.0, int(watched.num_batches_tracked or 0)

    def share(norm: _BatchNorm, given: tuple[Tensor, ...]) -> None:
        nonlocal seen
        # Copies have the same hook, and steps are planned on them, and on tensors without numbers.
        if norm is watched and norm.training and not _hollow(given[0]):
            seen += 1
            norm.momentum = max(usual, 1 / seen)

    return share


def _hollow(batch: Tensor) -> bool:
    """Return whether a batch has no numbers."""
    return batch.is_meta or isinstance(batch, FakeTensor)
