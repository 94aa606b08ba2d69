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


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by their names in it.

    Args:
        path: A ``.safetensors``, ``.npz``, ``.pth`` or ``.pt`` file, or a folder of ``NAME.npy``.

    Raises:
        BadConfigError: If it cannot be read, or would have to be executed.
    """
    readers: Mapping[str, Callable[[Path], dict[str, Any]]] = {
        ".safetensors": load_file,
        ".npz": _npz,
        ".pth": _pickled,
        ".pt": _pickled,
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
    if not found:
        raise BadConfigError(f"`weights` must hold tensors by name, got none in {path}")
    return found


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


def _pickled(path: Path) -> dict[str, Tensor]:
    found: Any = torch.load(path, map_location="cpu", weights_only=True)
    inner = found.get("state_dict", found) if isinstance(found, dict) else {}
    inner = inner if isinstance(inner, dict) else {}
    return {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
