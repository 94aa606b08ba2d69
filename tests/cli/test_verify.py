"""`fullconv verify`: a table, a JSON file, and an exit status that says the same."""

import json
from pathlib import Path
from typing import Any


def test_a_network_of_the_registry_passes(tmp_path: Path, fullconv: Any) -> None:
    file = tmp_path / "certificate.json"
    found = fullconv("verify", "unet", "--shape", 40, 72, "--json", file)
    assert (found.status, found.out.splitlines()[-1]) == (0, "passed")
    assert json.loads(file.read_text())["passed"] is True


def test_a_network_that_is_not_local_fails_by_name(
    tmp_path: Path, monkeypatch: Any, fullconv: Any
) -> None:
    (tmp_path / "normed_networks.py").write_text(
        "from torch import nn\n"
        "def normed(classes, channels):\n"
        "    return nn.Sequential(nn.Conv2d(channels, classes, 3), nn.GroupNorm(1, classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    found = fullconv("verify", "normed_networks:normed", "--shape", 32, 32)
    assert (found.status, found.out.splitlines()[-1]) == (1, "FAILED")
    assert "`1` (GroupNorm) is not local" in found.out


def test_options_reach_the_network(fullconv: Any) -> None:
    found = fullconv(
        "verify", "unet", "--options.depth", 1, "--options.width", 2, "--shape", 20, 20
    )
    assert (found.status, found.out.splitlines()[-1]) == (0, "passed")
    assert fullconv("verify", "unet", "--options.widht", 2).status == 1


def test_flags_of_the_other_way_to_verify_are_answered(fullconv: Any) -> None:
    found = fullconv("verify", "unet", "--picture", "seams.png")
    assert (found.status, found.out) == (1, "")
    assert (
        "`--picture` draws where windows of an image differ: give a run and an image" in found.err
    )
    found = fullconv("verify", "runs/field", "scan.png", "--json", "certificate.json")
    assert found.status == 1
    assert "`--json` writes the certificate of a network: leave out the image" in found.err
    for flag in ("shape", "channels", "classes", "seed", "options.width"):
        found = fullconv("verify", "runs/field", "scan.png", f"--{flag}", 0)
        assert found.status == 1
        name = flag.partition(".")[0]
        assert f"`--{name}` is for networks by name, on random numbers: leave out" in found.err


def test_a_run_without_an_image_is_answered(trained: Path, fullconv: Any) -> None:
    found = fullconv("verify", trained)
    assert found.status == 1
    assert "`net` must be the name of a network where no image is given, got the run" in found.err


def test_a_run_on_an_image_has_no_seams(
    trained: Path, data: Path, tmp_path: Path, fullconv: Any
) -> None:
    picture = tmp_path / "new" / "seams.png"
    found = fullconv("verify", trained, data / "images" / "0.png", "--picture", picture)
    assert found.status == 0, found.err
    assert "windows: largest difference" in found.out
    assert found.out.endswith("passed\n")
    assert picture.exists()
