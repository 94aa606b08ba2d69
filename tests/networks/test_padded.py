"""Networks that do not take every size, padded and cropped: whole, in windows, in steps, in a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fullconv as fc
from fullconv.networks import Padded, build, padded
from fullconv.runs import Run
from fullconv.training import TrainConfig, train


class ByFour(nn.Module):
    """A U-Net that takes multiples of 4 alone."""

    def __init__(self, classes: int = 2, channels: int = 1) -> None:
        super().__init__()
        self.head = nn.Conv2d(channels, 4, 3, padding=1)
        self.low = nn.Conv2d(4, 4, 3, padding=1)
        self.tail = nn.Conv2d(8, classes, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        kept = torch.tanh(self.head(x))
        low = torch.tanh(self.low(F.max_pool2d(kept, 4)))
        return self.tail(torch.cat([kept, F.interpolate(low, scale_factor=4)], 1))


def by_four() -> ByFour:
    torch.manual_seed(0)
    return ByFour().double().eval()


def by_hand(net: nn.Module, image: Tensor, mode: str) -> Tensor:
    height, width = image.shape[1:]
    ends = (0, -width % 4, 0, -height % 4)
    return net(F.pad(image[None], ends, mode=mode))[0, :, :height, :width]


@pytest.mark.parametrize(("padding", "mode"), [("reflect", "reflect"), ("zero", "constant")])
@pytest.mark.parametrize("shape", [(61, 82), (60, 80), (63, 81)])
def test_whole_images_and_windows_are_padded_in_one_way(
    padding: Any, mode: str, shape: tuple[int, int]
) -> None:
    net = by_four()
    any_size = padded(net, 1, padding)
    assert isinstance(any_size, Padded)
    image = torch.randn(1, *shape, dtype=torch.float64)
    expected = by_hand(net, image, mode)
    assert torch.equal(fc.predict(any_size, image), expected)
    windows: list[int] = []
    net.register_forward_hook(lambda *_: windows.append(1))
    found = fc.predict(any_size, image, "200 KiB")
    assert len(windows) > 4
    assert (found - expected).abs().max() <= 1e-12


def test_a_step_through_windows_has_the_gradient_of_the_padded_whole() -> None:
    net = by_four()
    image = torch.randn(1, 61, 82, dtype=torch.float64)
    target = torch.randint(2, (61, 82))
    loss = F.cross_entropy(by_hand(net, image, "reflect")[None], target[None])
    expected = torch.autograd.grad(loss, list(net.parameters()))
    criterion = nn.CrossEntropyLoss(reduction="none")
    step = fc.StepLoss(padded(net, 1), criterion, "400 KiB")
    assert len(step.cover(image, target)) > 2
    found = torch.autograd.grad(step([image], [target]), list(net.parameters()))
    for one, exact in zip(found, expected, strict=True):
        assert (one - exact).norm() <= 1e-12 * exact.norm()


def test_sizes_that_leave_a_rest_are_padded_to_the_next_that_does() -> None:
    seen: list[tuple[int, ...]] = []

    def note(x: Tensor) -> Tensor:
        seen.append(tuple(x.shape[2:]))
        return x

    class Noted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return note(x)

    net = Padded(Noted(), [(None, 5, None, None), (8, None, None, None)], "zero")
    image = torch.randn(1, 1, 6, 8)
    assert torch.equal(net(image), image)
    assert net(torch.zeros(1, 1, 3, 1)).shape[2:] == (3, 1)
    assert seen == [(9, 8), (5, 8)]


def test_units_that_are_coarser_than_pixels_are_kept_where_they_own_one() -> None:
    net = nn.Sequential(nn.PixelUnshuffle(4))
    any_size = padded(net, 1, "zero")
    assert any_size(torch.zeros(1, 1, 9, 12)).shape[2:] == (3, 3)


def test_networks_that_take_any_size_stay_what_they_are() -> None:
    for name, options in (("unet", {"width": 4, "depth": 1}), ("fcn8s", {"width": 4})):
        net = build(name, classes=2, **options)
        assert padded(net, 3) is net
        assert net.training
    not_local = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4))
    assert padded(not_local, 3) is not_local


def test_an_image_too_small_to_be_mirrored_is_refused() -> None:
    net = padded(by_four(), 1)
    with pytest.raises(
        ValueError, match="must be larger to be padded by reflection to 4 x 8 px, got 1 x 8"
    ):
        net(torch.zeros(1, 1, 1, 8, dtype=torch.float64))


@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")
def test_a_run_predicts_as_it_was_trained(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scenes are 40 x 52 and 33 x 47 px; the network takes multiples of 4."""
    text = Path(__file__).read_text().split("class ByFour")[1].split("def by_four")[0]
    head = "import torch\nimport torch.nn.functional as F\nfrom torch import Tensor, nn\n\n\nclass ByFour"
    (tmp_path / "multiples.py").write_text(head + text)
    monkeypatch.syspath_prepend(str(tmp_path))
    options: dict[str, Any] = {"net": "multiples:ByFour", "epochs": 1, "sampling": "whole"}
    run = train(TrainConfig(data=scenes, out=tmp_path / "run", padding="zero", **options))
    net = Run.open(run.path).network()
    assert isinstance(net, Padded)
    assert net.padding == "zero"
    image = np.zeros((3, 33, 47), np.float32)
    assert np.abs(fc.predict(net, image) - fc.predict(net, image, "1 MiB")).max() < 1e-5
