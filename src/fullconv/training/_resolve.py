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

    A flag outdoes the file, and the file the settings of the run that goes on. A recipe in the file is
    outdone by both; one that is a flag, by the other flags alone. `epochs` and `minutes` replace each
    other. Without `out`, the run lies in ``runs/`` under the name of its data.

    Args:
        flags: What was given by hand; keys as in `TrainConfig`.
        config: A YAML file with the same keys.
        resume: Folder of a run to go on with.

    Raises:
        BadConfigError: For a key that is not known, a value that cannot be used, or would be used for
            nothing, or no data.
        BadRunError: If there is no such run.
    """
    values = {} if resume is None else Run.open(resume).config()
    file = read_config(config) if config else {}
    for layer in (file, flags):
        if any(layer.get(key) is not None for key in _BUDGETS):
            values = {key: value for key, value in values.items() if key not in _BUDGETS}
        values = {**values, **layer}
    if values.get("data") is None:
        raise BadConfigError(
            "`data` must be a folder with images and masks, got none; say `fullconv train DATA`"
        )
    values["out"] = _out(values, flags, resume)
    if resume is None:
        values = _with_momentum_used(_with_recipe(values, flags), file, flags)
    return TrainConfig.from_dict(values)


def _with_recipe(values: dict[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings and those of their recipe: under the flags alone, if it is one of them."""
    if not values.get("recipe"):
        return values
    own = recipe_settings(values["recipe"], values.get("net", TrainConfig.net))
    found = own | values if flags.get("recipe") is None else {**values, **own, **flags}
    if found["optimizer"] != own["optimizer"]:
        raise BadConfigError(
            f"`optimizer` must be {own['optimizer']} for `recipe` = {values['recipe']}, whose rate is made "
            f"for it, got {found['optimizer']!r}; leave the recipe out, and give its other settings"
        )
    return found


def _with_momentum_used(
    values: dict[str, Any], file: Mapping[str, Any], flags: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings without a momentum that went with the optimiser that a flag outdoes.

    Raises:
        BadConfigError: If any other momentum would be used for nothing.
    """
    if values.get("optimizer", TrainConfig.optimizer) != "adamw":
        return values
    said = flags.get("momentum")
    if said is None and file.get("optimizer") != "sgd":
        usual = TrainConfig.momentum  # which stands in the file of every run
        said = None if file.get("momentum") == usual else file.get("momentum")
    if said is not None:
        raise BadConfigError(
            f"`momentum` must go with `optimizer` = sgd, got {said!r} for adamw, which has none; give "
            "`optimizer` = sgd, too, or leave the momentum out"
        )
    return {key: value for key, value in values.items() if key != "momentum"}


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
