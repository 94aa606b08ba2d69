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
    asked: list[TrainConfig] = []

    def stop(settings: TrainConfig, **_: Any) -> None:
        asked.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr("fullconv.training.train", stop, raising=False)
    assert fullconv("train", "data", "--options.choice", text).status == 130
    (found,) = [settings.options["choice"] for settings in asked]
    assert (found, type(found)) == (value, type(value))
