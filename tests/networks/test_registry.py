"""Networks by name: the registry's and the user's own."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fullconv.errors import BadConfigError, FullconvError
from fullconv.networks import Normalized, build, check_builds_networks


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_nets.py").write_text(
        "from torch import nn\n"
        "def plain(classes): return nn.Conv2d(3, classes, 3, padding=1)\n"
        "def keen(classes, channels, kernel=3):\n"
        "    return nn.Conv2d(channels, classes, kernel, padding=kernel // 2)\n"
        "def anything(**given): return nn.Conv2d(given['channels'], given['classes'], 1)\n"
        "def number(classes): return 3\n"
        "value = 3\n"
        "from os import system as borrowed\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_nets", raising=False)
    return "own_nets"


@pytest.mark.parametrize("factory", ["plain", "keen", "anything"])
def test_a_factory_gets_the_keywords_that_it_takes(own: str, factory: str) -> None:
    net = build(f"{own}:{factory}", classes=5)
    assert net(torch.zeros(1, 3, 8, 8)).shape == (1, 5, 8, 8)


def test_a_factory_gets_its_options(own: str) -> None:
    net = build(f"{own}:keen", classes=2, channels=1, kernel=5)
    assert isinstance(net, nn.Conv2d)
    assert net.weight.shape == (2, 1, 5, 5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unett", "`net` must be one of unet, fcn8s, .* or package.module:factory, .* 'unet'"),
        (
            "no_such_module:net",
            r"'no_such_module' cannot be imported \(.*\); install it, or run from",
        ),
        ("unet:efficientnet-lite3", "the nearest network is 'unet:efficientnet-lite2'"),
        ("unet:efficientnet_lite1", "the nearest network is 'unet:efficientnet-lite1'"),
        ("efficientnet-lite1", "nearest is 'unet:efficientnet-lite1'"),
        ("own_nets:missing", "module 'own_nets' has no 'missing'"),
        ("own_nets:value", "must be callable, got int"),
        ("own_nets:number", "must return a torch.nn.Module, got int"),
    ],
)
def test_what_is_no_network_is_refused(own: str, name: str, message: str) -> None:
    assert own
    with pytest.raises(BadConfigError, match=message):
        build(name, classes=2)


def test_an_unknown_option_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(BadConfigError, match="`unet` has no option 'widht'; it takes depth, width"):
        build("unet", classes=2, widht=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "group"}, "`norm` must be one of batch, layer, frozen, none, got 'group'"),
        ({"depth": 0}, "`depth` and `width` must be whole numbers of at least 1, got 0 and 16"),
        ({"width": "abc"}, "got 4 and 'abc'"),
        ({"stem": 4}, "`stem` must be 1 or 2, got 4"),
        ({"channels": 0}, "must be whole numbers of at least 1, got 2 and 0"),
        ({"channels": "3"}, "`classes` and `channels` must be whole numbers .*, got 2 and '3'"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(BadConfigError, match=message):
        build("unet", classes=2, **options)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("classes", ["3", None, 2.5, True, 0])
def test_classes_are_a_whole_number(classes: Any) -> None:
    message = f"must be whole numbers of at least 1, got {classes!r} and 3"
    with pytest.raises(BadConfigError, match=message):
        build("unet", classes=classes)


@pytest.mark.parametrize("width", ["4", 0, 2.5])
@pytest.mark.parametrize("name", ["fcn8s", "unet:efficientnet-lite0"])
def test_a_width_is_a_whole_number(name: str, width: Any) -> None:
    with pytest.raises(BadConfigError, match=f"`width` must be a whole number .* got {width!r}"):
        build(name, classes=2, width=width)


def test_normalisation_is_part_of_the_network() -> None:
    net = Normalized(nn.Identity(), mean=[10.0, 100.0], std=[2.0, 0.0])
    pixels = torch.tensor([14.0, 103.0]).view(1, 2, 1, 1)
    assert net(pixels).flatten().tolist() == [2.0, 3.0]
    assert set(net.state_dict()) == {"mean", "std"}


@pytest.mark.parametrize("channels", [1, 3])
def test_normalisation_does_not_stretch_channels(channels: int) -> None:
    net = Normalized(nn.Identity(), mean=[10.0, 100.0], std=[2.0, 0.0])
    with pytest.raises(FullconvError, match=f"trained with, 2, got {channels}"):
        net(torch.zeros(1, channels, 1, 1))


def test_normalisation_can_be_followed_by_symbols() -> None:
    net = Normalized(nn.Conv2d(2, 1, 1), mean=[10.0, 100.0], std=[2.0, 0.0])
    pixels = torch.rand(1, 2, 5, 4)
    assert torch.equal(torch.fx.symbolic_trace(net)(pixels), net(pixels))


def test_normalisation_needs_one_pair_per_channel() -> None:
    with pytest.raises(BadConfigError, match="one value per channel, got 2 and 1"):
        Normalized(nn.Identity(), mean=[1.0, 2.0], std=[1.0])


def test_a_factory_that_needs_more_says_so() -> None:
    with pytest.raises(
        BadConfigError,
        match=r"`torch\.nn:Linear` must take what it is given, nothing, got: .*'in_features'",
    ):
        build("torch.nn:Linear", classes=2)


@pytest.mark.parametrize("factory", ["plain", "keen", "anything"])
def test_a_factory_of_ones_own_may_stand_in_a_run(own: str, factory: str) -> None:
    check_builds_networks(f"{own}:{factory}")


@pytest.mark.parametrize("name", ["unet", "fullconv.networks._unet:UNet", "torch.nn:Identity"])
def test_networks_may_stand_in_a_run(name: str) -> None:
    check_builds_networks(name)


@pytest.mark.parametrize(
    "name",
    ["os:system", "subprocess:run", "builtins:exec", "shutil:rmtree", "torch:load", "numpy:load",
     "torch.hub:load", "own_nets:borrowed"],
)  # fmt: skip
def test_what_builds_no_network_may_not_stand_in_a_run(own: str, name: str) -> None:
    assert own
    with pytest.raises(BadConfigError, match=r"must be a factory of networks, .* not called"):
        check_builds_networks(name)
