"""The seam report: nothing where windows are exact, and the place where they are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fullconv.errors import BadOutputError
from fullconv.geometry import Window
from fullconv.verifying import _seams, seams

PIXELS = np.random.default_rng(0).random((1, 160, 200), dtype=np.float32)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 3, 5, padding=2)
    ).eval()


def test_exact_windows_have_no_seams(tmp_path: Path) -> None:
    found = seams(network(), PIXELS, side=128)
    assert found.passed
    assert found.part.shape == (128, 128)
    assert len({len(cover) for cover in found.covers}) == 3
    found.draw(tmp_path / "seams.png")
    with Image.open(tmp_path / "seams.png") as picture:
        below = picture.crop((0, _seams.TITLE_PX, *picture.size))
        colours = {colour for _, colour in below.getcolors() or []}
    assert colours == {(255, 255, 255), (190, 190, 190)}


def test_a_field_as_large_as_the_part_leaves_covers_of_few_windows() -> None:
    """Strips, six boxes and sixteen, cut by what they own; each unit is owned once by each cover."""
    torch.manual_seed(0)
    net = nn.Conv2d(1, 2, 3, padding=60, dilation=60).eval()  # a field of 121 px
    found = seams(net, PIXELS, side=128)
    assert [len(cover) for cover in found.covers] == [2, 6, 16]
    for cover in found.covers:
        owned = np.zeros((128, 128), int)
        for window in cover:
            owned[window.units.slices] += 1
        assert np.all(owned == 1)
    assert found.passed


def test_covers_that_are_the_same_are_compared_once() -> None:
    found = seams(nn.Conv2d(1, 2, 1).eval(), PIXELS[:, :2, :3], side=128)
    assert [len(cover) for cover in found.covers] == [2, 6]


def test_the_part_is_of_a_size_that_the_network_takes() -> None:
    class Thirds(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            n, c, height, width = image.shape
            return image.reshape(n, c, height // 3, 3, width // 3, 3).amax((3, 5))

    found = seams(Thirds(), PIXELS[:, :159, :198], side=128)
    assert found.part.shape == (126, 126)
    assert found.passed
    assert seams(Thirds(), PIXELS[:, :159, :30], side=128).part.shape == (126, 30)


def test_windows_that_see_too_little_are_found_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each window is run on the pixels that it owns alone, as tilers do."""

    def cut(net: nn.Module, image: torch.Tensor, window: Window) -> torch.Tensor:
        offset = tuple(-a for a in window.reads.start)
        return net(image[(slice(None), *window.units.shifted(offset).slices)][None])[0]

    monkeypatch.setattr(_seams, "run_window", cut)
    found = seams(network(), PIXELS, side=128)
    assert not found.passed
    assert "units from the border of its window" in str(found)
    inner = found.covers[0][0].units
    assert found.differences[0][inner.start[0] + 20, 60] == 0
    found.draw(tmp_path / "seams.png")
    with Image.open(tmp_path / "seams.png") as picture:
        drawn = np.asarray(picture.convert("RGB"))[_seams.TITLE_PX :, :128]
    differs = found.differences[0] > _seams.TOLERANCE
    assert np.array_equal(drawn[..., 0] > drawn[..., 2], differs)  # all of them, and no others


def test_a_picture_of_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadOutputError, match=r"`picture` must end in \.png, got seams\.jpg"):
        seams(network(), PIXELS, side=64).draw(tmp_path / "seams.jpg")
