"""The bar of a training."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from fullconv.training import TrainConfig, _progress, train


def test_the_bar_ends_full_however_quick_the_last_steps_were(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_progress, "REFRESH_S", 1e9)
    out = io.StringIO()
    options = {"width": 4, "depth": 1}
    config = TrainConfig(data=scenes, out=tmp_path / "run", epochs=1, options=options, workers=0)
    train(config, console=Console(file=out, width=200))
    bar = next(line for line in out.getvalue().splitlines() if line.startswith("training "))
    assert re.match(r"training ━+ loss [\d.]+  mean IU \S+  [\d.]+ images/s  [\d.]+ GiB ", bar)
