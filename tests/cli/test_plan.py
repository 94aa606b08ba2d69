"""`fullconv plan`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

OPTIONS = ("--options.width", 4, "--options.depth", 2)


def test_a_plan_says_what_to_choose(data: Path, tmp_path: Path, fullconv: Any) -> None:
    file = tmp_path / "plan.json"
    found = fullconv("plan", data, *OPTIONS, "--memory", "500MB", "--no-measure", "--json", file)
    assert found.status == 0, found.err
    assert "whole images, up to" in found.out
    values = json.loads(file.read_text())
    assert values["batch"] == 1
    assert values["images"] > 1


def test_memory_that_holds_nothing_is_refused(data: Path, fullconv: Any) -> None:
    found = fullconv("plan", data, *OPTIONS, "--memory", "1KB", "--no-measure")
    assert found.status == 1
    assert "memory" in found.err


def test_an_amount_that_is_none_is_refused(data: Path, fullconv: Any) -> None:
    found = fullconv("plan", data, *OPTIONS, "--memory", "much", "--no-measure")
    assert found.status == 1
    assert "`memory` must be an amount such as '2 GiB'" in found.err


def planned(fullconv: Any, data: Path, file: Path, *flags: object) -> dict[str, Any]:
    found = fullconv(
        "plan", data, *OPTIONS, "--memory", "1GB", "--no-measure", *flags, "--json", file
    )
    assert found.status == 0, found.err
    return json.loads(file.read_text()) | {"last": found.out.splitlines()[-1]}


def test_the_steps_of_a_sampling_are_planned_as_train_makes_them(
    data: Path, tmp_path: Path, fullconv: Any
) -> None:
    file = tmp_path / "plan.json"
    whole = planned(fullconv, data, file, "--sampling", "whole")
    assert planned(fullconv, data, file) == whole  # too small to cut sub-images from
    crops = planned(fullconv, data, file, "--sampling", "crop:7x20")
    assert (crops["shape"], crops["batch"]) == ([3, 20, 20], 7)
    px = 3 * 40 * 52 + 2 * 33 * 52  # 5 of 6 images are trained on
    assert crops["images"] in {-(-px // 400), -(-(px - 7 * 52) // 400)}
    few = planned(fullconv, data, file, "--sampling", "balanced:30")
    assert few["regimes"][-1]["name"] == "balanced"
    assert few["regimes"][-1]["terms"] == 30
    coarse = planned(fullconv, data, file, "--sampling", "sampled-coarse:0.5", "--batch", 2)
    assert next(r for r in coarse["regimes"] if r["name"] == "sampled")["images"] == 4


def test_what_auto_may_begin_with_is_named(tmp_path: Path, fullconv: Any) -> None:
    for name in ("images", "masks"):
        (tmp_path / "large" / name).mkdir(parents=True)
    pixels = np.zeros((400, 520, 3), np.uint8)
    for i in range(3):
        Image.fromarray(pixels + i).save(tmp_path / "large" / "images" / f"{i}.png")
        Image.fromarray(pixels[..., 0] + i % 2).save(tmp_path / "large" / "masks" / f"{i}.png")
    file = tmp_path / "plan.json"
    auto = planned(fullconv, tmp_path / "large", file)
    assert auto["shape"] == [3, 400, 520]
    assert "the plan of --sampling whole; auto measures which of crop:4x256, " in auto["last"]
    crops = planned(fullconv, tmp_path / "large", file, "--sampling", "crop:4x256")
    assert crops["shape"] == [3, 256, 256]


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        ("patches", "`sampling` must be one of auto, whole,"),
        ("sampled:2", "a share above 0 and at most 1, such as sampled:0.25, got 'sampled:2'"),
        ("crop:4x256", "crop:4x256 needs images of at least 256 px per side"),
    ],
)
def test_a_sampling_that_train_refuses_is_refused(
    sampling: str, said: str, data: Path, fullconv: Any
) -> None:
    found = fullconv("plan", data, *OPTIONS, "--no-measure", "--sampling", sampling)
    assert (found.status, found.out) == (1, "")
    assert said in found.err


LOADED = """
import sys, psutil
from importlib import import_module
from fullconv.cli import main
from fullconv.planning import _budget
free, held = _budget.free_bytes, []
def seen(device):
    held.append(psutil.Process().memory_info().rss)
    return free(device)
_budget.free_bytes = seen
assert main(["plan", *sys.argv[1:], "--no-measure"]) == 0
before = psutil.Process().memory_info().rss
import_module("fullconv.training._train"), import_module("fullconv.reporting")
print(len(held), psutil.Process().memory_info().rss - before)
"""


def test_the_memory_that_is_planned_with_is_left_beside_what_train_loads(data: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, str(data), *map(str, OPTIONS)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    asked, more = map(int, done.stdout.splitlines()[-1].split())
    assert asked == 1
    assert more < 40 * 2**20
