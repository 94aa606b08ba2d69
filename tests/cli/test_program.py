"""The program as a whole: help, exit statuses, Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fullconv import __version__
from fullconv.runs import Run

COMMANDS = ("demo", "train", "predict", "evaluate", "trace")
FLAGS = {
    "demo": "--out --seed --minutes",
    "train": (
        "--out --net --options --epochs --minutes --lr --precision --batch --seed --workers "
        "--class-weights --augment --no-augment --loss --optimizer --sampling --memory --config "
        "--resume"
    ),
    "predict": "--out --memory --probabilities --overlay --overwrite",
    "evaluate": "--json --csv --split --memory",
    "trace": "--channels --classes",
}
HEAVY = {"torch", "numpy", "lightning", "kornia", "matplotlib", "torchmetrics"}


def test_python_runs_the_package_as_the_program() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "fullconv", "nothing"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 2
    assert "nothing" in found.stderr


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys; from fullconv.cli import main\n"
        f"calls = [[], *([c] for c in {COMMANDS})]\n"
        "assert all(main([*call, '--help']) == 0 for call in calls)\n"
        "assert main(['--version']) == 0\n"
        f"sys.exit(', '.join({HEAVY} & set(sys.modules)) or 0)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("command", FLAGS)
def test_help_names_every_flag(command: str, fullconv: Any) -> None:
    shown = fullconv(command, "--help")
    assert shown.status == 0
    words = shown.out.replace("│", " ").split()
    assert [flag for flag in FLAGS[command].split() if flag not in words] == []


def test_help_of_train_says_what_the_settings_say(fullconv: Any) -> None:
    text = " ".join(fullconv("train", "--help").out.replace("│", " ").split())
    assert "Images per step; auto: as many as fit" in text
    assert "how a step is cut does not touch its gradient. [choices: auto] [default: 1]" in text
    assert "[choices: adamw, sgd] [default: adamw]" in text
    assert "Whether to augment. [default: True]" in text


def test_the_demo_ends_with_metrics_and_a_report(
    trained: Path, fullconv: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo itself is tested in its room; here it hands over a run that is there already."""
    asked: list[Any] = []

    def run_demo(out: Path, **settings: Any) -> Run:
        asked.append((out, settings))
        return Run(trained)

    monkeypatch.setattr("fullconv.demo.run_demo", run_demo)
    found = fullconv("demo", "--seed", 3, "--minutes", 0.5)
    assert found.status == 0
    assert asked == [(Path("runs/demo"), {"seed": 3, "minutes": 0.5})]
    assert "majority class" in found.out
    assert found.out.endswith(f"report: {trained / 'report.html'}\n")


def test_the_version_is_that_of_the_package(fullconv: Any) -> None:
    assert fullconv("--version").out.strip() == __version__


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit"], 'Unknown command "fit"'),
        (["train", "data", "--epoch", "3"], "Unknown option: --epoch. Did you mean --epochs?"),
        (["train", "data", "--epochs", "three"], 'unable to convert "three" into int'),
        (["train", "data", "--precision", "64"], 'Choose from: "32", "bf16"'),
        (["predict", "run"], "IMAGES requires an argument"),
        (["predict", "run", "a.png"], "--out requires an argument"),
    ],
)
def test_a_wrong_command_line_is_status_2(
    arguments: list[str], message: str, fullconv: Any
) -> None:
    found = fullconv(*arguments)
    assert found.status == 2
    assert message in " ".join(found.err.replace("│", " ").split())
    assert found.out == ""


def test_evaluating_a_run_takes_data(fullconv: Any) -> None:
    found = fullconv("evaluate", "run")
    assert found.status == 1
    assert "`data` must be given behind the run, got none" in found.err


def test_an_error_is_one_message_and_status_1(fullconv: Any, tmp_path: Path) -> None:
    found = fullconv("predict", tmp_path / "no [run]", "a.png", "--out", tmp_path)
    assert found.status == 1
    assert found.err.startswith("error: `run` must be the folder of a training run, got `")
    assert "no [run]" in found.err
    assert found.err.count("\n") == 1
    assert found.out == ""


def test_ctrl_c_outside_of_training_is_status_130(
    fullconv: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fullconv.runs.Run.open", interrupted)
    found = fullconv("predict", "run", "a.png", "--out", "out")
    assert (found.status, found.err) == (130, "stopped by Ctrl-C\n")


@pytest.mark.timeout(120)
def test_ctrl_c_in_training_leaves_a_run_that_can_be_used(
    data: Path, tmp_path: Path, fullconv: Any
) -> None:
    run = tmp_path / "run"
    command = ["train", str(data), "--out", str(run), "--minutes", "5", "--options.width", "4"]
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys, fullconv.cli; sys.exit(fullconv.cli.main())", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    while not (run / "steps.csv").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"go on with: fullconv train --resume {run}" in out
    assert "Traceback" not in err
    assert (run / "report.html").exists()
    assert fullconv("predict", run, data / "images" / "0.png", "--out", tmp_path).status == 0
