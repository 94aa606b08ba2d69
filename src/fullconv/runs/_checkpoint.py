"""The checkpoint of a run, read without running anything that is in it."""

import pickle
import re
import warnings
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch

from fullconv.errors import BadRunError

_PARTS = ("state_dict", "optimizer_states", "loops", "global_step", "seconds", "epochs")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the parts of a checkpoint: tensors and plain values.

    Raises:
        BadRunError: If there is none, it is damaged, or it holds anything else.
    """
    if not path.exists():
        raise BadRunError(
            f"`resume` must be a run that was stopped behind its first save, got `{path.parent}` "
            f"without {path.name}; train it anew"
        )
    try:
        with warnings.catch_warnings(action="ignore"):  # about pickles that it then refuses
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f" ({named[1]})" if named else ""
        raise BadRunError(
            f"`{path}` must hold tensors and plain values, got something else, which was not run"
            f"{what}; restore the file, or train anew"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise BadRunError(
            f"`{path}` must be a whole checkpoint, got one that cannot be read ({error}); "
            "restore the file, or train anew. The weights beside it are not touched"
        ) from error
    missing = [part for part in _PARTS if not isinstance(state, dict) or part not in state]
    if missing:
        raise BadRunError(
            f"`{path}` must be a checkpoint of `fullconv train`, got one without {missing[0]}; "
            "restore the file, or train anew"
        )
    return state
