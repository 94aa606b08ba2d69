"""Images of any size, from disk to disk: read, computed, reduced and written piece by piece.

Windows own whole chunks of the output, so no two of them write one chunk, and each is written once.
A network that can be run down an image is run down long windows, and each row of chunks is written
when it is complete. While one piece is computed, the next is read, and the last is written. Windows
that are done are kept if the process ends, however it does; the same ones go on, so that the result is
the same to the last bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fullconv.errors import BadDataError, BadOutputError, FullconvError
from fullconv.execution import (
    Behind,
    Down,
    ahead,
    evaluating,
    like_weights,
    parse_memory,
    read,
    return_freed_memory,
    run_window,
)
from fullconv.geometry import Box, Window
from fullconv.prediction._plan import APART, Plan, planned
from fullconv.prediction._products import (
    Kind,
    Progress,
    Wanted,
    file_kind,
)
from fullconv.prediction._strips import Made, Strips, in_chunks, read_box, without_data
from fullconv.regions import (
    LazyArray,
    Part,
    check_output,
    create,
    is_finished,
    open_array,
    part_of,
    signature,
    sliced,
    split_name,
    telling,
)
from fullconv.tracing import record

# Of what is free, or is left to a process, there may be so much less when the same call goes on.
MARGIN = 0.1


def predict_to_disk(
    net: nn.Module,
    image: LazyArray,
    wanted: Wanted,
    *,
    memory: int,
    key: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
    margin: float = 0,
) -> None:
    """Predict an image of any size, and write what is wanted of its map.

    Args:
        net: Takes `(batch, channels, *spatial)` and returns a map.
        image: `(channels, *spatial)`.
        wanted: What goes where; at least one thing.
        memory: Bytes that this may add to what the process holds.
        key: Says of what the outputs are made: with the same key, unfinished ones are gone on with,
            and finished ones are left as they are. Empty for none that can be repeated.
        overwrite: Whether other outputs of these names may be replaced.
        progress: Called with the units that are done, and all of them.
        margin: Share of `memory` to be left, where the next call may have a little less.

    Raises:
        BadOutputError: If an output is there already, or another process writes it, or it cannot be
            written.
        BadDataError: If the image cannot be read.
        NotLocalError: If a layer looks at the whole image.
        FullconvError: If `memory` is too little, or the network has other classes.
    """
    first = wanted.paths[0]
    key = key or uuid4().hex
    for path in wanted.paths:
        check_output(path)
        if file_kind(path) != "zarr" and image.ndim < 3:
            raise BadOutputError(f"`out` must end in .zarr for images of one axis, got {path.name}")
        _refuse_replacing(image, path)
    with part_of(first) as part:
        left = [path for path in wanted.paths if not is_finished(path, key)]
        if not left:
            part.clear()
            return
        for path in left:
            if path.exists() and not overwrite:
                raise BadOutputError(
                    f"`out` must not be there yet, got {path}; choose another name, or overwrite it"
                )
        with evaluating(net), torch.inference_mode():
            plan = planned(
                net, image, wanted, memory, key=key, part=part, overwrite=overwrite, margin=margin
            )
            with telling(first):
                _prepare(part, plan)
            _run(net, image, plan, part, progress)
        with telling(first):
            made = {p.target: p.finish(part.folder) for p in plan.outputs if p.target in left}
            part.finish(made, key)


def predict_to_file(
    net: nn.Module,
    given: Any,
    source: Any,
    memory: str | int | None,
    out: Path,
    *,
    kind: Kind,
    overwrite: bool,
    progress: Progress | None,
) -> LazyArray:
    """Return what `fullconv.predict` does with a path as `out`.

    Args:
        net: The network.
        given: The image as it was given: only a path can be told again.
        source: The image, `(channels, *spatial)`.
        memory: As it was given.
        out: The new file.
        kind: What it is to hold.
        overwrite: Whether one that is there may be replaced.
        progress: Called with units done and all units.
    """
    image = _lazy(source)
    labels = kind == "labels"
    wanted = Wanted(
        labels=out if labels else None,
        probabilities=None if labels else out,
        quantised=kind == "quantised",
    )
    told = isinstance(given, str | Path)
    key = key_of(identity(net, image.shape), given, wanted) if told else ""
    amount = "50%" if memory is None else memory
    predict_to_disk(
        net,
        image,
        wanted,
        memory=parse_memory(amount),
        key=key,
        overwrite=overwrite,
        progress=progress,
        margin=MARGIN if str(amount).strip().endswith("%") else 0,
    )
    return open_array(out)


def _lazy(source: Any) -> LazyArray:
    """Return an image as an array that is read box by box."""
    if isinstance(source, LazyArray):
        return source
    if isinstance(source, torch.Tensor):
        return sliced(source.detach().cpu().numpy(), "`image`")
    return sliced(source, str(_place_of(source) or "`image`"))


def _place_of(source: Any) -> Path | None:
    """Return the file or folder that an array lies in: a memory map, a Zarr or HDF5 array; None for others."""
    root = getattr(getattr(getattr(source, "store_path", None), "store", None), "root", None)
    if root is not None:
        return Path(root) / str(source.store_path.path)
    while isinstance(source, np.ndarray):  # a part of a memory map lies where the whole does
        if isinstance(source, np.memmap) and source.filename is not None:
            return Path(source.filename)
        source = source.base
    name = getattr(getattr(source, "file", None), "filename", None)
    return Path(name) if isinstance(name, str) else None


def _refuse_replacing(image: LazyArray, path: Path) -> None:
    """Raise if an output would take the place of the image, or of a folder that holds it."""
    file, place = split_name(image.name)[0].resolve(), path.resolve()
    if file.exists() and (place == file or place in file.parents):
        raise BadOutputError(
            f"`out` must be another file than the image, got {path}; choose another name"
        )


def _prepare(part: Part, plan: Plan) -> None:
    """Make the arrays that are written, unless some of their windows are done."""
    if part.plan == plan.values and (part.folder / "arrays").exists():
        return
    part.begin(plan.values)
    for output in plan.outputs:
        create(part.folder / f"{output.name}.zarr", output.kind)
    (part.folder / "arrays").touch()


def _run(
    net: nn.Module, image: LazyArray, plan: Plan, part: Part, progress: Progress | None
) -> None:
    """Run all windows that are not done."""
    done = part.done()
    todo = [pair for pair in enumerate(plan.cover) if pair[0] not in done]
    if not todo:
        return
    total = sum(window.units.size for window in plan.cover)
    count = total - sum(window.units.size for _, window in todo)
    first = plan.outputs[0].target
    arrays = {output.name: output.array(part.folder) for output in plan.outputs}

    def write(units: Box, made: Made, number: int | None) -> None:
        with telling(first):
            for name, values in made.items():
                arrays[name][(..., *units.slices)] = values
            if number is not None:
                part.note(number)

    if len(plan.cover) > 1 and not plan.way.rows:
        return_freed_memory()
    with Behind() as behind:
        for number, window, pieces in _pieces(net, image, plan, todo):
            for units, made in pieces:
                ended = units.stop == window.units.stop
                behind(write, units, made, number if ended else None)
                count += units.size
                if progress:
                    progress(count, total)


def _pieces(
    net: nn.Module, image: LazyArray, plan: Plan, todo: Sequence[tuple[int, Window]]
) -> Iterator[tuple[int, Window, Iterator[tuple[Box, Made]]]]:
    """Yield the windows, each with what is made of it in pieces of whole chunks, in order."""
    nodata = plan.outputs[0].facts.get("nodata")

    def made(logits: torch.Tensor, nothing: npt.NDArray[np.bool_] | None) -> Made:
        return {output.name: output.reduce(logits, nothing) for output in plan.outputs}

    if plan.way.rows:
        down = Down(net)
        for number, window in todo:
            strips = Strips(image, window.reads, plan.way.rows, nodata)
            found = down(strips, window, plan.geometry, plan.way.rows)
            pieces = ((units, made(part, strips.nothing(units))) for units, part in found)
            yield number, window, in_chunks(pieces, plan.way.chunks[0])
    else:
        for (number, window), pixels in ahead(todo, partial(_load, image)):
            logits = run_window(net, _input(pixels, net), window)
            nothing = None if nodata is None else _nothing(pixels, window, nodata)
            yield number, window, iter([(window.units, made(logits, nothing))])


def _load(image: LazyArray, pair: tuple[int, Window]) -> npt.NDArray[Any]:
    return read_box(image, pair[1].reads)


def _input(pixels: npt.NDArray[Any], net: nn.Module) -> torch.Tensor:
    return read(pixels, Box.whole(pixels.shape[1:]), like_weights(net))


def _nothing(pixels: npt.NDArray[Any], window: Window, nodata: float) -> npt.NDArray[np.bool_]:
    """Return which units of a window have no data."""
    place = window.units.shifted(tuple(-a for a in window.reads.start)).slices
    return without_data(pixels[(slice(None), *place)], nodata)


def identity(net: nn.Module, shape: tuple[int, ...]) -> str:
    """Return what stands for a network: its weights, and the operators that it runs in eval mode.

    Args:
        net: The network.
        shape: Of an image, `(channels, *spatial)`.
    """
    digest = blake2b(_operators(net, shape).encode(), digest_size=16)
    for name, tensor in net.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return digest.hexdigest()


def _operators(net: nn.Module, shape: tuple[int, ...]) -> str:
    """Return what a network runs on an image, with all numbers that are no weights."""
    try:
        with evaluating(net):
            program = record(net, shape[0], shape[1:])
    except (FullconvError, RuntimeError, ValueError):  # it will be refused, with a reason
        return repr(net)
    calls = [(str(call.op), call.args, call.outputs) for call in program.calls]
    return repr((calls, program.weights, program.casts))


def key_of(network: str, image: Path | str, wanted: Wanted) -> str:
    """Return what stands for a network, an image, and what is made of both; and for the image's state.

    The two are apart, so that `same_but_the_state` can tell that a file was changed or restored.

    Raises:
        BadDataError: If the image is not there.
        BadOutputError: If something is to be made inside of it, which would be another image then.
    """
    file, name = split_name(image)
    for path in wanted.paths:
        if file.resolve() in path.resolve().parents:
            raise BadOutputError(
                f"`out` must lie outside of the image, which it would change, got {path} in {file}; "
                f"call it {file.with_name(path.name)}"
            )
    try:
        state = signature(file)
    except OSError as error:
        raise BadDataError(f"{file}: cannot be opened ({error.strerror})") from error
    classes = None if wanted.classes is None else wanted.classes.to_dict()
    parts = (network, str(file.resolve()), name, wanted.quantised, classes)
    kinds = [path and path.name for path in (wanted.labels, wanted.probabilities)]
    return APART.join(map(_digest, ([*parts, kinds], state)))


def _digest(values: Any) -> str:
    return blake2b(json.dumps(values).encode(), digest_size=16).hexdigest()
