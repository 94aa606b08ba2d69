"""The first stage: a patch classifier, trained before the network sees any whole image.

Each patch is answered by the one unit in the middle of the coarse map: which digit stands here, or
none? That is a classifier in the ordinary sense. Beside it, the fine map learns the patch's mask.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import AdamW

from fullconv.demo._network import DigitNet
from fullconv.demo._patches import SIDE, Patches, PatchSource
from fullconv.demo._scenes import Scene
from fullconv.networks import Normalized

Precision = Literal["32", "bf16"]

BATCH = 48
LR = 3e-3
WARM_UP = 0.05  # share of the time over which the learning rate rises
WEIGHT_DECAY = 1e-2
FINE = 4  # px between units of the fine map
COARSE = 16


def train_classifier(
    net: Normalized,
    scenes: Sequence[Scene],
    *,
    seconds: float,
    seed: int,
    precision: Precision = "32",
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Train a network on patches cut from scenes, for a time, and return the number of steps.

    Args:
        net: A `DigitNet` behind its normalisation; it is trained in place.
        scenes: Where patches are cut from.
        seconds: Time to take; the learning rate follows the clock, and ends at 0.
        seed: Seed of the patches.
        precision: As for training.
        progress: Called after each update with the whole seconds gone and those to take.
    """
    source = PatchSource(scenes, np.random.default_rng(seed))
    optimizer = AdamW(net.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    start, gone, steps = time.monotonic(), 0.0, 0
    net.train()
    while gone < seconds or not steps:
        for group in optimizer.param_groups:
            group["lr"] = LR * _rate(gone / seconds)
        loss = _loss(net, source.draw(BATCH), precision)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps, gone = steps + 1, time.monotonic() - start
        if progress:
            progress(round(min(gone, seconds)), round(seconds))
    return steps


def patch_accuracy(net: Normalized, scenes: Sequence[Scene], *, count: int, seed: int) -> float:
    """Return the share of random patches whose middle the classifier names rightly."""
    source = PatchSource(scenes, np.random.default_rng(seed))
    right = 0
    net.eval()
    with torch.inference_mode():
        for start in range(0, count, BATCH):
            patches = source.draw(min(BATCH, count - start))
            _, coarse = _scores(net, patches.images, "32")
            answers = _middle(coarse).argmax(1).cpu().numpy()
            right += int(np.count_nonzero(answers == patches.labels))
    return right / count


def _loss(net: Normalized, patches: Patches, precision: Precision) -> Tensor:
    fine, coarse = _scores(net, patches.images, precision)
    labels = torch.from_numpy(patches.labels).to(fine.device)
    at_units = patches.masks[:, FINE // 2 :: FINE, FINE // 2 :: FINE].astype(np.int64)
    masks = torch.from_numpy(at_units).to(fine.device)
    return F.cross_entropy(_middle(coarse), labels) + F.cross_entropy(fine, masks)


def _scores(
    net: Normalized, images: npt.NDArray[np.uint8], precision: Precision
) -> tuple[Tensor, Tensor]:
    assert isinstance(net.net, DigitNet)
    device = net.mean.device
    x_NHWC = torch.from_numpy(images).to(device).float()
    # A view of (N, H, W, C) arrays is channels_last already.
    x_NCHW = (x_NHWC.permute(0, 3, 1, 2) - net.mean) / net.std
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        fine, coarse = net.net.scores(x_NCHW)
    return fine.float(), coarse.float()


def _middle(coarse: Tensor) -> Tensor:
    """Return the logits ``(N, classes)`` of the unit over the patch's middle."""
    unit = SIDE // 2 // COARSE
    return coarse[:, :, unit, unit]


def _rate(progress: float) -> float:
    """Return the share of the learning rate: up in a line, then down as a cosine."""
    rise = min(1.0, (progress + 1e-3) / WARM_UP)
    return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
