"""`fullconv plan`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
