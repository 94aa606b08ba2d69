"""Run folders as training leaves them, small and made up."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from fullconv.images import ClassTable, write_labels
from fullconv.runs import Recipe, Run, append_row, write_json
from fullconv.scoring import majority_baseline, score
from fullconv.tracing import trace

METRICS = ("pixel_accuracy", "mean_accuracy", "mean_iu", "fw_iu")


@dataclass(frozen=True, kw_only=True)
class Example:
    """One held-out image: (height, width[, channels]), and labels (height, width)."""

    name: str
    image: NDArray[Any]
    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Story:
    """What happened in a run that is to be written; the defaults are a short, good one."""

    classes: tuple[str, ...] = ("soil", "crop", "weed")
    examples: tuple[Example, ...] = ()
    num_train: int = 51
    num_steps: int = 60
    seconds: float = 186.0
    validations: int = 6
    evaluated: bool = True
    split: str = "val"
    counts: dict[str, list[int]] | None = None
    network: str = "unet"
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    data: str = "/data/fields"
    table: ClassTable | None = None
    folder: str = "run"

    @property
    def class_table(self) -> ClassTable:
        if self.table:
            return self.table
        colours = ClassTable.default(len(self.classes)).colours
        return ClassTable(names=self.classes, colours=colours)

    def confusion_of(self, num_classes: int) -> list[list[int]]:
        names = tuple(map(str, range(num_classes)))
        return replace(self, classes=names, examples=self.of(num_classes)).confusion().tolist()

    def confusion(self) -> NDArray[np.int64]:
        """The confusion matrix of the examples, counted px by px."""
        num = len(self.classes)
        matrix = np.zeros((num, num), np.int64)
        for one in self.examples:
            valid = one.truth != self.class_table.ignore
            pairs = one.truth[valid].astype(int) * num + one.prediction[valid]
            matrix += np.bincount(pairs, minlength=num**2).reshape(num, num)
        return matrix

    @staticmethod
    def of(num_classes: int) -> tuple[Example, ...]:
        """Three examples with so many classes."""
        mistakes = (0.3, 0.02, 0.1)
        return tuple(
            example(f"scene_{i}", mistakes=share, num_classes=num_classes, seed=i)
            for i, share in enumerate(mistakes)
        )


def write_run(folder: Path, story: Story) -> Run:
    """Write a run folder, and beside it the images and masks that it names."""
    run = Run.create(folder / story.folder)
    samples = [write_example(folder, run, one, story.class_table) for one in story.examples]
    train = [
        {"name": f"train{i}", "image": f"train{i}.png", "mask": f"train{i}.png"}
        for i in range(story.num_train)
    ]
    shape = list(story.examples[0].truth.shape) if story.examples else [48, 64]
    shapes = {sample["name"]: shape for sample in train}
    shapes |= {one.name: list(one.truth.shape) for one in story.examples}
    splits = {"train": train} | ({story.split: samples} if samples else {})
    num = len(story.classes)
    counts = story.counts or {split: [10 ** (num - i) for i in range(num)] for split in splits}
    survey = {"channels": 3, "dtype": "uint8", "shapes": shapes, "counts": counts}
    write_json(run.data_json, {"data": story.data, "splits": splits, "survey": survey})
    run.write_recipe(
        Recipe(
            name=story.network,
            channels=3,
            table=story.class_table,
            mean=(90.0, 95.0, 60.0),
            std=(50.0, 50.0, 40.0),
            options=story.options,
        )
    )
    run.write_config({"data": story.data, "net": story.network, "lr": 0.001, "batch": 1, "seed": 0})
    write_json(
        run.run_json,
        {"command": "fullconv train fields --out runs/fields", "versions": {"torch": "2.13.0"}},
    )
    write_logs(run, story)
    if story.evaluated and story.examples:
        write_json(run.evaluation_json, evaluation(story))
    return run


def write_example(folder: Path, run: Run, one: Example, table: ClassTable) -> dict[str, str]:
    paths = {kind: folder / f"{one.name}.{kind}.png" for kind in ("image", "mask")}
    Image.fromarray(one.image).save(paths["image"])
    run.predictions.mkdir(exist_ok=True)
    write_labels(paths["mask"], one.truth, table)
    write_labels(run.predictions / f"{one.name}.png", one.prediction, table)
    return {"name": one.name, **{kind: str(path) for kind, path in paths.items()}}


def write_logs(run: Run, story: Story) -> None:
    rng = np.random.default_rng(0)
    per_step = story.seconds / max(1, story.num_steps)
    for step in range(1, story.num_steps + 1):
        loss = 1.1 * math.exp(-4 * step / story.num_steps) + 0.12 + 0.05 * rng.random()
        row = {"step": step, "epoch": step // story.num_train, "seconds": per_step * step}
        append_row(run.steps_csv, {**row, "images": step, "loss": loss, "lr": 1e-3})
    for i in range(1, story.validations + 1):
        step = i * story.num_steps // story.validations
        row = {"step": step, "epoch": 1, "seconds": per_step * step}
        metrics = dict.fromkeys(METRICS, 0.75 - 0.5 / i)
        append_row(run.validation_csv, {**row, "loss": 0.2 + 0.6 / i, **metrics})


def evaluation(story: Story) -> dict[str, Any]:
    matrix = story.confusion()
    scores, baseline = score(matrix), majority_baseline(matrix)
    alone = [(one, score(replace(story, examples=(one,)).confusion())) for one in story.examples]
    return {
        "split": story.split,
        **{name: getattr(scores, name) for name in METRICS},
        "iu": dict(zip(story.classes, scores.iu, strict=True)),
        "confusion": matrix.tolist(),
        "baseline": {name: getattr(baseline, name) for name in METRICS},
        "images": [
            {"name": one.name, "mean_iu": own.mean_iu, "pixel_accuracy": own.pixel_accuracy}
            for one, own in alone
        ],
    }


def example(name: str, *, mistakes: float, num_classes: int = 3, seed: int = 0) -> Example:
    """A noisy image with blocks of classes and a share of wrongly predicted px."""
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, num_classes, (6, 8)), np.ones((8, 8))).astype(np.uint8)
    wrong = rng.random(truth.shape) < mistakes
    prediction = np.where(wrong, (truth + 1) % num_classes, truth).astype(np.uint8)
    image = (rng.random((*truth.shape, 3)) * 60 + 60 * truth[..., None] % 200).astype(np.uint8)
    return Example(name=name, image=image, truth=truth, prediction=prediction)


EXAMPLES = tuple(
    example(f"plot_{i}", mistakes=mistakes, seed=i)
    for i, mistakes in enumerate((0.3, 0.02, 0.1, 0.2, 0.05))
)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[[Story], Run]:
    return lambda story: write_run(tmp_path, story)


@pytest.fixture
def story() -> Story:
    return Story(examples=EXAMPLES)


@pytest.fixture(autouse=True)
def one_geometry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every run the geometry of one small layer: tracing a U-Net for each report is slow."""
    geometry = trace(nn.Conv2d(3, 2, 7, padding=3))
    monkeypatch.setattr("fullconv.reporting._gather.trace", lambda *_: geometry)
