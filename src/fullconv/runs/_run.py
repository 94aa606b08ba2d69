"""The folder of a training run."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from fullconv.errors import BadOutputError, BadRunError
from fullconv.images import ClassTable
from fullconv.runs._files import read_rows, write_json, write_text
from fullconv.runs._recipe import Recipe

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Run:
    """A training run on disk.

    `Run.create` makes a folder for a new one, `Run.open` finds one that has weights.
    """

    path: Path

    @staticmethod
    def create(path: Path) -> "Run":
        """Make the folder of a new run.

        Raises:
            BadRunError: If something is there already, or the folder cannot be made.
        """
        try:
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise BadRunError(
                    f"`out` must be a new or empty folder, got `{path}`, which is in use; choose "
                    f"another name, or go on with `--resume {path}`"
                )
            path.mkdir(parents=True, exist_ok=True)
            probe = path / ".probe"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise BadOutputError(
                f"`out` must be a folder that can be written, got `{path}`: {error.strerror}; "
                "choose another"
            ) from error
        return Run(path)

    @staticmethod
    def open(path: Path) -> "Run":
        """Return the run at `path`.

        Raises:
            BadRunError: If it is not the folder of a run, or has no weights yet.
        """
        run = Run(path)
        if not run.network_json.exists():
            raise BadRunError(
                f"`run` must be the folder of a training run, got `{path}` without "
                f"{run.network_json.name}; `fullconv train DATA --out {path}` makes one"
            )
        if not run.best.exists() and not run.last.exists():
            raise BadRunError(
                f"`run` must hold trained weights, got `{path}` without {run.best.name}; "
                "it ended before its first save: remove the folder, and train again"
            )
        return run

    @property
    def config_yaml(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def run_json(self) -> Path:
        """Command, versions, machine, start and duration."""
        return self.path / "run.json"

    @property
    def network_json(self) -> Path:
        """How to rebuild the network."""
        return self.path / "network.json"

    @property
    def data_json(self) -> Path:
        """The samples of each split, and the survey of the data."""
        return self.path / "data.json"

    @property
    def best(self) -> Path:
        """Weights of the best validation."""
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        """Weights of the last step that was saved."""
        return self.path / "last.safetensors"

    @property
    def checkpoint(self) -> Path:
        """Everything that is needed to go on."""
        return self.path / "checkpoint.ckpt"

    @property
    def sampling_json(self) -> Path:
        """What was measured to choose the sampling, and why; only where it was chosen."""
        return self.path / "sampling.json"

    @property
    def memory_json(self) -> Path:
        """Where the memory goes: planned for the largest step, and what was taken."""
        return self.path / "memory.json"

    @property
    def steps_csv(self) -> Path:
        """One row per logged step."""
        return self.path / "steps.csv"

    @property
    def validation_csv(self) -> Path:
        """One row per validation."""
        return self.path / "validation.csv"

    @property
    def evaluation_json(self) -> Path:
        """The metrics of the held-out images."""
        return self.path / "evaluation.json"

    @property
    def evaluation_csv(self) -> Path:
        """The metrics of the held-out images, one row per class."""
        return self.path / "evaluation.csv"

    @property
    def predictions(self) -> Path:
        """Folder with the label images of the held-out images."""
        return self.path / "predictions"

    @property
    def tensorboard(self) -> Path:
        """Folder for TensorBoard."""
        return self.path / "tensorboard"

    @property
    def report(self) -> Path:
        """The report."""
        return self.path / "report.html"

    def recipe(self) -> Recipe:
        """Return how to rebuild the network."""
        values = self._json(self.network_json)
        try:
            recipe = Recipe.from_json(values)
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(self.network_json, error) from error
        self._refuse_code_inside(recipe.name)
        return recipe

    def network(self) -> "nn.Module":
        """Return the network with the best weights, in eval mode: raw pixels in, logits out."""
        import torch

        from fullconv.runs._weights import load_weights

        net = self.recipe().build()
        load_weights(self.best if self.best.exists() else self.last, net)
        return net.eval().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (missing overload)

    def classes(self) -> ClassTable:
        """Return the classes."""
        return self.recipe().table

    def config(self) -> dict[str, Any]:
        """Return the resolved configuration."""
        try:
            values = dict(yaml.safe_load(self.config_yaml.read_text(encoding="utf-8")))
        except (OSError, yaml.YAMLError, TypeError, ValueError) as error:
            raise _damaged(self.config_yaml, error) from error
        self._refuse_code_inside(str(values.get("net", "")))
        return values

    def about(self) -> dict[str, Any]:
        """Return command, versions, machine, start and duration."""
        return self._json(self.run_json)

    def data(self) -> dict[str, Any]:
        """Return the samples of each split and the survey."""
        return self._json(self.data_json)

    def evaluation(self) -> dict[str, Any]:
        """Return the metrics of the held-out images."""
        return self._json(self.evaluation_json)

    def sampling(self) -> dict[str, Any]:
        """Return which sampling was chosen, why, and from which readings."""
        return self._json(self.sampling_json)

    def memory(self) -> dict[str, Any]:
        """Return where the memory goes: planned for the largest step, and what was taken."""
        return self._json(self.memory_json)

    def steps(self) -> list[dict[str, float]]:
        """Return the logged steps."""
        return read_rows(self.steps_csv)

    def validation(self) -> list[dict[str, float]]:
        """Return the validations."""
        return read_rows(self.validation_csv)

    def write_config(self, values: dict[str, Any]) -> None:
        """Write the resolved configuration."""
        write_text(self.config_yaml, yaml.safe_dump(values, sort_keys=False))

    def write_recipe(self, recipe: Recipe) -> None:
        """Write how to rebuild the network."""
        write_json(self.network_json, recipe.to_json())

    def _refuse_code_inside(self, net: str) -> None:
        """Refuse a network whose module lies in this folder: what is in a run is never executed."""
        module, colon, _ = net.partition(":")
        if not colon:
            return
        for entry in sys.path:
            place = Path(entry).resolve().joinpath(*module.split("."))
            is_there = place.is_dir() or any(place.parent.glob(f"{place.name}.*"))
            if is_there and place.parent.resolve().is_relative_to(self.path.resolve()):
                raise BadRunError(
                    f"`net` = {net!r} must lie outside of its run, got a module in {self.path}, "
                    "which was not imported; if you trust it, move it beside the run"
                )

    def _json(self, path: Path) -> dict[str, Any]:
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> BadRunError:
    return BadRunError(
        f"`{path}` must be a file that `fullconv train` wrote, got one that cannot be read "
        f"({error}); restore it, or train again"
    )
