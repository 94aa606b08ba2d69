"""`fullconv evaluate`: which images, which classes, which files."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fullconv.runs import Run


def opened(path: Path) -> Image.Image:
    """The whole image; its file is closed."""
    with Image.open(path) as image:
        image.load()
        return image.copy()


def test_the_data_of_the_run_give_the_metrics_of_its_held_out_images(
    trained: Path, data: Path, tmp_path: Path, fullconv: Any
) -> None:
    files = ("--json", tmp_path / "e.json", "--csv", tmp_path / "e.csv")
    found = fullconv("evaluate", trained, data, *files)
    assert found.status == 0
    assert json.loads((tmp_path / "e.json").read_text()) == Run(trained).evaluation()
    with (tmp_path / "e.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["ground", "square"]
    assert "trained on" not in found.out


def test_other_data_are_used_whole(
    trained: Path, data: Path, tmp_path: Path, fullconv: Any
) -> None:
    """Against masks and predictions compared by hand."""
    other = Path(shutil.copytree(data, tmp_path / "other"))
    found = fullconv("evaluate", trained, other, "--json", tmp_path / "e.json")
    assert found.status == 0
    count = len(Run(trained).data()["splits"]["train"])
    assert f"note: the network was trained on {count} of these 6 images" in found.out
    assert fullconv("predict", trained, other / "images", "--out", tmp_path / "out").status == 0
    right = total = 0
    for mask in (other / "masks").iterdir():
        truth, labels = (
            np.asarray(opened(mask)),
            np.asarray(opened(tmp_path / "out" / mask.name)),
        )
        right, total = right + (truth == labels).sum(), total + truth.size
    scores = json.loads((tmp_path / "e.json").read_text())
    assert len(scores["images"]) == 6
    assert scores["pixel_accuracy"] == right / total


def test_images_that_were_trained_on_are_said(trained: Path, data: Path, fullconv: Any) -> None:
    found = fullconv("evaluate", trained, data, "--split", "train")
    count = len(Run(trained).data()["splits"]["train"])
    assert f"note: the network was trained on {count} of these {count} images" in found.out


def test_windows_give_the_same_metrics(
    trained: Path, data: Path, tmp_path: Path, fullconv: Any
) -> None:
    for name, memory in (("whole", ()), ("windows", ("--memory", "90%"))):
        json_file = tmp_path / f"{name}.json"
        assert fullconv("evaluate", trained, data, "--json", json_file, *memory).status == 0
    assert (tmp_path / "whole.json").read_text() == (tmp_path / "windows.json").read_text()


def test_a_split_that_is_not_there_is_refused(trained: Path, data: Path, fullconv: Any) -> None:
    found = fullconv("evaluate", trained, data, "--split", "test")
    assert found.status == 1
    assert "`split` must be one that the data have, train, val, got 'test'" in found.err


def test_other_classes_are_refused(
    trained: Path, data: Path, tmp_path: Path, fullconv: Any
) -> None:
    other = Path(shutil.copytree(data, tmp_path / "other"))
    (other / "classes.csv").write_text("name\nsky\nsea\n")
    found = fullconv("evaluate", trained, other)
    assert found.status == 1
    assert "`data` must have the classes of the run, ground, square, got sky, sea" in found.err


def test_masks_with_a_class_that_the_run_does_not_know_are_refused(
    trained: Path, data: Path, tmp_path: Path, fullconv: Any
) -> None:
    other = Path(shutil.copytree(data, tmp_path / "other"))
    (other / "classes.csv").unlink()
    Image.fromarray(np.full((40, 52), 7, np.uint8)).save(other / "masks" / "0.png")
    found = fullconv("evaluate", trained, other)
    assert found.status == 1
    assert "masks/0.png" in found.err


def test_other_channels_are_refused(
    trained: Path, data: Path, tmp_path: Path, fullconv: Any
) -> None:
    shutil.copytree(data / "masks", tmp_path / "masks")
    (tmp_path / "images").mkdir()
    for image in (data / "images").iterdir():
        opened(image).convert("L").save(tmp_path / "images" / image.name)
    found = fullconv("evaluate", trained, tmp_path)
    assert found.status == 1
    assert "`data` must have images of 3 channels" in found.err


def test_the_upper_bound_of_the_masks_needs_no_run(
    data: Path, tmp_path: Path, fullconv: Any
) -> None:
    found = fullconv(
        "evaluate", data, "--json", tmp_path / "bounds.json", "--upper-bound", 1, 2, 64
    )
    assert found.status == 0
    rows = json.loads((tmp_path / "bounds.json").read_text())["upper_bounds"]
    assert [row["factor"] for row in rows] == [1, 2, 64]
    assert rows[0]["mean_iu"] == rows[0]["pixel_accuracy"] == 1
    assert 1 > rows[1]["mean_iu"] > rows[2]["mean_iu"]
    assert set(rows[0]["iu"]) == {"ground", "square"}


def test_fractions_of_a_px_are_not_rounded(data: Path, fullconv: Any) -> None:
    found = fullconv("evaluate", data, "--upper-bound", 4.7, 8.9)
    assert found.status == 2
    assert "--upper-bound: must be whole numbers, got 4.7; nearest is 5" in words(found.err)
    found = fullconv("evaluate", data, "--upper-bound", 0)
    assert (found.status, "must be whole numbers of at least 1" in found.err) == (1, True)


def words(text: str) -> str:
    """The text out of the frame in which usage errors stand."""
    return " ".join(text.replace("│", " ").split())


def test_without_data_or_a_split_that_is_there_it_says_so(
    trained: Path, data: Path, fullconv: Any
) -> None:
    found = fullconv("evaluate", trained)
    assert (found.status, "say `fullconv evaluate RUN DATA`" in found.err) == (1, True)
    found = fullconv("evaluate", data, "--upper-bound", 2, "--split", "val")
    assert (found.status, "`split` must be one that the data have" in found.err) == (1, True)


def test_the_upper_bound_goes_into_a_table_too(data: Path, tmp_path: Path, fullconv: Any) -> None:
    files = ("--json", tmp_path / "bounds.json", "--csv", tmp_path / "bounds.csv")
    assert fullconv("evaluate", data, *files, "--upper-bound", 1, 4).status == 0
    bounds = json.loads((tmp_path / "bounds.json").read_text())["upper_bounds"]
    with (tmp_path / "bounds.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["factor"], row["class"], float(row["iu"])) for row in rows] == [
        (str(bound["factor"]), name, iu) for bound in bounds for name, iu in bound["iu"].items()
    ]
    assert [row["accuracy"] for row in rows[:2]] == ["1.0", "1.0"]


def test_the_upper_bound_runs_no_network_within_a_memory(
    data: Path, tmp_path: Path, fullconv: Any
) -> None:
    file = tmp_path / "bounds.csv"
    found = fullconv("evaluate", data, "--upper-bound", 4, "--csv", file, "--memory", "2GiB")
    assert (found.status, file.exists()) == (1, False)
    assert "`memory` must be left out with `upper-bound`, which reads whole masks" in found.err
    assert "got '2GiB'; leave out one of them" in found.err


def test_absent_classes_are_counted_by_the_rule_that_is_named(
    trained: Path, data: Path, tmp_path: Path, fullconv: Any
) -> None:
    other = Path(shutil.copytree(data, tmp_path / "other"))
    for mask in (other / "masks").iterdir():  # nothing is ground, which the network sees everywhere
        Image.fromarray(np.ones_like(np.asarray(opened(mask)))).save(mask)
    for rule, value, text in (("reference", 0.0, "0.0"), ("paper", None, "nan")):
        files = ("--json", tmp_path / rule, "--csv", tmp_path / f"{rule}.csv")
        assert fullconv("evaluate", trained, other, "--absent", rule, *files).status == 0
        with (tmp_path / f"{rule}.csv").open() as file:
            assert [row["iu"] for row in csv.DictReader(file) if row["class"] == "ground"] == [text]
        assert json.loads((tmp_path / rule).read_text())["iu"]["ground"] == value
    assert fullconv("evaluate", trained, data, "--absent", "mine").status != 0
