"""The folder of a run: files that are whole or not there, and errors for those that are not."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fullconv.errors import BadConfigError, BadOutputError, BadRunError
from fullconv.images import ClassTable
from fullconv.runs import (
    Recipe,
    Run,
    append_row,
    drop_rows_after,
    load_weights,
    read_checkpoint,
    save_weights,
    weights_notes,
    write_json,
)

TABLE = ClassTable(
    names=("soil", "weed"), colours=((0, 0, 0), (1, 2, 3)), indices=(4, 7), ignored=(9,)
)
RECIPE = Recipe(
    name="unet",
    channels=1,
    table=TABLE,
    mean=(3.0,),
    std=(2.0,),
    options={"width": 2, "depth": 1},
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.create(tmp_path / "run")
    run.write_recipe(RECIPE)
    save_weights(run.last, RECIPE.build(), {"step": "3"})
    return run


def test_a_recipe_survives_the_folder(run: Run) -> None:
    assert run.recipe() == RECIPE
    assert run.classes() == TABLE


def test_the_network_has_the_best_weights_or_else_the_last(run: Run) -> None:
    net = RECIPE.build()
    save_weights(run.best, net)
    x = torch.rand(1, 1, 5, 6) * 255
    found = run.network()
    torch.testing.assert_close(found(x), net.eval()(x))
    run.best.unlink()
    assert not torch.allclose(run.network()(x), found(x))


def test_weights_keep_their_notes(run: Run) -> None:
    assert weights_notes(run.last) == {"step": "3"}
    assert weights_notes(run.best) == {}


def test_weights_may_be_read_by_whom_other_files_may(run: Run) -> None:
    (run.path / "other").touch()
    assert run.last.stat().st_mode == (run.path / "other").stat().st_mode


def test_weights_in_channels_last_and_shared_ones_are_saved(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3)).to(
        memory_format=torch.channels_last
    )
    net[1].weight = net[0].weight
    save_weights(tmp_path / "w.safetensors", net)
    twin = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3))
    load_weights(tmp_path / "w.safetensors", twin)
    assert torch.equal(twin[1].weight, net[0].weight)


def test_weights_of_another_network_name_the_layers(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, nn.Sequential(nn.Conv2d(2, 2, 3), nn.Linear(1, 1)))
    with pytest.raises(BadRunError) as caught:
        load_weights(path, nn.Sequential(nn.Conv2d(2, 5, 3), nn.Identity(), nn.Linear(1, 1)))
    message = str(caught.value)
    assert "0.weight is (2, 2, 3, 3), not (5, 2, 3, 3)" in message
    assert "; and 3 more" in message


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff" * 64])
def test_damaged_weights_are_refused(run: Run, content: bytes) -> None:
    run.last.write_bytes(content)
    with pytest.raises(BadRunError, match=r"last\.safetensors` must be a safetensors file"):
        run.network()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRunError, match=r"must be the folder of a training run, .*network\.json"):
        Run.open(tmp_path)


def test_a_run_without_weights_is_refused(run: Run) -> None:
    assert Run.open(run.path) == run
    run.last.unlink()
    with pytest.raises(BadRunError, match=r"must hold trained weights, .*: remove the folder"):
        Run.open(run.path)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"name": "unet"}'])
def test_a_damaged_recipe_is_refused(run: Run, text: str) -> None:
    run.network_json.write_text(text)
    with pytest.raises(BadRunError, match=r"network\.json` must be a file that"):
        run.recipe()


@pytest.mark.parametrize("text", ["", "- 1", "a: ["])
def test_a_damaged_config_is_refused(run: Run, text: str) -> None:
    run.config_yaml.write_text(text)
    with pytest.raises(BadRunError, match=r"config\.yaml` must be a file that"):
        run.config()


def test_a_folder_in_use_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(BadRunError, match="must be a new or empty folder"):
        Run.create(tmp_path)
    with pytest.raises(BadRunError, match="must be a new or empty folder"):
        Run.create(tmp_path / "note.txt")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadOutputError, match="`out` must be a folder that can be written"):
        Run.create(tmp_path / "file" / "run")


def test_nan_is_null_in_json(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"iu": {"a": math.nan, "b": (1, math.inf)}})
    assert json.loads((tmp_path / "x.json").read_text()) == {"iu": {"a": None, "b": [1, None]}}


def test_rows_come_back_as_numbers_and_a_torn_one_is_left_out(run: Run) -> None:
    append_row(run.steps_csv, {"step": 1, "loss": 0.5})
    append_row(run.steps_csv, {"step": 2, "loss": math.nan})
    with run.steps_csv.open("a") as file:
        file.write("3,")
    rows = run.steps()
    assert rows[0] == {"step": 1, "loss": 0.5}
    assert isinstance(rows[0]["step"], int)
    assert math.isnan(rows[1]["loss"])
    assert len(rows) == 2
    assert run.validation() == []


@pytest.mark.parametrize(("step", "kept"), [(0, []), (2, [1, 2]), (9, [1, 2, 3])])
def test_rows_behind_a_step_can_be_dropped(run: Run, step: int, kept: list[int]) -> None:
    for i in (1, 2, 3):
        append_row(run.steps_csv, {"step": i, "loss": 0.5})
    drop_rows_after(run.steps_csv, step)
    append_row(run.steps_csv, {"step": 99, "loss": 0.5})
    assert [row["step"] for row in run.steps()] == [*kept, 99]


def test_rows_that_cannot_be_written_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadOutputError, match="must be writable, got"):
        append_row(tmp_path / "none" / "rows.csv", {"step": 1})


def test_a_run_cannot_name_a_program_as_its_network(run: Run, tmp_path: Path) -> None:
    values = json.loads(run.network_json.read_text())
    trap = {"name": "os:system", "options": {"command": f"touch {tmp_path / 'sprung'}"}}
    run.network_json.write_text(json.dumps(values | trap))
    with pytest.raises(BadConfigError, match="`net` = 'os:system' must be a factory of networks"):
        run.network()
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("kind", ["a file", "a package"])
def test_code_in_the_folder_of_a_run_is_not_imported(
    kind: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(run.path.parent)
    module = run.path / ("trap.py" if kind == "a file" else "trap/__init__.py")
    module.parent.mkdir(exist_ok=True)
    module.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    name = f"{run.path.name}.trap:Net"
    values = json.loads(run.network_json.read_text())
    run.network_json.write_text(json.dumps(values | {"name": name}))
    run.write_config({"net": name})
    for opened in (run.network, run.config):
        with pytest.raises(BadRunError, match="must lie outside of its run"):
            opened()
    assert not (tmp_path / "sprung").exists()


def test_a_checkpoint_that_would_run_something_says_what(run: Run, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'sprung'}",)

    torch.save({"state_dict": Trap()}, run.checkpoint)
    with pytest.raises(
        BadRunError, match=r"which was not run \(posix\.system\); restore"
    ) as caught:
        read_checkpoint(run.checkpoint)
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "sprung").exists()
