"""Weights as safetensors: numbers and names, nothing that could run."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fullconv.errors import BadRunError
from fullconv.runs._files import replacing


def save_weights(path: Path, net: nn.Module, metadata: Mapping[str, str] | None = None) -> None:
    """Write the parameters and buffers of `net`, whole or not at all."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    with replacing(path) as temporary:
        try:
            save_file(_unshared(tensors), temporary, dict(metadata or {}))
        except SafetensorError as error:
            raise OSError(str(error)) from error


def load_weights(path: Path, net: nn.Module) -> None:
    """Load the weights at `path` into `net`.

    Raises:
        BadRunError: If the file is missing or damaged, or belongs to another network; the message
            then names the layers that do not match.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise BadRunError(
            f"`{path}` must be a safetensors file with weights, got one that cannot be read "
            f"({error}); restore it, or train again"
        ) from error
    check_match(path, tensors, net.state_dict())
    net.load_state_dict(tensors)


def weights_metadata(path: Path) -> dict[str, str]:
    """Return what was noted beside the weights; nothing where there is no whole file."""
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return {}


def check_match(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise `BadRunError` unless both have the same names and shapes."""
    shapes = [
        f"{name} is {tuple(found[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    missing = [f"{name} is missing" for name in wanted if name not in found]
    extra = [f"{name} is not part of it" for name in found if name not in wanted]
    faults = [*shapes, *missing, *extra]
    if faults:
        raise BadRunError(
            f"`{path}` must hold the weights of this network, got those of another: "
            f"{_some(faults)}. Give the network and options that it was trained with"
        )


def _some(faults: list[str], most: int = 3) -> str:
    rest = len(faults) - most
    return "; ".join(faults[:most]) + (f"; and {rest} more" if rest > 0 else "")


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with a copy of each that shares memory with an earlier one."""
    seen: set[int] = set()
    return {name: _own(value, seen) for name, value in tensors.items()}


def _own(value: Tensor, seen: set[int]) -> Tensor:
    pointer = value.untyped_storage().data_ptr()
    if pointer in seen:
        return value.clone()
    seen.add(pointer)
    return value
