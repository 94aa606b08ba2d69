"""The demo: from real digits to a network over whole images, in minutes, with nothing downloaded.

It goes the way of Long, Shelhamer and Darrell (2015): a classifier of patches first, then the same
weights over whole images, trained on with `fullconv.training.train` as any user's data would be.
"""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from lightning.pytorch import seed_everything
from rich.console import Console

from fullconv.demo._classifier import BATCH, Precision, patch_accuracy, train_classifier
from fullconv.demo._dataset import write_scenes
from fullconv.demo._originals import Split
from fullconv.demo._scenes import NUM_DIGITS, SIZE, Scene
from fullconv.images import open_dataset, survey
from fullconv.networks import Normalized
from fullconv.prediction import best_device
from fullconv.reporting import write_report
from fullconv.runs import Run, save_weights
from fullconv.training import TrainConfig, counting, recipe_for, train

NET = "fullconv.demo:digit_net"
MINUTES = 2.1  # of learning; composing, evaluation and report take about half a minute more
PATCH_SHARE = 0.4  # of that time
WHOLE_LR = 1e-3  # the weights are good already: a third of what the patches began with
PATCHES_JUDGED = 480
COUNTS: dict[Split, int] = {"train": 72, "val": 4, "test": 10}  # scenes


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """What the demo is made on.

    Attributes:
        counts: Number of scenes in each split.
        size: Side of the images, px.
        num_digits: Digits in each.
        width: Channels of the network.
    """

    counts: Mapping[Split, int] = field(default_factory=lambda: COUNTS)
    size: int = SIZE
    num_digits: int = NUM_DIGITS
    width: int = 32


def run_demo(
    out: Path,
    *,
    seed: int = 0,
    minutes: float = MINUTES,
    stage: Stage | None = None,
    console: Console | None = None,
) -> Run:
    """Make the demo's data, train on patches and then on whole images, evaluate, and report.

    Args:
        out: Folder of the run. The data go to ``OUT-data`` beside it, the classifier's weights to
            ``OUT-classifier.safetensors``. What an earlier demo left in these places is replaced.
        seed: Seed of scenes, weights and order.
        minutes: Time for learning, both stages together.
        stage: What the demo is made on; None for the usual.
        console: Where to show progress; None for the terminal.

    Returns:
        The run, with evaluation and report unless Ctrl-C ended its training.

    Raises:
        FullconvError: If scikit-learn is not installed, or something else lies at `out`.
    """
    stage = stage or Stage()
    console = console or Console(stderr=True)
    start = time.monotonic()
    config = TrainConfig(
        data=_beside(out, "-data"),
        out=out,
        net=NET,
        options={"width": stage.width},
        weights=_beside(out, "-classifier.safetensors"),
        minutes=minutes * (1 - PATCH_SHARE),
        lr=WHOLE_LR,
        seed=seed,
        precision=fastest_precision(),
        class_weights="none",
        augment=False,  # a digit in the mirror is none
        sampling="whole",  # patches came first
    )
    _make_way(out)
    scenes = _compose(out, stage, seed, console)
    console.print(f"composed {sum(map(len, scenes.values()))} images in {_since(start)}")
    _learn_from_patches(config, scenes, minutes * 60 * PATCH_SHARE, console)
    run = train(config, console=console)
    write_report(run)
    console.print(f"done in {_since(start)}")
    return run


def _compose(
    out: Path, stage: Stage, seed: int, console: Console
) -> dict[Split, tuple[Scene, ...]]:
    with counting(console, "composing") as progress:
        return write_scenes(
            _beside(out, "-data"),
            stage.counts,
            seed=seed,
            size=stage.size,
            num_digits=stage.num_digits,
            progress=progress,
        )


def _learn_from_patches(
    config: TrainConfig, scenes: Mapping[Split, tuple[Scene, ...]], seconds: float, console: Console
) -> None:
    """Train the network of `config` on patches, and write the weights that it is to start from."""
    assert config.weights
    seed_everything(config.seed, verbose=False)
    net = _network(config).to(best_device())
    with counting(console, "learning from patches") as progress:
        steps = train_classifier(
            net,
            scenes["train"],
            seconds=seconds,
            seed=config.seed,
            precision=config.precision,
            progress=progress,
        )
    accuracy = patch_accuracy(net, scenes["val"], count=PATCHES_JUDGED, seed=config.seed)
    console.print(
        f"learned from {steps * BATCH} patches: right about {accuracy:.0%} of those of held-out digits"
    )
    save_weights(config.weights, net, {"stage": "patch classifier", "steps": str(steps)})


def _network(config: TrainConfig) -> Normalized:
    """Return the network that training will build, with fresh weights."""
    net = recipe_for(config, survey(open_dataset(config.data))).build()
    assert isinstance(net, Normalized)
    return net


def fastest_precision() -> Precision:
    """Return ``bf16`` where the hardware multiplies matrices of it: twice as many updates fit."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "32"
    # Older releases of PyTorch cannot say what the processor has.
    known = getattr(torch.cpu, "get_capabilities", dict[str, bool])()
    return "bf16" if known.get("amx_bf16") else "32"


def _make_way(out: Path) -> None:
    """Remove an earlier demo at `out`; refuse to touch anything else, before any work is done."""
    if (out / "network.json").is_file() and Run(out).recipe().name == NET:
        shutil.rmtree(out)
    Run.create(out).path.rmdir()  # made again by the training


def _beside(out: Path, ending: str) -> Path:
    return out.with_name(out.name + ending)


def _since(start: float) -> str:
    return f"{time.monotonic() - start:.0f} s"
