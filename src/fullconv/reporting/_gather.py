"""Reads a run into a `Record`. The only file of this room that knows what a run's files hold."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fullconv.errors import FullconvError, NotLocalError
from fullconv.geometry import Geometry
from fullconv.reporting._record import (
    Column,
    Data,
    Evaluation,
    ImageScore,
    Metrics,
    Network,
    Record,
    SampleFiles,
)
from fullconv.runs import Recipe, Run
from fullconv.tracing import trace

METRICS = ("pixel_accuracy", "mean_accuracy", "mean_iu", "fw_iu")


def gather(run: Run) -> Record:
    """Return everything that the sections may look at."""
    recipe = run.recipe()
    facts = run.about() if run.run_json.exists() else {}
    evaluated = run.evaluation_json.exists()
    return Record(
        path=run.path,
        network=Network(
            name=recipe.name, options=recipe.options, parameters=facts.get("parameters")
        ),
        classes=recipe.table,
        data=_data(run.data()),
        steps=_columns(run.steps()),
        validation=_columns(run.validation()),
        evaluation=_evaluation(run.evaluation(), recipe.table.names) if evaluated else None,
        predictions=run.predictions,
        config=run.config(),
        facts=facts,
        memory=run.memory() if run.memory_json.exists() else None,
        geometry=_geometry(recipe),
    )


def _geometry(recipe: Recipe) -> Geometry | str | None:
    """Return what the network sees, or why that is not finite; None if it cannot be built."""
    try:
        return trace(recipe.build().eval(), recipe.channels)
    except NotLocalError as error:
        return str(error)
    except FullconvError:
        return None


def _data(values: Mapping[str, Any]) -> Data:
    survey = values["survey"]
    samples = {
        sample["name"]: SampleFiles(
            image=Path(sample["image"]),
            mask=Path(sample["mask"]) if sample["mask"] else None,
            shape=tuple(survey["shapes"][sample["name"]][-2:]),
        )
        for split in values["splits"].values()
        for sample in split
    }
    return Data(
        path=values["data"],
        splits={
            split: tuple(sample["name"] for sample in members)
            for split, members in values["splits"].items()
        },
        samples=samples,
        counts={split: tuple(px) for split, px in survey["counts"].items()},
        channels=survey["channels"],
        dtype=survey["dtype"],
    )


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Column]:
    names = rows[0].keys() if rows else ()
    return {name: np.array([_number(row[name]) for row in rows]) for name in names}


def _evaluation(values: Mapping[str, Any], names: Iterable[str]) -> Evaluation:
    return Evaluation(
        split=values["split"],
        metrics=_metrics(values),
        baseline=_metrics(values["baseline"]),
        iu=tuple(_number(values["iu"].get(name)) for name in names),
        confusion=np.array(values["confusion"], dtype=np.int64),
        images=tuple(
            ImageScore(
                name=image["name"],
                mean_iu=_number(image["mean_iu"]),
                pixel_accuracy=_number(image["pixel_accuracy"]),
            )
            for image in values["images"]
        ),
    )


def _metrics(values: Mapping[str, Any]) -> Metrics:
    return Metrics(**{name: _number(values[name]) for name in METRICS})


def _number(value: Any) -> float:
    """Return a number; NaN for what is missing, as JSON and CSV write it."""
    return math.nan if value in (None, "") else float(value)
