"""What a flag of a network's option becomes."""

from typing import Any

import pytest

from fullconv.training import TrainConfig


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("0", 0),
        ("32", 32),
        ("0.5", 0.5),
        ("1e-3", 1e-3),
        ("true", True),
        ("no", False),
        ("none", "none"),
    ],
)
def test_an_option_is_the_number_the_truth_or_the_name_that_it_looks_like(
    text: str, value: Any, fullconv: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings_of(fullconv, monkeypatch, "--options.choice", text).options["choice"]
    assert (found, type(found)) == (value, type(value))


def settings_of(fullconv: Any, monkeypatch: pytest.MonkeyPatch, *flags: str) -> TrainConfig:
    """What `fullconv train` would be told by these flags."""
    asked: list[TrainConfig] = []

    def stop(settings: TrainConfig, **_: Any) -> None:
        asked.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr("fullconv.training.train", stop, raising=False)
    assert fullconv("train", "data", *flags).status == 130
    (found,) = asked
    return found


@pytest.mark.parametrize(("text", "value"), [("auto", "auto"), ("3", 3)])
def test_images_of_a_step_are_a_number_or_chosen(
    text: str, value: Any, fullconv: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings_of(fullconv, monkeypatch, "--batch", text).batch == value


def test_images_of_a_step_are_nothing_else(fullconv: Any) -> None:
    found = fullconv("train", "data", "--batch", "some")
    assert found.status
    assert "batch" in found.err


@pytest.mark.parametrize("flag", ["--epochs", "--batch", "--seed", "--workers"])
def test_whole_numbers_are_not_rounded(flag: str, fullconv: Any) -> None:
    found = fullconv("train", "data", flag, "2.5")
    assert (found.status, f"{flag}: must be whole numbers, got 2.5" in found.err) == (2, True)


def test_a_whole_number_may_be_written_with_a_point(
    fullconv: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings_of(fullconv, monkeypatch, "--epochs", "30.0").epochs == 30
    assert settings_of(fullconv, monkeypatch, "--minutes", "0.5").minutes == 0.5
