"""Weights as safetensors: numbers and names, nothing that could run."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fullconv.errors import BadRunError
from fullconv.images import atomic


def save_weights(path: Path, net: nn.Module, notes: Mapping[str, str] | None = None) -> None:
    """Write the parameters and buffers of `net` with some notes, whole or not at all."""
    tensors = {
        name: value.detach().cpu().contiguous().clone() for name, value in net.state_dict().items()
    }
    with atomic(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # what new files have here; safetensors gives its own
        try:
            save_file(tensors, temporary, dict(notes or {}))
            temporary.chmod(mode)
        except SafetensorError as error:  # what safetensors makes of a full disk
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


def weights_notes(path: Path) -> dict[str, str]:
    """Return the notes beside the weights; none where there is no whole file."""
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return {}


def check_match(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Check that weights fit a network.

    Raises:
        BadRunError: If names or shapes differ; the message names the first few that do.
    """
    shapes = [
        f"{name} is {tuple(found[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    missing = [f"{name} is missing" for name in wanted if name not in found]
    extra = [f"{name} is not part of it" for name in found if name not in wanted]
    faults = [*shapes, *missing, *extra]
    if faults:
        rest = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise BadRunError(
            f"`{path}` must hold the weights of this network, got those of another: "
            f"{'; '.join(faults[:3])}{rest}. Give the network and options it was trained with"
        )
