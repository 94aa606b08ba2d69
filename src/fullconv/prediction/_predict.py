"""The map of an image of any size: whole, or through exact windows under a memory budget."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from fullconv.errors import BadConfigError, FullconvError
from fullconv.execution import Passes, evaluating, like_weights, parse_memory, read
from fullconv.geometry import Box
from fullconv.images import open_image
from fullconv.prediction._disk import predict_to_file
from fullconv.prediction._products import Kind, Progress
from fullconv.tracing import the_map, trace


class Predictor:
    """Predicts maps with one network; windows are planned once per image size modulo the period.

    Args:
        net: Takes `(batch, channels, *spatial)` and returns a map `(batch, classes, *map)`.
        memory: What a prediction may add to what the caller holds: "2 GiB", "500MB", "80%" or
            bytes. None runs the network once over the whole image.
    """

    def __init__(self, net: nn.Module, memory: str | int | None = None) -> None:
        self._net = net
        self._passes = None if memory is None else Passes(net, parse_memory(memory))

    def __call__(self, image: Any, out: Any = None, progress: Progress | None = None) -> Any:
        """Return the map of an image.

        Args:
            image: `(channels, *spatial)`: a NumPy array, a tensor, or anything with `shape` that
                gives an array when it is sliced (Zarr, a memory map). It is read window by window.
            out: An array-like `(classes, *map)` to be written window by window; None makes one.
            progress: Called with the units done and all units.

        Returns:
            The map, `(classes, *map)`: `out`, or a tensor if the image is one, or a NumPy array.
        """
        shape = _spatial_shape(image)
        with evaluating(self._net), torch.inference_mode():
            if self._passes is None:
                return self._whole(image, out)
            map_shape = self._passes.geometry(image.shape[0], shape).map_shape(shape)
            done = 0
            for units, part in self._passes(image):
                if out is None:
                    out = _empty(image, part, map_shape)
                _write(out, units, part, map_shape)
                done += units.size
                if progress:
                    progress(done, prod(map_shape))
        return out

    def _whole(self, image: Any, out: Any) -> Any:
        pixels = read(image, Box.whole(_spatial_shape(image)), like_weights(self._net))
        try:
            found = the_map(self._net(pixels[None]))
        except RuntimeError:
            _check_taken(self._net, image)
            raise
        if out is not None:
            _check_out(out, tuple(found.shape[1:]))
            _assign(out, (...,), found[0])
            return out
        return found[0].to(image.device) if isinstance(image, Tensor) else found[0].cpu().numpy()


def predict(
    net: nn.Module,
    image: Any,
    memory: str | int | None = None,
    out: Any = None,
    *,
    kind: Kind | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Any:
    """Return the map of an image of any size, equal to ``net(image[None])[0]`` with `net` in eval mode.

    With a path as `out` the map is reduced and written window by window, and neither image nor map
    need fit into memory. If the process ends before it is done, the same call goes on where it was, and
    one that was done does nothing twice: for images given as a path, since of others nothing tells
    whether they are the same.

    Args:
        net: Takes `(batch, channels, *spatial)` and returns a map `(batch, classes, *map)`.
        image: `(channels, *spatial)`: NumPy, torch, anything sliced into arrays (Zarr …), or a path
            as `fullconv.images.open_image` takes it.
        memory: What the call may add, the returned map apart: "2 GiB", "500MB", "80%" or bytes.
            None runs the network once over the whole image; otherwise exact windows are used. With
            a path as `out`, None is half of what is free.
        out: An array-like `(classes, *map)` to be written instead of a new array; or the path of a
            new file that ends in ``.zarr`` (OME-Zarr with a pyramid), ``.tif`` or ``.ome.tif``.
        kind: What a file is to hold: ``labels``, the position of the largest logit; ``probabilities``
            as float16 (float32 in OME-TIFF), or ``quantised``, ``round(255 p)``. None is labels.
        overwrite: Whether a file that is there already may be replaced.
        progress: Called with windows done and all windows; with a path as `out`, with units.

    Returns:
        The map `(classes, *map)`: `out`, or a tensor if the image is one, or a NumPy array. With a path
        as `out`, the array in that file, `(channels, *map)`, to be read box by box.

    Raises:
        NotLocalError: If `memory` is given and a layer looks at the whole image.
        FullconvError: If the network does not take the image's shape or returns something else than one
            tensor, or `memory` is too little.
        BadConfigError: If there is no such `kind`, or no path as `out` that it, or `overwrite`, is for.
        BadDataError: If a file cannot be read.
        BadOutputError: If a file is there already, or cannot be written.

    Examples:
        >>> import numpy as np, torch, fullconv as fc
        >>> net = torch.nn.Conv2d(3, 2, 3, padding=1)
        >>> image = np.zeros((3, 500, 333), np.float32)
        >>> fc.predict(net, image, memory="8 MiB").shape
        (2, 500, 333)
    """
    to_file = isinstance(out, str | Path)
    _check_options(kind, overwrite=overwrite, to_file=to_file)
    if isinstance(image, str | Path):
        source: Any = open_image(image)
    else:
        source = image
    if not to_file:
        return Predictor(net, memory)(source, out, progress)
    _spatial_shape(source)
    return predict_to_file(
        net,
        image,
        source,
        memory,
        Path(out),
        kind=kind or "labels",
        overwrite=overwrite,
        progress=progress,
    )


def _check_options(kind: str | None, *, overwrite: bool, to_file: bool) -> None:
    """Refuse what no file can hold, and what is for files only where there is none."""
    if kind is not None and kind not in get_args(Kind):
        raise BadConfigError(f"`kind` must be one of {', '.join(get_args(Kind))}, got {kind!r}")
    if not to_file and (kind is not None or overwrite):
        given = "`overwrite`" if kind is None else "`kind`"
        raise BadConfigError(
            f"{given} must come with a path as `out`, got none: without one, the map itself is returned; "
            'name a new file, such as out="labels.zarr", or leave it out'
        )


def _check_taken(net: nn.Module, image: Any) -> None:
    """Raise if a network that has failed on an image takes no image of that shape, with the nearest."""
    shape = _spatial_shape(image)
    try:
        geometry = trace(net, image.shape[0], len(shape))
    except FullconvError:
        return  # nothing is known of the shapes that it takes
    geometry.map_shape(shape)


def _spatial_shape(image: Any) -> tuple[int, ...]:
    shape = tuple(int(size) for size in getattr(image, "shape", ()))
    if not 2 <= len(shape) <= 4:
        raise FullconvError(
            f"`image` must be an array (channels, *spatial) with 1 to 3 spatial axes, got shape {shape}"
        )
    return shape[1:]


def _empty(image: Any, part: Tensor, map_shape: tuple[int, ...]) -> Any:
    """Return a new map of the image's kind."""
    shape = (part.shape[0], *map_shape)
    if isinstance(image, Tensor):
        return torch.empty(shape, dtype=part.dtype, device=image.device)
    return np.empty(shape, dtype=part[:, :0].cpu().numpy().dtype)


def _write(out: Any, units: Box, part: Tensor, map_shape: tuple[int, ...]) -> None:
    _check_out(out, (part.shape[0], *map_shape))
    _assign(out, (slice(None), *units.slices), part)


def _assign(out: Any, place: Any, part: Tensor) -> None:
    if isinstance(out, Tensor):
        out[place] = part.to(out.device)
    else:
        out[place] = part.cpu().numpy()


def _check_out(out: Any, shape: tuple[int, ...]) -> None:
    if tuple(out.shape) != shape:
        raise FullconvError(
            f"`out` must have the shape of the map, {shape}, got {tuple(out.shape)}"
        )
