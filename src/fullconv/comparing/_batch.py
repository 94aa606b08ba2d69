"""Regimes are compared at one number of images per step."""

from __future__ import annotations

from fullconv.errors import BadConfigError
from fullconv.training import TrainConfig


def check_batch(config: TrainConfig) -> None:
    """Refuse settings that leave the number of images per step to each run.

    Raises:
        BadConfigError: If `batch` is auto.
    """
    if config.batch == "auto":
        raise BadConfigError(
            "`batch` must be a whole number to compare regimes, got 'auto', which may differ among "
            "them; `fullconv plan` says how many images fit"
        )
