"""The metrics of a network over files, against masks and labels compared by hand."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fullconv.errors import BadDataError
from fullconv.images import Sample, open_dataset, survey
from fullconv.scoring import AbsentRule
from fullconv.training import Evaluation, evaluate


class Threshold(nn.Module):
    """Class 1 where the first channel is above 100."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(100.0))

    def forward(self, image: Tensor) -> Tensor:
        return torch.stack([self.level.expand_as(image[:, 0]), image[:, 0]], dim=1)


def by_hand(scenes: Path, names: list[str]) -> np.ndarray:
    counts = np.zeros((2, 2), int)
    for name in names:
        truth = np.asarray(Image.open(scenes / "masks" / f"{name}.png"))
        labels = np.asarray(Image.open(scenes / "images" / f"{name}.png"))[..., 0] > 100
        for i in (0, 1):
            for j in (0, 1):
                counts[i, j] += ((truth == i) & (labels == j)).sum()
    return counts


def result(scenes: Path, **options: Any) -> Evaluation:
    dataset = open_dataset(scenes)
    return evaluate(Threshold(), dataset.samples, survey(dataset).classes, **options)


def test_all_images_share_one_matrix(scenes: Path) -> None:
    found = result(scenes)
    names = [image.name for image in found.images]
    assert np.array_equal(found.matrix, by_hand(scenes, names))
    one = by_hand(scenes, names[:1])
    assert found.images[0].pixel_accuracy == pytest.approx(np.trace(one) / one.sum())
    assert found.matrix.sum() < sum(40 * 52 + 33 * 47 for _ in range(4))  # some are ignored


def test_progress_and_labels_are_handed_out_image_by_image(scenes: Path) -> None:
    done: list[tuple[int, int]] = []
    kept: dict[str, np.ndarray] = {}
    result(
        scenes,
        progress=lambda i, n: done.append((i, n)),
        keep=lambda sample, labels: kept.update({sample.name: labels}),
    )
    assert done == [(i, 8) for i in range(1, 9)]
    pixels = np.asarray(Image.open(scenes / "images" / "03.png"))
    assert np.array_equal(kept["03"], pixels[..., 0] > 100)
    assert kept["03"].dtype == np.uint8


def test_the_network_is_left_in_the_mode_it_was_in(scenes: Path) -> None:
    dataset = open_dataset(scenes)
    net = Threshold().train()
    evaluate(net, dataset.samples[:1], survey(dataset).classes)
    assert net.training


def test_the_report_of_an_evaluation_names_classes_and_images(scenes: Path) -> None:
    found = result(scenes)
    values = found.to_json("val")
    assert values["split"] == "val"
    assert list(values["iu"]) == list(found.classes.names)
    assert values["mean_iu"] == pytest.approx(np.mean(list(values["iu"].values())))
    assert values["baseline"]["pixel_accuracy"] == found.matrix.sum(1).max() / found.matrix.sum()
    assert len(values["images"]) == 8
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [int(row["units"]) for row in rows] == found.matrix.sum(1).tolist()


@pytest.mark.parametrize(("absent", "iu"), [("reference", "0.0"), ("paper", "nan")])
def test_the_table_leaves_out_what_the_rule_leaves_out(
    scenes: Path, absent: AbsentRule, iu: str
) -> None:
    """Of eight units, all of the first class, three are taken for the second."""
    classes = survey(open_dataset(scenes)).classes
    found = Evaluation(classes=classes, matrix=np.array([[5, 3], [0, 0]]), images=())
    rows = list(csv.DictReader(io.StringIO(found.to_csv(absent=absent))))
    assert [row["iu"] for row in rows] == ["0.625", iu]


def test_nothing_to_score_is_refused(scenes: Path) -> None:
    classes = survey(open_dataset(scenes)).classes
    with pytest.raises(BadDataError, match="`samples` must have at least one image with a mask"):
        evaluate(Threshold(), [], classes)
    bare = Sample(name="x", image=scenes / "images" / "00.png", mask=None)
    with pytest.raises(BadDataError, match=r"00\.png` must have a mask to be scored, got none"):
        evaluate(Threshold(), [bare], classes)
