"""Ctrl-C in a real process, and a disk that is really full."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fullconv.runs import Run

PROGRAM = """
import sys
from pathlib import Path
from fullconv.training import TrainConfig, train

if __name__ == "__main__":
    train(TrainConfig(data=Path(sys.argv[1]), out=Path(sys.argv[2]), minutes=5,
                      options={"width": 4, "depth": 2}))
"""


def start(scenes: Path, out: Path, before: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", before + PROGRAM, str(scenes), str(out)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def wait_for_rows(run: Run, process: subprocess.Popen[str], count: int) -> None:
    while len(run.steps()) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.timeout(120)
def test_ctrl_c_leaves_a_usable_run(scenes: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    process = start(scenes, run.path)
    wait_for_rows(run, process, 3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    found = Run.open(run.path)
    assert found.about()["finished"] is False
    assert found.about()["steps"] == found.steps()[-1]["step"]
    assert found.checkpoint.exists()
    found.network()


@pytest.mark.timeout(120)
def test_a_full_disk_is_said_plainly_and_leaves_no_torn_file(scenes: Path, tmp_path: Path) -> None:
    """The process may write no file above 20 kB: rows fit, weights do not."""
    limit = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
    )
    run = Run(tmp_path / "run")
    process = start(scenes, run.path, before=limit)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "BadOutputError" in errors
    assert "File too large" in errors
    assert json.loads(run.network_json.read_text())["name"] == "unet"
    assert not list(run.path.glob("*.safetensors"))
    assert not list(run.path.glob(".*"))
