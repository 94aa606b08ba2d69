"""The settings of a run from what was said where: flags over a file over the run that goes on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fullconv.errors import BadConfigError
from fullconv.runs import Run
from fullconv.training._config import TrainConfig, read_config
from fullconv.training._recipes import recipe_settings

_BUDGETS = ("epochs", "minutes")


def resolve(
    flags: Mapping[str, Any], *, config: Path | None = None, resume: Path | None = None
) -> TrainConfig:
    """Return the settings of a run.

    A flag outdoes the file, the file the settings of the run that goes on, and all of them a recipe. `epochs` and `minutes`
    replace each other. Without `out`, the run lies in ``runs/`` under the name of its data.

    Args:
        flags: What was given by hand; keys as in `TrainConfig`.
        config: A YAML file with the same keys.
        resume: Folder of a run to go on with.

    Raises:
        BadConfigError: For a key that is not known, a value that cannot be used, or no data.
        BadRunError: If there is no such run.
    """
    values = {} if resume is None else Run.open(resume).config()
    for layer in (read_config(config) if config else {}, flags):
        if any(layer.get(key) is not None for key in _BUDGETS):
            values = {key: value for key, value in values.items() if key not in _BUDGETS}
        values = {**values, **layer}
    if values.get("data") is None:
        raise BadConfigError(
            "`data` must be a folder with images and masks, got none; say `fullconv train DATA`"
        )
    values["out"] = _out(values, flags, resume)
    if values.get("recipe") and resume is None:
        values = recipe_settings(values["recipe"], values.get("net", TrainConfig.net)) | values
    return TrainConfig.from_dict(values)


def _out(values: Mapping[str, Any], flags: Mapping[str, Any], resume: Path | None) -> Any:
    """Return the folder of the run."""
    if resume is None:
        return values.get("out") or Path("runs") / Path(values["data"]).resolve().stem
    if flags.get("out") is not None and Path(flags["out"]).resolve() != resume.resolve():
        raise BadConfigError(
            f"`out` must be left out with `resume`: the run stays at {resume}, got {flags['out']}; "
            "copy the folder and resume the copy to keep both"
        )
    return resume
