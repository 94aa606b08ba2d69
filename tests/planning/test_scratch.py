"""What convolutions take while they run, against what the allocator hands out."""

from typing import Any

import pytest
import torch

from fullconv.planning._scratch import scratch_bytes

from .allocations import allocated, bytes_of

aten = torch.ops.aten
PLAIN, LAST = torch.contiguous_format, torch.channels_last
TILES = torch.cpu._is_amx_tile_supported()
pytestmark = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512", reason="other kernels run elsewhere"
)


EACH, BOTH = [[True, False, False], [False, True, False]], [[True, True, False]]


def check(
    image: torch.Tensor, kernel: torch.Tensor, settings: tuple[Any, ...], masks: list[list[bool]]
) -> None:
    """Compare what is said with what is taken: forward, and for some gradients."""
    forward = image, kernel, None, *settings
    out = aten.convolution(*forward)
    taken = allocated(lambda: aten.convolution(*forward)) - bytes_of(out)
    said = scratch_bytes(aten.convolution.default, forward, [out])
    assert said == pytest.approx(taken, rel=0.05, abs=60_000)
    for mask in masks:
        backward = torch.rand_like(out), image, kernel, None, *settings, mask
        made = [grad for grad in aten.convolution_backward(*backward) if grad is not None]
        taken = allocated(lambda: aten.convolution_backward(*backward)) - bytes_of(*made)  # noqa: B023
        said = scratch_bytes(aten.convolution_backward.default, backward, made)
        assert said == pytest.approx(taken, rel=0.05, abs=60_000)


@pytest.mark.parametrize(
    ("precision", "layout", "channels", "side", "size", "stride"),
    [
        (torch.float32, PLAIN, 32, 96, 5, 1),
        (torch.float32, PLAIN, 64, 64, 5, 2),
        (torch.float32, PLAIN, 960, 16, 5, 1),
        (torch.float32, PLAIN, 72, 60, 3, 1),
        (torch.float32, LAST, 64, 64, 5, 1),
        (torch.float32, LAST, 64, 64, 3, 1),
        (torch.bfloat16, PLAIN, 72, 60, 5, 1),
        (torch.bfloat16, PLAIN, 72, 60, 3, 2),
        (torch.bfloat16, LAST, 64, 64, 5, 1),
        (torch.bfloat16, LAST, 32, 64, 5, 2),
        (torch.bfloat16, LAST, 40, 64, 7, 1),
        (torch.bfloat16, LAST, 64, 64, 3, 1),
    ],
)
def test_depthwise_convolutions(
    precision: torch.dtype, layout: torch.memory_format, channels: int, side: int, size: int, stride: int
) -> None:  # fmt: skip
    image = torch.rand(2, channels, side, side).to(precision).contiguous(memory_format=layout)
    kernel = torch.rand(channels, 1, size, size).to(precision).contiguous(memory_format=layout)
    pad = size // 2
    check(image, kernel, ([stride] * 2, [pad] * 2, [1, 1], False, [0, 0], channels), BOTH)


@pytest.mark.skipif(TILES, reason="other kernels run where matrices are multiplied in tiles")
@pytest.mark.parametrize("layout", [PLAIN, LAST])
@pytest.mark.parametrize(
    ("start", "stop", "side", "size", "groups", "threads"),
    [
        (32, 32, 96, 3, 1, 1),
        (32, 32, 96, 3, 1, 2),
        (3, 16, 200, 3, 1, 1),
        (16, 32, 96, 1, 1, 1),
        (16, 32, 96, 1, 1, 2),
        (64, 1, 96, 3, 1, 1),
        (24, 24, 96, 3, 1, 1),
        (32, 48, 96, 5, 1, 1),
        (64, 64, 64, 3, 4, 1),
    ],
)
def test_half_precision_without_tiles(
    start: int, stop: int, side: int, size: int, groups: int, threads: int, layout: torch.memory_format
) -> None:  # fmt: skip
    image = torch.rand(3, start, side, side).bfloat16().contiguous(memory_format=layout)
    kernel = torch.rand(stop, start // groups, size, size).bfloat16()
    pad, before = size // 2, torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        check(
            image,
            kernel.contiguous(memory_format=layout),
            ([1, 1], [pad] * 2, [1, 1], False, [0, 0], groups),
            EACH + BOTH,
        )
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(TILES, reason="other kernels run where matrices are multiplied in tiles")
@pytest.mark.parametrize("layout", [PLAIN, LAST])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_transposed_convolutions(precision: torch.dtype, layout: torch.memory_format) -> None:
    image = torch.rand(2, 32, 48, 48).to(precision).contiguous(memory_format=layout)
    kernel = torch.rand(32, 16, 4, 4).to(precision).contiguous(memory_format=layout)
    check(image, kernel, ([2, 2], [1, 1], [1, 1], True, [0, 0], 1), EACH + BOTH)
