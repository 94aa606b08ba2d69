"""What depthwise convolutions take while they run, against what the allocator hands out."""

import pytest
import torch

from fullconv.planning._scratch import scratch_bytes

from .allocations import allocated, bytes_of

aten = torch.ops.aten
PLAIN, LAST = torch.contiguous_format, torch.channels_last


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512", reason="other kernels run elsewhere"
)
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
    if precision == torch.bfloat16 and not torch.cpu._is_amx_tile_supported():
        pytest.skip("other kernels run where no matrices are multiplied in tiles")
    pad = size // 2
    settings = [stride, stride], [pad, pad], [1, 1], False, [0, 0], channels
    image = torch.rand(2, channels, side, side).to(precision).contiguous(memory_format=layout)
    kernel = torch.rand(channels, 1, size, size).to(precision).contiguous(memory_format=layout)
    forward = image, kernel, None, *settings
    out = aten.convolution(*forward)
    backward = torch.rand_like(out), image, kernel, None, *settings, [True, True, False]
    made = aten.convolution_backward(*backward)[:2]

    taken = allocated(lambda: aten.convolution(*forward)) - bytes_of(out)
    said = scratch_bytes(aten.convolution.default, forward, [out])
    assert said == pytest.approx(taken, rel=0.05, abs=40_000)

    taken = allocated(lambda: aten.convolution_backward(*backward)) - bytes_of(*made)
    said = scratch_bytes(aten.convolution_backward.default, backward, made)
    assert said == pytest.approx(taken, rel=0.05, abs=40_000)
