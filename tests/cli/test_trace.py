"""`fullconv trace`: against closed formulas."""

from pathlib import Path
from typing import Any

import pytest

FACTORY = """
from torch import nn

def valid(classes, channels):
    return nn.Sequential(nn.Conv1d(channels, 4, 5, stride=3), nn.Conv1d(4, classes, 3))

def pooled(classes, channels):
    return nn.Sequential(nn.Conv2d(channels, classes, 3), nn.AdaptiveAvgPool2d(1))
"""


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's own in the folder that the program is called from."""
    (tmp_path / "some_networks.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    return "some_networks"


def test_the_table_has_a_row_per_axis(factory: str, fullconv: Any) -> None:
    """Field of two convolutions: 5 + (3 - 1) * 3 = 11, at a stride of 3."""
    found = fullconv("trace", f"{factory}:valid", "--channels", 1)
    assert found.status == 0
    lines = found.out.split("halo (px)")[1].splitlines()
    rows = [line.split("│")[1:-1] for line in lines if line.startswith("│")]
    assert [[cell.strip() for cell in row][:4] for row in rows] == [["x", "11", "3", "3"]]


def test_a_network_that_is_not_local_is_refused_by_name(factory: str, fullconv: Any) -> None:
    found = fullconv("trace", f"{factory}:pooled")
    assert found.status == 1
    assert "`1` (AdaptiveAvgPool2d) is not local" in found.err


def test_layers_map_and_picture_are_shown(factory: str, tmp_path: Path, fullconv: Any) -> None:
    file = tmp_path / "sight.svg"
    net = f"{factory}:valid"
    found = fullconv("trace", net, "--channels", 1, "--shape", 200, "--picture", file)
    assert "an image of 200 px has a map of 64 units" in found.out
    assert [line.split("│")[4].strip() for line in found.out.splitlines() if "Conv1d" in line] == [
        "5",
        "11",
    ]
    assert file.read_text().startswith("<svg xmlns=")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--shape", 99, 99], "size in px for each of 1 axes, such as `--shape 980`, got 99 99"),
        (["--shape", 6], "got an image of 6 px: nearest are 11"),
        (["--picture", "sight.png"], "draws an SVG file, got sight.png: let it end in .svg"),
    ],
)
def test_flags_that_do_not_fit_are_answered(
    flags: list[Any], message: str, factory: str, fullconv: Any
) -> None:
    found = fullconv("trace", f"{factory}:valid", "--channels", 1, *flags)
    assert (found.status, found.out) == (1, "")
    assert message in found.err


def test_options_reach_the_network(fullconv: Any) -> None:
    """Each halving doubles the period."""
    found = fullconv("trace", "unet", "--options.depth", 1, "--options.stem", 1)
    assert found.status == 0
    assert [line.split()[-6] for line in found.out.splitlines() if line.startswith("│ y ")] == ["2"]
