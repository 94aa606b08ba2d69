"""What `fullconv.plan` is to be asked about the steps that a run would make."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

from torch import nn

from fullconv.images import Dataset, Survey
from fullconv.sampling import Sampler
from fullconv.training._auto import alternatives
from fullconv.training._config import TrainConfig
from fullconv.training._job import data_for, recipe_for, regime_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The steps of a run, as `fullconv.plan` takes them.

    Attributes:
        shape: Of the largest training image, `(channels, *spatial)`; or of the sub-images that are cut out.
        batch: Images of a step over whole ones; or sub-images.
        images: Of an epoch; or sub-images.
        sampler: Which units of them count; None for all.
        words: What there is to say besides, in one line; empty if nothing.
    """

    shape: tuple[int, ...]
    batch: int
    images: int
    sampler: Sampler | None = None
    words: str = ""


def asked(config: TrainConfig, dataset: Dataset, facts: Survey, net: nn.Module) -> Asked:
    """Return what to ask about the steps of a run; with `auto`, about whole images.

    Large images are never trained on whole with `auto`; then it is the sub-images.

    Args:
        config: Settings of the run.
        dataset: The images.
        facts: What is in them.
        net: The network, in the mode that it is trained in.

    Raises:
        BadConfigError: If a number of the sampling is out of range.
        FullconvError: If the images cannot be drawn so.
    """
    data = data_for(config, dataset, facts, None)
    words = ""
    if config.sampling == "auto":
        found = alternatives(net, data, config.images, cut=False)
        chosen = next((one for one in found if one.name == "whole"), found[0])
        if len(found) > 1:
            words = (
                f"this is the plan of --sampling {chosen.name}; auto measures which of "
                f"{', '.join(one.name for one in found)} buys most gradient per second, and begins with "
                "that: name another one for its own plan"
            )
    else:
        chosen = regime_of(config, recipe_for(config, facts), net)
        data.follow(chosen)
    shapes = [facts.shapes[sample.name] for sample in dataset.splits["train"]]
    largest = max(shapes, key=prod)
    if chosen.cut is None:
        return Asked(
            shape=(facts.channels, *largest),
            batch=config.images,
            images=len(shapes),
            sampler=chosen.sampler,
            words=words,
        )
    return Asked(
        shape=(facts.channels, *(chosen.cut for _ in largest)),
        batch=chosen.images,
        images=ceil(sum(map(prod, shapes)) / chosen.cut ** len(largest)),
        words=words,
    )
