"""Attention that stays among the pixels of a block and around it is local, however it is written."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fullconv as fc

from .footprints import change_footprint, hull


class BlockAttention(nn.Module):
    """Each position of a block attends to the block and `around` positions beside it.

    Rows and columns of blocks are folded into one axis on the way, with heads and images into another.
    """

    def __init__(self, channels: int, block: int, around: int, heads: int = 2) -> None:
        super().__init__()
        self.query, self.both = (
            nn.Conv2d(channels, channels, 1),
            nn.Conv2d(channels, 2 * channels, 1),
        )
        self.block, self.around, self.heads = block, around, heads

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        rows, columns, b = height // self.block, width // self.block, self.block
        pairs, depth, seen = batch * self.heads, channels // self.heads, b + 2 * self.around
        query = self.query(x).reshape(pairs, depth, rows, b, columns, b).permute(0, 2, 4, 3, 5, 1)
        query = query.reshape(pairs, rows * columns, b * b, depth)
        both = F.pad(self.both(x), [self.around] * 4).unfold(2, seen, b).unfold(3, seen, b)
        both = both.reshape(pairs, 2 * depth, rows * columns, seen**2).permute(0, 2, 3, 1)
        key, value = both.split(depth, -1)
        found = (query @ key.transpose(-1, -2)).softmax(-1) @ value
        found = found.reshape(pairs, rows, columns, b, b, depth).permute(0, 5, 1, 3, 2, 4)
        return found.reshape(batch, channels, height, width)


def test_fields_of_block_attention_are_footprints() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3, 2, 1), BlockAttention(4, 4, 1)).double().eval()
    geometry = fc.trace(net, 2)
    assert (geometry.field, geometry.stride, geometry.period) == ((13, 13), (2, 2), (8, 8))
    size = 48
    image = torch.rand(2, size, 16, dtype=torch.float64)
    for axis, changed in enumerate(
        (change_footprint(net, image, 0), change_footprint(net, image.transpose(1, 2), 1))
    ):
        for unit in range(changed.shape[1]):
            start, stop = geometry.axes[axis].field_of(unit)
            assert hull(changed[:, unit]) == (max(0, start), min(size, stop))


def test_windows_of_stacked_block_attention_are_exact() -> None:
    """Their field is larger than the image that is tried first, where no position is clear of the border."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 2, 4, 4), BlockAttention(2, 8, 2, 1), nn.MaxPool2d(2), BlockAttention(2, 8, 3, 1),
        nn.MaxPool2d(2), BlockAttention(2, 8, 4, 1), nn.ReLU(),
    ).double().eval()  # fmt: skip
    geometry = fc.trace(net, 2)
    assert geometry.period == (128, 128)
    image = torch.rand(2, 1024, 128, dtype=torch.float64)
    whole = net(image[None])[0]
    for start, stop in ((0, 9), (20, 41), (33, 34), (50, 64)):
        units = fc.geometry.Box(start=(start, 0), stop=(stop, 8))
        window = geometry.window(units, image.shape[1:])
        part = net(image[(slice(None), *window.reads.slices)][None])[0]
        assert torch.allclose(
            part[(slice(None), *window.inside.slices)], whole[(slice(None), *units.slices)],
            rtol=1e-12, atol=1e-14,
        )  # fmt: skip
    assert geometry.field[0] > 128
    assert (
        geometry.window(fc.geometry.Box(start=(33, 0), stop=(34, 8)), (1024, 128)).reads.size
        < 2**17
    )


def test_windows_hold_all_that_is_added_up_where_columns_of_windows_overlap() -> None:
    """A pixel at the end of a window gets parts of sliding windows beyond it, along either axis."""
    torch.manual_seed(0)
    net = Overlapping((3, 5), (1, 2))
    assert fc.trace(net, 2).halo == ((1, 1), (2, 2))
    found = fc.verify(net, (2, 24, 30))
    assert found.passed, str(found)


class Overlapping(nn.Module):
    """Takes an image apart into windows, and adds them up again."""

    def __init__(self, kernel: tuple[int, int], padding: tuple[int, int]) -> None:
        super().__init__()
        self.kernel, self.padding = kernel, padding

    def forward(self, x: Tensor) -> Tensor:
        columns = F.unfold(x, self.kernel, padding=self.padding)
        return F.fold(columns, x.shape[2:], self.kernel, padding=self.padding)
