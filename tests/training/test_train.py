"""The whole job on a small data set: what a run holds, stopping, going on, and bad checkpoints."""

import io
import pickle
import shutil
import signal
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from fullconv.errors import BadConfigError, BadDataError, BadOutputError, BadRunError
from fullconv.images import open_dataset, survey
from fullconv.runs import Run
from fullconv.training import TrainConfig, _callbacks, _step, _train, score_run, train

SMALL = {"width": 4, "depth": 2}


def config(data: Path, out: Path, **changes: Any) -> TrainConfig:
    values = {
        "epochs": 3,
        "batch": 2,
        "options": SMALL,
        "workers": 0,
        "sampling": "whole",
    } | changes
    return TrainConfig(data=data, out=out, **values)


def quietly(settings: TrainConfig | None = None, resume: Path | None = None) -> Run:
    return train(settings, resume=resume, console=Console(file=io.StringIO()))


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.last)


def same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def press_ctrl_c_at(
    step: int, monkeypatch: pytest.MonkeyPatch, number: signal.Signals = signal.SIGINT
) -> None:
    """Send the signal in the middle of a step, once."""
    plain = _step.step_loss
    steps: list[int] = []

    def interrupted(*args: Any) -> torch.Tensor:
        steps.append(1)
        if len(steps) == step:
            signal.raise_signal(number)
        return plain(*args)

    monkeypatch.setattr(_step, "step_loss", interrupted)


@pytest.fixture(scope="module")
def finished(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return quietly(config(scenes, tmp_path_factory.mktemp("runs") / "run"))


def test_a_run_holds_all_that_it_promises(finished: Run, scenes: Path) -> None:
    data = finished.data()
    assert {s["name"] for split in data["splits"].values() for s in split} == {
        path.stem for path in (scenes / "images").iterdir()
    }
    steps = finished.steps()
    per_epoch = -(-len(data["splits"]["train"]) // 2)
    assert [row["step"] for row in steps] == list(range(1, 3 * per_epoch + 1))
    assert [row["epoch"] for row in steps] == [e for e in range(3) for _ in range(per_epoch)]
    assert steps[-1]["images"] == 3 * len(data["splits"]["train"])
    assert all(row["lr"] > 0 for row in steps)
    assert finished.validation()[-1]["step"] == 3 * per_epoch
    assert finished.about()["finished"] is True
    assert finished.about()["steps"] == 3 * per_epoch
    assert finished.config()["options"] == SMALL
    assert list(finished.tensorboard.glob("events*"))


def test_the_evaluation_is_that_of_the_predictions_on_disk(finished: Run, scenes: Path) -> None:
    names = [s["name"] for s in finished.data()["splits"]["val"]]
    counts = np.zeros((2, 2), int)
    for name in names:
        truth = np.asarray(Image.open(scenes / "masks" / f"{name}.png"))
        labels = np.asarray(Image.open(finished.predictions / f"{name}.png"))
        for i in (0, 1):
            for j in (0, 1):
                counts[i, j] += ((truth == i) & (labels == j)).sum()
    evaluation = finished.evaluation()
    assert evaluation["confusion"] == counts.tolist()
    assert evaluation["pixel_accuracy"] == pytest.approx(np.trace(counts) / counts.sum())
    assert evaluation["split"] == "val"
    assert [image["name"] for image in evaluation["images"]] == names


def test_the_best_weights_are_those_of_the_largest_mean_iu(finished: Run) -> None:
    best = max(row["mean_iu"] for row in finished.validation())
    assert finished.evaluation()["mean_iu"] == pytest.approx(best, abs=1e-6)


def test_the_network_of_a_run_takes_raw_pixels_of_any_size(finished: Run) -> None:
    net = finished.network()
    assert not net.training
    with torch.inference_mode():
        assert net(torch.full((1, 3, 7, 9), 200.0)).shape == (1, 2, 7, 9)


def test_workers_and_repetition_change_nothing(finished: Run, scenes: Path, tmp_path: Path) -> None:
    run = quietly(config(scenes, tmp_path / "run", workers=2))
    assert same(weights(run), weights(finished))
    losses = [[row["loss"] for row in r.steps()] for r in (run, finished)]
    assert losses[0] == losses[1]


def test_behind_the_first_thousand_every_tenth_step_and_the_last_have_a_row(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_callbacks, "DENSE_STEPS", 5)
    run = quietly(config(scenes, tmp_path / "run", epochs=3, batch=1))
    rows = run.steps()
    total = 3 * len(run.data()["splits"]["train"])
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, *range(10, total, 10), total]
    dense = quietly_dense(scenes, tmp_path, monkeypatch)
    assert rows[5]["loss"] == pytest.approx(np.mean([row["loss"] for row in dense[5:10]]))


def quietly_dense(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, float]]:
    monkeypatch.setattr(_callbacks, "DENSE_STEPS", 1000)
    return quietly(config(scenes, tmp_path / "dense", epochs=3, batch=1)).steps()


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bf16"},
        {"loss": "dice"},
        {"loss": "focal", "class_weights": "balanced"},
        {"loss": "cross-entropy-sum", "optimizer": "sgd", "lr": 1e-5, "class_weights": "none"},
        {"net": "fcn8s", "options": {"width": 4}, "augment": False},
    ],
    ids=str,
)
def test_every_choice_learns(changes: dict[str, Any], scenes: Path, tmp_path: Path) -> None:
    run = quietly(config(scenes, tmp_path / "run", **({"epochs": 7} | changes)))
    losses = [row["loss"] for row in run.steps()]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert run.evaluation()["mean_iu"] > 0.4


def test_another_seed_changes_the_losses(finished: Run, scenes: Path, tmp_path: Path) -> None:
    run = quietly(config(scenes, tmp_path / "run", seed=1, epochs=1))
    assert run.steps()[0]["loss"] != finished.steps()[0]["loss"]


@pytest.mark.parametrize("step", [1, 2, 4, 5])
def test_a_run_stopped_and_resumed_equals_one_that_was_not(
    step: int, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout, so that random numbers must go on as well; at and between epoch ends."""
    changes = {"net": "fcn8s", "options": {"width": 2, "dropout": 0.5}}
    whole = quietly(config(scenes, tmp_path / "whole", **changes))
    press_ctrl_c_at(step, monkeypatch)
    stopped = quietly(config(scenes, tmp_path / "stopped", **changes))
    assert stopped.about()["finished"] is False
    assert stopped.steps()[-1]["step"] == step
    assert stopped.network()(torch.zeros(1, 3, 8, 8)).shape == (1, 2, 8, 8)
    assert not same(weights(stopped), weights(whole))
    resumed = quietly(resume=stopped.path)
    assert same(weights(resumed), weights(whole))
    assert same(load_file(resumed.best), load_file(whole.best))
    for rows in (Run.steps, Run.validation):
        kept = [[{**row, "seconds": 0} for row in rows(run)] for run in (resumed, whole)]
        assert kept[0] == kept[1]


def test_a_run_goes_on_after_its_data_moved(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(scenes, tmp_path / "old")
    whole = quietly(config(tmp_path / "old", tmp_path / "whole"))
    press_ctrl_c_at(2, monkeypatch)
    stopped = quietly(config(tmp_path / "old", tmp_path / "stopped"))
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(BadDataError, match=r"old does not exist"):
        quietly(resume=stopped.path)
    resumed = quietly(config(tmp_path / "new", stopped.path), resume=stopped.path)
    assert same(weights(resumed), weights(whole))
    assert resumed.data()["data"] == str(tmp_path / "new")
    paths = [Path(s["image"]) for split in resumed.data()["splits"].values() for s in split]
    assert paths
    assert all(path.exists() for path in paths)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("images", r"the images must have 3 channels, .*, got 1; begin a new run"),
        ("classes", r"the masks must have the classes of the run .*, got other, "),
    ],
)
def test_a_run_does_not_go_on_with_images_of_another_kind(
    what: str, said: str, scenes: Path, finished: Run, tmp_path: Path
) -> None:
    shutil.copytree(scenes, tmp_path / "other")
    shutil.copytree(finished.path, tmp_path / "run")
    if what == "images":
        for path in (tmp_path / "other").glob("**/images/*"):
            with Image.open(path) as image:
                image.convert("L").save(path)
    else:
        names = finished.classes().names
        rows = "\n".join(f"{i},{'other' if i == 0 else n}" for i, n in enumerate(names))
        (tmp_path / "other" / "classes.csv").write_text(f"index,name\n{rows}\n")
    before = (tmp_path / "run" / "steps.csv").read_bytes()
    settings = config(tmp_path / "other", tmp_path / "run", epochs=9)
    with pytest.raises(BadDataError, match=said):
        quietly(settings, resume=tmp_path / "run")
    assert (tmp_path / "run" / "steps.csv").read_bytes() == before


def test_an_image_without_a_mask_is_noted_as_that(scenes: Path) -> None:
    dataset = open_dataset(scenes)
    bare = {split: tuple(replace(s, mask=None) for s in dataset.splits[split]) for split in ["val"]}
    facts = _train._data_facts(scenes, replace(dataset, splits=bare), survey(dataset))
    assert {row["mask"] for row in facts["splits"]["val"]} == {None}


def test_a_terminated_run_is_saved_as_well(
    finished: Run, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    press_ctrl_c_at(2, monkeypatch, signal.SIGTERM)
    with pytest.raises(SystemExit):
        quietly(config(scenes, tmp_path / "run"))
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    stopped = Run.open(tmp_path / "run")
    assert stopped.about()["finished"] is False
    assert same(weights(quietly(resume=stopped.path)), weights(finished))


def test_a_killed_run_goes_on_from_its_last_save(
    finished: Run, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between saves: rows behind the checkpoint are dropped and written again."""
    press_ctrl_c_at(3, monkeypatch)
    run = quietly(config(scenes, tmp_path / "run"))
    with run.steps_csv.open("a") as file:
        file.write("4,0,9.0,8,0.5,0.001\n5,0,9.")
    resumed = quietly(resume=run.path)
    assert same(weights(resumed), weights(finished))
    assert [row["step"] for row in resumed.steps()] == [row["step"] for row in finished.steps()]


class KilledError(BaseException):
    """As if the process had ended here."""


def killed_in(moment: str, monkeypatch: pytest.MonkeyPatch, settings: TrainConfig, resume: Path | None = None) -> None:  # fmt: skip
    def end(*_: Any, **__: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(_train, moment, end)
        with pytest.raises(KilledError):
            quietly(settings, resume=resume)


@pytest.mark.parametrize("moment", ["evaluate", "note_end", "note_finished"])
def test_a_run_that_ended_behind_its_last_step_is_evaluated(
    moment: str, finished: Run, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_in(moment, monkeypatch, config(scenes, tmp_path / "run"))
    assert not Run(tmp_path / "run").about()["finished"]
    with monkeypatch.context() as patched:
        patched.delattr(_train, "fit")  # it is not trained again
        run = quietly(resume=tmp_path / "run")
    assert run.evaluation() == finished.evaluation()
    assert same(weights(run), weights(finished))
    about = run.about()
    assert (about["finished"], len(about["resumed"])) == (True, 1)
    assert about["steps"] == finished.about()["steps"]
    assert about.keys() == finished.about().keys()


def test_an_evaluation_of_fewer_epochs_is_not_that_of_the_run(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = quietly(config(scenes, tmp_path / "run", epochs=1))
    more = config(scenes, run.path, epochs=2)
    killed_in("evaluate", monkeypatch, more, resume=run.path)
    found = quietly(resume=run.path)
    assert found.evaluation() == score_run(found, scenes).evaluation.to_json("val")
    with pytest.raises(BadConfigError, match=r"`epochs` must be more than the run has had \(2\)"):
        quietly(resume=run.path)


def test_a_finished_run_goes_on_only_with_more_to_do(finished: Run) -> None:
    with pytest.raises(BadConfigError, match=r"`epochs` must be more than the run has had \(3\)"):
        quietly(resume=finished.path)


def test_what_shapes_a_run_cannot_change_when_it_goes_on(finished: Run, scenes: Path) -> None:
    changed = config(scenes, finished.path, batch=1)
    with pytest.raises(BadConfigError, match=r"`batch` must stay 2 .* got 1"):
        quietly(changed, resume=finished.path)


def test_time_is_a_budget_too(scenes: Path, tmp_path: Path) -> None:
    run = quietly(config(scenes, tmp_path / "run", epochs=None, minutes=0.02))
    last = run.steps()[-1]
    assert 1.2 <= last["seconds"] < 3
    assert last["lr"] < run.steps()[len(run.steps()) // 2]["lr"]
    with pytest.raises(BadConfigError, match="`minutes` must be more than the run has had"):
        quietly(resume=run.path)
    more = quietly(replace(config(scenes, run.path, epochs=None), minutes=0.03), resume=run.path)
    assert more.steps()[-1]["step"] > last["step"]


def test_an_existing_run_is_never_overwritten(finished: Run, scenes: Path) -> None:
    before = finished.steps_csv.read_bytes()
    with pytest.raises(BadRunError, match=r"`out` must be a new or empty folder, got .*--resume"):
        quietly(config(scenes, finished.path))
    assert finished.steps_csv.read_bytes() == before


class Danger:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.fixture
def stopped(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    press_ctrl_c_at(2, monkeypatch)
    return quietly(config(scenes, tmp_path / "stopped"))


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_checkpoint_that_would_run_code_is_refused(
    as_zip: bool, stopped: Run, tmp_path: Path
) -> None:
    mark = tmp_path / "it ran"
    if as_zip:
        torch.save({"state_dict": Danger(mark)}, stopped.checkpoint)
    else:
        stopped.checkpoint.write_bytes(pickle.dumps(Danger(mark)))
    with pytest.raises(BadRunError, match="got something else, which was not run"):
        quietly(resume=stopped.path)
    assert not mark.exists()


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_damaged_checkpoint_is_refused_and_nothing_is_lost(size: int, stopped: Run) -> None:
    whole = stopped.checkpoint.read_bytes()
    stopped.checkpoint.write_bytes(whole[:size])
    before = stopped.best.read_bytes(), stopped.steps_csv.read_bytes()
    with pytest.raises(BadRunError, match=r"checkpoint\.ckpt` must (be a whole|hold tensors)"):
        quietly(resume=stopped.path)
    assert (stopped.best.read_bytes(), stopped.steps_csv.read_bytes()) == before


def test_a_checkpoint_of_something_else_is_refused(stopped: Run) -> None:
    torch.save({"state_dict": {}}, stopped.checkpoint)
    with pytest.raises(BadRunError, match="got one without optimizer_states"):
        quietly(resume=stopped.path)


def test_a_checkpoint_of_another_network_names_the_layers(stopped: Run) -> None:
    state = torch.load(stopped.checkpoint, weights_only=True)
    state["state_dict"]["net.net.score.weight"] = torch.zeros(7, 4, 1, 1)
    torch.save(state, stopped.checkpoint)
    with pytest.raises(BadRunError, match=r"net\.net\.score\.weight is \(7, 4, 1, 1\), not \(2, 4"):
        quietly(resume=stopped.path)


def test_a_run_without_checkpoint_cannot_go_on(stopped: Run) -> None:
    stopped.checkpoint.unlink()
    with pytest.raises(BadRunError, match=r"without checkpoint\.ckpt; train it anew"):
        quietly(resume=stopped.path)


def test_a_new_run_needs_settings() -> None:
    with pytest.raises(BadConfigError, match="`config` must be given for a new run"):
        quietly()


def test_a_loss_that_is_no_number_ends_the_run_with_advice(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(BadConfigError, match=r"`lr` must be small enough .* Try a tenth"):
        quietly(config(scenes, tmp_path / "run", lr=1e30))
    assert not [t for t in threading.enumerate() if "Refresh" in type(t).__name__]  # of the bar


def test_bad_data_are_found_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(BadDataError):
        quietly(config(tmp_path, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_full_disk_keeps_what_was_saved(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    press_ctrl_c_at(2, monkeypatch)
    run = quietly(config(scenes, tmp_path / "run"))
    before = run.checkpoint.read_bytes(), run.last.read_bytes()

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("lightning.pytorch.Trainer.save_checkpoint", refuse)
        with pytest.raises(BadOutputError, match="No space left on device"):
            quietly(resume=run.path)
    assert (run.checkpoint.read_bytes(), run.last.read_bytes()) == before
    assert not list(run.path.glob(".*"))
    assert quietly(resume=run.path).about()["finished"] is True


@pytest.mark.parametrize(("number", "error"), [(28, BadOutputError), (2, FileNotFoundError)])
def test_only_what_the_disk_refuses_is_blamed_on_it(
    number: int,
    error: type[Exception],
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, "what the system says")

    monkeypatch.setattr("lightning.pytorch.loggers.TensorBoardLogger.log_metrics", refuse)
    with pytest.raises(error, match="what the system says"):
        quietly(config(scenes, tmp_path / "run", epochs=8))


NETWORKS = """
from torch import nn

def wrong(classes, channels):
    return nn.Conv2d(channels, classes + 3, 3, padding=1)

def still(classes, channels):
    return nn.Identity()
"""


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("wrong", "a channel for each of the 2 classes, got 5"),
        ("still", "must have weights to train"),
    ],
)
def test_a_network_that_cannot_learn_these_classes_is_refused_and_leaves_nothing(
    factory: str, message: str, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd_networks.py").write_text(NETWORKS)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadConfigError, match=message):
        train(TrainConfig(data=scenes, out=tmp_path / "run", net=f"odd_networks:{factory}"))
    assert not (tmp_path / "run").exists()


def evaluated_within(limit: int, run: Run, scenes: Path) -> str:
    """Evaluate a finished run anew, and return what is said."""
    run.evaluation_json.unlink()
    dataset, said = open_dataset(scenes), io.StringIO()
    console = Console(file=said, width=300)
    _train._evaluate_if_it_fits(run, dataset, survey(dataset), limit=limit, console=console)
    return said.getvalue()


def test_a_run_whose_memory_is_too_small_to_evaluate_it_is_kept_and_says_so(
    finished: Run, scenes: Path, tmp_path: Path
) -> None:
    run = Run.open(shutil.copytree(finished.path, tmp_path / "run"))
    said = evaluated_within(2**20, run, scenes)
    assert "warning: the run is not evaluated: `memory` must hold the whole process" in said
    assert not run.evaluation_json.exists()


def test_what_steps_took_is_given_back_before_memory_is_asked_for(
    finished: Run, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.open(shutil.copytree(finished.path, tmp_path / "run"))
    left, seen = _train.left_for_windows, []

    def asked(limit: int, *args: Any, **kw: Any) -> int:
        seen.append("asked")
        return left(limit, *args, **kw)

    monkeypatch.setattr(_train, "left_for_windows", asked)
    monkeypatch.setattr(_train, "give_back_freed_memory", lambda: seen.append("given back"))
    assert "warning" not in evaluated_within(2**34, run, scenes)
    assert seen == ["given back", "asked"]
    assert run.evaluation() == finished.evaluation()
