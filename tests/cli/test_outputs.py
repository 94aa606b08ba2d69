"""Files that cannot be written: refused before anything is computed for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

COMMANDS = [
    ("plan DATA --json FILE", "fullconv.planning.plan"),
    ("evaluate RUN DATA --json FILE", "fullconv.training.score_run"),
    ("evaluate RUN DATA --csv FILE", "fullconv.training.score_run"),
    ("evaluate DATA --upper-bound 4 --json FILE", "fullconv.training.upper_bounds"),
    ("trace unet --picture FILE.svg", "fullconv.networks.build"),
    ("verify unet --json FILE", "fullconv.verifying.verify"),
    ("verify RUN IMAGE --picture FILE.png", "fullconv.verifying.seams"),
    ("predict RUN IMAGE --out FILE", "fullconv.prediction.predict_files"),
]


@pytest.mark.parametrize(("command", "computes"), COMMANDS, ids=[c for c, _ in COMMANDS])
def test_what_cannot_be_written_is_refused_before_it_is_computed(
    command: str,
    computes: str,
    trained: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fullconv: Any,
) -> None:
    def compute(*_: object, **__: object) -> None:
        raise AssertionError("it was computed")

    monkeypatch.setattr(computes, compute)
    (tmp_path / "file").write_text("in the way")
    places = {
        "DATA": data, "RUN": trained, "IMAGE": data / "images" / "0.png",
        "FILE": tmp_path / "file" / "out",
    }  # fmt: skip
    for name, place in places.items():
        command = command.replace(name, str(place))
    found = fullconv(*command.split())
    assert (found.status, found.out) == (1, "")
    assert "must be writable, got: Not a directory" in found.err


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path, fullconv: Any) -> None:
    found = fullconv("verify", "unet", "--json", tmp_path)
    assert (found.status, found.out) == (1, "")
    assert "must be writable, got: Is a directory" in found.err


def test_folders_of_a_file_need_not_be_there_yet(
    trained: Path, data: Path, tmp_path: Path, fullconv: Any
) -> None:
    picture = tmp_path / "new" / "folder" / "seams.png"
    image = data / "images" / "0.png"
    assert fullconv("verify", trained, image, "--picture", picture).status == 0
    assert picture.is_file()
    found = fullconv("verify", trained, image, "--picture", picture.with_suffix(".svg"))
    assert found.status == 1
    assert "`--picture` draws a PNG file, got" in found.err
