"""What a run is told before its first step: weights that it starts from, images that it should not see."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from torch import nn

from fullconv.errors import BadConfigError, BadDataError
from fullconv.images import Dataset, repeated
from fullconv.networks import Normalized, lite0_weights, lite1_weights, lite2_weights, start_from
from fullconv.runs import Recipe, Run

# What `weights` says for those that a package carries, and the networks that there are packages for.
PRETRAINED = Path("pretrained")
CARRIED = {
    "unet:efficientnet-lite0": lite0_weights,
    "unet:efficientnet-lite1": lite1_weights,
    "unet:efficientnet-lite2": lite2_weights,
}


def warn_of_repeats(dataset: Dataset, console: Console) -> None:
    """Say which held-out images are training images too."""
    if pairs := repeated(dataset):
        shown = ", ".join(f"{held.name} (as {seen.name})" for held, seen in pairs[:5])
        more = f" and {len(pairs) - 5} more" if len(pairs) > 5 else ""
        console.print(
            f"warning: held-out images that are training images too ({len(pairs)}): {shown}{more}; the "
            "scores will flatter. Take them out of one split"
        )


def check_same_kind(run: Run, recipe: Recipe) -> None:
    """Refuse to go on with a run on images with other channels, or masks with other classes.

    Raises:
        BadDataError: What is other.
    """
    earlier = run.recipe()
    if recipe.channels != earlier.channels:
        raise BadDataError(
            f"the images must have {earlier.channels} channels, as those that the run {run.path} began "
            f"with, got {recipe.channels}; begin a new run for other images"
        )
    if recipe.table.names != earlier.table.names:
        raise BadDataError(
            f"the masks must have the classes of the run {run.path} ({_listed(earlier.table.names)}), "
            f"got {_listed(recipe.table.names)}; begin a new run for other classes"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def start(weights: Path, name: str, net: nn.Module, console: Console) -> None:
    """Give the network the weights of a file, of a run, or of a package, and say what became of them."""
    path = weights
    if weights == PRETRAINED:
        if name not in CARRIED:
            raise BadConfigError(
                f"`weights` = pretrained must go with one of {', '.join(CARRIED)}, got {name}; give a file"
            )
        path = CARRIED[name]()
    elif (weights / "network.json").is_file():
        run = Run.open(weights)
        path = run.best if run.best.exists() else run.last
    assert isinstance(net, Normalized)
    found = start_from(net, path)
    fresh = (
        f"; fresh: {', '.join(found.fresh)}" if found.source != "classifier" and found.fresh else ""
    )
    unused = f"; not used: {', '.join(found.unused)}" if found.unused else ""
    console.print(
        f"weights of {len(found.taken)} tensors from {path} ({found.source}){fresh}{unused}"
    )
