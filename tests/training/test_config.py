"""The settings of a run: defaults, ranges, YAML."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fullconv.errors import BadConfigError
from fullconv.training import TrainConfig, read_config

PATHS = {"data": "data", "out": "out"}


def test_five_minutes_are_the_budget_where_none_is_given() -> None:
    assert TrainConfig.from_dict(PATHS).minutes == 5
    assert TrainConfig.from_dict(PATHS | {"epochs": 2}).minutes is None


def test_settings_survive_yaml(tmp_path: Path) -> None:
    import yaml

    config = TrainConfig.from_dict(PATHS | {"epochs": 2, "options": {"width": 8}, "lr": 1e-3})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.to_dict()))
    assert TrainConfig.from_dict(read_config(tmp_path / "config.yaml")) == config


def test_a_rate_in_the_style_that_yaml_takes_for_text_is_a_number(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("lr: 1e-3\n")
    assert TrainConfig.from_dict(PATHS | read_config(tmp_path / "c.yaml")).lr == 1e-3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, "unknown key 'epoch'; nearest is `epochs`"),
        ({"zzz": 3}, "unknown key 'zzz'; known are data, out, net"),
        ({"epochs": 3, "minutes": 2}, "`epochs` or `minutes` must be given, not both, got 3 and 2"),
        ({"epochs": 0}, "`epochs` must be a whole number of at least 1, got 0"),
        ({"batch": 1.5}, r"`batch` must be a whole number of at least 1, or auto, got 1\.5"),
        ({"seed": -1}, "`seed` must be a whole number of at least 0, got -1"),
        ({"workers": True}, "`workers` must be a whole number of at least 0, got True"),
        ({"minutes": 0}, "`minutes` must be a number above 0, got 0"),
        ({"minutes": float("inf")}, "`minutes` must be a number above 0, got inf"),
        ({"lr": "fast"}, "`lr` must be a number above 0, got 'fast'"),
        ({"loss": "focla"}, "`loss` must be one of .*, got 'focla'; nearest is 'focal'"),
        ({"precision": 16}, "`precision` must be one of 32, bf16, got '16'"),
        ({"options": 3}, "`options` must be a table of keys, got 3"),
        ({"options": {1: 2}}, "`options` must have names as keys, got 1"),
        ({"augment": "false"}, "`augment` must be true or false, without quotes, got 'false'"),
        ({"replacement": 1}, "`replacement` must be true or false, without quotes, got 1"),
        ({"minutes": True}, "`minutes` must be a number above 0, got True"),
        ({"momentum": "fast"}, "`momentum` must be from 0 to below 1, got 'fast'"),
        ({"sampling": 5}, "`sampling` must be one of auto, whole, .*, got 5"),
        (
            {"sampling": "sampled:0"},
            "`sampling` must name a share above 0 and at most 1, such as sampled:0.25, got 'sampled:0'",
        ),
        ({"sampling": "hard:1.5"}, "such as hard:0.25, got 'hard:1.5'"),
        ({"sampling": None}, "`sampling` must be one of auto, whole, .*, got None"),
        ({"net": 3}, "`net` must be the name of a network, got 3"),
        ({"data": 5}, "`data` must be a path, got 5"),
        ({"weights": 3}, "`weights` must be a path, got 3"),
        ({"memory": True}, "`memory` must be an amount such as '8 GiB', got True"),
        ({"batch": None}, "`batch` must be a whole number of at least 1, or auto, got None"),
        ({"seed": None}, "`seed` must be a whole number of at least 0, got None"),
        ({"data": None}, "`config` must say `data`, got none"),
    ],
)
def test_what_cannot_be_used_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfigError, match=message):
        TrainConfig.from_dict(PATHS | values)


def test_a_momentum_that_yaml_takes_for_text_is_a_number() -> None:
    assert TrainConfig.from_dict(PATHS | {"momentum": "9e-1"}).momentum == 0.9


def test_a_number_for_precision_means_the_same() -> None:
    assert TrainConfig.from_dict(PATHS | {"precision": 32}).precision == "32"


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "5"])
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(BadConfigError, match="`config` must be a "):
        read_config(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfigError, match=r"must be a YAML file, got .*none\.yaml"):
        read_config(tmp_path / "none.yaml")


def test_only_budget_and_paths_may_change_when_a_run_goes_on() -> None:
    config = TrainConfig.from_dict(PATHS)
    assert replace(config, minutes=9.0).resuming(config).minutes == 9
    with pytest.raises(BadConfigError, match="`seed` must stay 0 for a run that goes on, got 3"):
        replace(config, seed=3).resuming(config)


@pytest.mark.parametrize(
    ("settings", "lr"),
    [
        ({}, 4e-3),
        ({"lr": 0.01}, 0.01),
        ({"optimizer": "sgd"}, 1e-4),
        ({"optimizer": "sgd", "loss": "cross-entropy-sum"}, 1e-10),
    ],
)
def test_the_rate_that_is_used_is_what_is_written(settings: dict[str, Any], lr: float) -> None:
    config = TrainConfig(data=Path("data"), out=Path("run"), **settings)
    assert config.to_dict()["lr"] == lr
    assert config.resuming(TrainConfig.from_dict(config.to_dict())) is config
