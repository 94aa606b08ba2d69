"""The demo's network: any size, local, and the same answer in windows."""

import pytest
import torch

import fullconv as fc
from fullconv.demo import digit_net
from fullconv.demo._patches import SIDE
from fullconv.networks import build


def net(width: int = 4) -> torch.nn.Module:
    torch.manual_seed(0)
    return build("fullconv.demo:digit_net", classes=11, width=width).eval()


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (64, 64), (97, 131)])
def test_the_map_has_the_size_of_the_image(size: tuple[int, int]) -> None:
    assert net()(torch.zeros(2, 3, *size)).shape == (2, 11, *size)


def test_the_middle_unit_of_a_patch_sees_the_whole_patch() -> None:
    classifier = digit_net(classes=11, width=4).double().eval()
    patch = torch.rand(1, 3, SIDE, SIDE, dtype=torch.float64, requires_grad=True)
    _, coarse = classifier.scores(patch)
    middle = SIDE // 2 // 16
    assert coarse.shape[-2:] == (SIDE // 16, SIDE // 16)
    coarse[0, :, middle, middle].square().sum().backward()
    assert patch.grad is not None
    seen = patch.grad[0].abs().sum(0) > 0
    assert seen[0].any()
    assert seen[-1].any()
    assert seen[:, 0].any()
    assert seen[:, -1].any()


def test_windows_give_the_map_of_the_whole_image() -> None:
    image = torch.rand(3, 700, 90)
    whole = fc.predict(net(), image)
    windows = fc.predict(net(), image, memory="6 MiB")
    assert torch.allclose(windows, whole, atol=1e-5)
