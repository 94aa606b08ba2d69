"""The section on memory: bars by purpose and by layer, and what is said of the run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fullconv.reporting import write_report
from fullconv.reporting._gather import gather
from fullconv.reporting._memory import memory
from fullconv.runs import Run, write_json

MIB = 2**20
BILL = {
    "parameters": 10, "gradients": 8, "optimizer": 20, "data": 4, "saved": 400, "workspace": 100,
}  # fmt: skip


def known(**changes: Any) -> dict[str, Any]:
    layer = {"module": "net.down.0", "kind": "Conv2d", "saved_bytes": 200 * MIB}
    itself = {"module": "", "kind": "UNet", "saved_bytes": 50 * MIB}
    step = {
        "images": 2, "shape": [3, 980, 1000], "fits": True, "peak_bytes": 542 * MIB, "error": 0.08,
        "bill": {key: value * MIB for key, value in BILL.items()}, "layers": [layer, itself],
    }  # fmt: skip
    values = {"step": step, "left_bytes": 3000 * MIB, "memory_bytes": None, "shortages": []}
    return values | {"taken_bytes": 900 * MIB} | changes


@pytest.fixture
def run(make_run: Any, story: Any) -> Run:
    return make_run(story)


def section(run: Run, values: dict[str, Any]) -> str:
    write_json(run.memory_json, values)
    found = memory(gather(run))
    assert found is not None
    return str(found.body)


def test_bars_are_as_long_as_what_they_stand_for(run: Run) -> None:
    body = section(run, known())
    widths = [float(w) for w in re.findall(r"width:([0-9.]+)%", body)]
    expected = [100 * value / 400 for value in BILL.values()] + [100.0, 25.0]
    assert widths == pytest.approx(expected, abs=0.01)
    for said in (
        "400.0 MiB",
        "net.down.0 (Conv2d)",
        "the network itself",
        "542.0 MiB",
        "900.0 MiB",
    ):
        assert said in body
    assert "2 images of 980" in body
    assert "windows" not in body


def test_cuts_and_shortages_are_told(run: Run) -> None:
    values = known(memory_bytes=500 * MIB, shortages=[{"step": 7, "memory_bytes": 500 * MIB}])
    body = section(run, values)
    assert "cut into windows, to add at most 500.0 MiB" in body
    assert "Step 7 ran out of memory" in body


def test_nothing_is_said_where_nothing_is_known(run: Run) -> None:
    assert memory(gather(run)) is None
    step = {"images": 1, "shape": [3, 9, 9], "fits": True, "why": "it looks at values"}
    write_json(run.memory_json, known(step=step))
    assert memory(gather(run)) is None


def test_the_report_has_the_section(run: Run) -> None:
    write_json(run.memory_json, known())
    page = Path(write_report(run)).read_text()
    assert 'id="memory"' in page
    assert "Where the memory goes" in page
