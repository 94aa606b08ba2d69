"""The authors' ways to train their networks, as settings: flags and files outdo them.

Sources: Long, Shelhamer & Darrell (CVPR 2015), section 4.3; the authors' repository
shelhamer/fcn.berkeleyvision.org, commit 1305c73, ``*/solver.prototxt`` and ``voc_layers.py``.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from fullconv.errors import BadConfigError

RecipeName = Literal["fcn-heavy", "fcn-cvpr"]

# What both have in common: rate fixed, biases at twice the rate without decay, no augmentation.
_PLAIN = {
    "optimizer": "sgd",
    "class_weights": "none",
    "augment": False,
    "sampling": "whole",
}
# One image per step, drawn with replacement; the loss summed over its units.
_HEAVY = {"batch": 1, "momentum": 0.99, "loss": "cross-entropy-sum", "replacement": True}
# 20 images per step; the loss normalised.
_CVPR = {"batch": 20, "momentum": 0.9, "loss": "cross-entropy"}

FROM_SCRATCH = "without a recipe (AdamW, the mean loss, images augmented), or `--net fcn8s`"


def recipe_settings(name: str, net: str) -> dict[str, Any]:
    """Return the settings of a recipe for a network.

    Args:
        name: ``fcn-heavy`` or ``fcn-cvpr``.
        net: Name of the network: the rate goes with its trunk and its skips.

    Raises:
        BadConfigError: If there is no such recipe.
    """
    if name not in get_args(RecipeName):
        known = ", ".join(get_args(RecipeName))
        raise BadConfigError(f"`recipe` must be one of {known}, got {name!r}")
    own, lr = (_HEAVY, _heavy_lr(net)) if name == "fcn-heavy" else (_CVPR, _cvpr_lr(net))
    return {**_PLAIN, **own, "lr": lr}


def needs_weights(name: str) -> str:
    """Return why a recipe makes sense from pretrained weights alone, and what does without."""
    return (
        f"recipe {name} is made for pretrained weights and its rate hardly moves fresh ones: give "
        f"`--weights`, or train from scratch {FROM_SCRATCH}"
    )


def _heavy_lr(net: str) -> float:
    """Return the rate of the summed loss; each stage goes on from the one before."""
    if net.startswith("fcn16s"):
        return 1e-12
    return 1e-14 if net.startswith("fcn8s") and "atonce" not in net else 1e-10


def _cvpr_lr(net: str) -> float:
    """Return the rate of the mean loss; a hundredth of it where skips are added to what was learned."""
    trunk = next(
        (lr for key, lr in {"alexnet": 1e-3, "googlenet": 5e-5}.items() if key in net), 1e-4
    )
    staged = net.startswith(("fcn16s", "fcn8s")) and "atonce" not in net
    return trunk / 100 if staged else trunk
