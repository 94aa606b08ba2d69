"""Ways to make the map of a large image: whole, by windows, and as other tools do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import fullconv as fc

PEERS = ("windows", *(p for p in ("monai", "torchio", "tiler") if find_spec(p)))


def predictor(
    kind: str, net: nn.Module, classes: int, budget: int
) -> Callable[[Tensor], np.ndarray]:
    """Return what makes a map of an image `(channels, height, width)`, in numbers of `classes`."""
    if kind == "whole":
        last = torch.channels_last
        return lambda image: net(image[None].contiguous(memory_format=last))[0].numpy()
    if kind == "windows":
        return lambda image: fc.predict(net, image, budget).numpy()
    return {"monai": _monai, "torchio": _torchio, "tiler": partial(_tiler, classes=classes)}[kind](
        net
    )


def _monai(net: nn.Module) -> Callable[[Tensor], np.ndarray]:
    from monai.inferers import sliding_window_inference

    slide = partial(sliding_window_inference, roi_size=(256, 256), sw_batch_size=4, overlap=0.5)
    return lambda image: slide(image[None], predictor=net, mode="gaussian")[0].numpy()


def _torchio(net: nn.Module) -> Callable[[Tensor], np.ndarray]:
    import torchio

    def run(image: Tensor) -> np.ndarray:
        subject = torchio.Subject(image=torchio.ScalarImage(tensor=image[..., None]))
        sampler = torchio.GridSampler(subject, (256, 256, 1), (128, 128, 0))
        found = torchio.GridAggregator(sampler, overlap_mode="hann")
        for patch in torch.utils.data.DataLoader(sampler, batch_size=4):
            logits = net(patch["image"][torchio.DATA][..., 0])[..., None]
            found.add_batch(logits, patch[torchio.LOCATION])
        return found.get_output_tensor()[..., 0].numpy()

    return run


def _tiler(net: nn.Module, classes: int) -> Callable[[Tensor], np.ndarray]:
    from tiler import Merger, Tiler

    def run(image: Tensor) -> np.ndarray:
        kind: dict[str, Any] = {"channel_dimension": 0, "overlap": 128, "mode": "reflect"}
        tiles = Tiler(tuple(image.shape), (3, 256, 256), **kind)
        shape = (classes, *image.shape[1:])
        out = Tiler(shape, (classes, 256, 256), **kind)
        merger = Merger(out, window="overlap-tile")
        for number, tile in tiles(image.numpy(), batch_size=4):
            merger.add_batch(number, 4, net(torch.from_numpy(tile)).numpy())
        return merger.merge(unpad=True)

    return run
