"""Files with weights → tensors by name. Nothing in them is executed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from fullconv.errors import BadConfigError

KINDS = ".safetensors, .npz, .pth, .pt or a folder of .npy"
# Under what training scripts save the state of a network, beside that of an optimizer and the like.
WRAPPINGS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights")
SHOWN = 8


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by their names in it.

    A state dict may lie in a dict of a training script, as ``{"model": ..., "epoch": 3}``, and its names
    may all begin with ``module.``, as those of networks that were trained on several devices.

    Args:
        path: A ``.safetensors``, ``.npz``, ``.pth`` or ``.pt`` file, or a folder of ``NAME.npy``.

    Raises:
        BadConfigError: If it cannot be read, would have to be executed, or holds something else.
    """
    readers: Mapping[str, Callable[[Path], Any]] = {
        ".safetensors": load_file,
        ".npz": _npz,
        ".pth": _load,
        ".pt": _load,
        "": _folder,
    }
    read = _folder if path.is_dir() else readers.get(path.suffix.lower())
    if read is None:
        raise BadConfigError(f"`weights` must be a {KINDS} files, got {path}")
    try:
        found = read(path)
    except Exception as error:  # readers of damaged files raise nearly anything
        raise BadConfigError(
            f"`weights` must be a whole file that holds numbers alone, got {path}, which cannot be "
            f"read ({_in_short(error)}); get it again, or export its arrays by name with numpy.savez"
        ) from error
    return _without_prefix(_tensors(found, path))


def _in_short(error: Exception) -> str:
    """Return an error's kind and first sentence; some say nothing, or only a number."""
    said = re.split(r"\.\s|\n", str(error))[0]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _npz(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def _folder(path: Path) -> dict[str, Tensor]:
    arrays = {file.stem: np.load(file, allow_pickle=False) for file in sorted(path.glob("*.npy"))}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _load(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _tensors(found: Any, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a state dict, or of the one that a training script wrapped.

    Raises:
        BadConfigError: If there are none, or something else is among them.
    """
    while isinstance(found, dict) and (wraps := [n for n in WRAPPINGS if _is_named(found.get(n))]):
        found = found[wraps[0]]
    if not _is_named(found) or not any(isinstance(v, Tensor) for v in found.values()):
        raise BadConfigError(
            f"`weights` must hold tensors by name, got none in {path}, which holds {_in_words(found)}; "
            "save `net.state_dict()`"
        )
    for name, value in found.items():
        if not isinstance(value, Tensor):
            raise BadConfigError(
                f"`weights` = {path} must hold tensors alone, got {type(value).__name__} in {name}; "
                "save `net.state_dict()`"
            )
    return dict(found)


def _is_named(found: Any) -> bool:
    return isinstance(found, dict) and all(isinstance(name, str) for name in found)


def _in_words(found: Any) -> str:
    if not isinstance(found, dict):
        return f"a {type(found).__name__}"
    return ", ".join(str(name) for name in list(found)[:SHOWN]) or "nothing"


def _without_prefix(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors by the names that they had before the network was trained on several devices."""
    if all(name.startswith("module.") for name in found):
        return {name.removeprefix("module."): value for name, value in found.items()}
    return found
