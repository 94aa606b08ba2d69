"""`fullconv train`: where settings come from, what a run leaves, what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from fullconv.runs import Run

NETWORK = ("--options.width", "4", "--options.depth", "1")


def test_a_run_ends_with_metrics_and_a_report(data: Path, tmp_path: Path, fullconv: Any) -> None:
    run = tmp_path / "run"
    found = fullconv("train", data, "--out", run, "--epochs", 1, *NETWORK)
    assert found.status == 0
    assert f"report: {run / 'report.html'}" in found.out
    scores = json.loads((run / "evaluation.json").read_text())
    assert f"mean IU        │ {scores['mean_iu']:.3f}" in found.out
    assert f"│ square │ {scores['iu']['square']:.3f}" in found.out


def test_flags_outdo_the_file(data: Path, tmp_path: Path, fullconv: Any) -> None:
    values = {"minutes": 60, "batch": 2, "seed": 3, "options": {"width": 4, "depth": 1}}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(values | {"data": str(data), "augment": False}))
    run = tmp_path / "run"
    assert (
        fullconv("train", "--config", config, "--out", run, "--epochs", 1, "--seed", 4).status == 0
    )
    resolved = Run(run).config()
    assert {key: resolved[key] for key in ("minutes", "epochs", "batch", "seed", "augment")} == {
        "minutes": None,
        "epochs": 1,
        "batch": 2,
        "seed": 4,
        "augment": False,
    }
    assert resolved["options"] == values["options"]


def test_without_out_the_run_is_named_after_the_data(
    data: Path, tmp_path: Path, fullconv: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fullconv("train", data, "--epochs", 1, *NETWORK).status == 0
    assert (tmp_path / "runs" / "squares" / "report.html").exists()


def test_resume_goes_on_with_the_settings_of_the_run(
    trained: Path, tmp_path: Path, fullconv: Any
) -> None:
    run = Run(Path(shutil.copytree(trained, tmp_path / "copy")))
    before = run.steps()
    found = fullconv("train", "--resume", run.path, "--epochs", 3)
    assert found.status == 0
    assert run.steps()[: len(before)] == before
    assert run.steps()[-1]["step"] == before[-1]["step"] * 3 // 2
    assert run.config()["options"] == {"width": 4, "depth": 1}
    assert Run(trained).steps() == before


def test_a_run_is_never_overwritten(data: Path, trained: Path, fullconv: Any) -> None:
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    found = fullconv("train", data, "--out", trained, "--epochs", 1, *NETWORK)
    assert found.status == 1
    assert "`out` must be a new or empty folder" in found.err
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--memory", "2 parsecs"], "`memory` must be an amount such as '2 GiB'"),
        (["--memory", "20MB"], "`memory` must hold the whole process, got 19 MiB"),
        (["--sampling", "sampled"], "`sampling` must be one of auto, whole, sampled:0.25"),
        (["--sampling", "hard:7"], "`sampling` must name a share above 0 and at most 1"),
        (["--sampling", "hard:0.5", "--loss", "dice"], "`loss` must be a sum over units"),
        (
            ["--sampling", "crop:4x2000"],
            "crop:4x2000 needs images of at least 2000 px per side, got none: the largest is 40 x 52;",
        ),
        (["--epochs", "1", "--minutes", "1"], "`epochs` or `minutes` must be given, not both"),
        (["--epochs", "0"], "`epochs` must be a whole number of at least 1, got 0"),
        (["--lr", "nan"], "`lr` must be a number above 0, got nan"),
        (["--options.widht", "3"], "`unet` has no option 'widht'; it takes depth, width"),
        (["--net", "unett"], "got 'unett'; nearest is 'unet'"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    flags: list[str], message: str, data: Path, tmp_path: Path, fullconv: Any
) -> None:
    found = fullconv("train", data, "--out", tmp_path / "run", *flags)
    assert found.status == 1
    assert message in found.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", "`config` has the unknown key 'epoch'; nearest is `epochs`"),
        ("- epochs", "`config` must be a table of keys"),
        ("loss: dicey", "`loss` must be one of cross-entropy, cross-entropy-sum, dice, focal"),
        ("sampling: patchwise", "`sampling` must be one of auto, whole"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused(
    text: str, message: str, data: Path, tmp_path: Path, fullconv: Any
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text)
    found = fullconv("train", data, "--config", config, "--out", tmp_path / "run")
    assert found.status == 1
    assert message in found.err


def test_a_run_needs_data(fullconv: Any) -> None:
    found = fullconv("train")
    assert found.status == 1
    assert "`data` must be a folder with images and masks, got none" in found.err


def test_a_resumed_run_stays_where_it_is(trained: Path, tmp_path: Path, fullconv: Any) -> None:
    found = fullconv("train", "--resume", trained, "--out", tmp_path / "new", "--epochs", 3)
    assert found.status == 1
    assert "`out` must be left out with `resume`" in found.err


def test_compare_trains_regimes_and_says_which_was_best(
    data: Path, tmp_path: Path, fullconv: Any
) -> None:
    out = tmp_path / "compared"
    found = fullconv(
        "compare", data, "--regimes", "whole,sampled:0.5", "--epochs", 1, "--out", out,
        "--options.width", 4, "--options.depth", 2,
    )  # fmt: skip
    assert found.status == 0
    assert "Mean IU on the held-out images: " in found.out
    assert (out / "report.html").is_file()
    quick = fullconv("compare", data, "--quick", "--regimes", "whole,sampled:0.5")
    assert quick.status == 0
    assert "buys most gradient signal per second" in quick.out
    none = fullconv("compare", data, "--quick", "--regimes", "whole,sampled:0.5", "--seeds", 0)
    assert none.status == 1
    assert "`seeds` must be at least 1 to measure, got 0" in none.err
    refused = fullconv("compare", data, "--regimes", "whole,halves:2", "--out", tmp_path / "no")
    assert refused.status == 1
    assert "`sampling` must be one of auto, whole" in refused.err
