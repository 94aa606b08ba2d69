"""What recurrent layers keep and take, against pages, allocations and steps that are really made."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fullconv as fc
from fullconv.planning import Gauge, Manner, rehearse_step
from fullconv.planning._measure import _in_a_process
from fullconv.planning._recurrent import workspace_bytes
from fullconv.planning._scratch import scratch_bytes

from .allocations import allocated, bytes_of

PAGE = 4096
aten = torch.ops.aten
avx512 = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512", reason="other kernels run elsewhere"
)


def resident(tensor: Tensor) -> int:
    """The bytes of a tensor that the system has given pages to, as it says itself."""
    first, last = (
        byte // PAGE for byte in (tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes - 1)
    )
    with Path("/proc/self/pagemap").open("rb") as file:
        file.seek(8 * first)
        entries = file.read(8 * (last - first + 1))
    return PAGE * sum(entry >> 63 for (entry,) in struct.iter_unpack("<Q", entries))


def layer(
    length: int, batch: int, channels: int, hidden: int, dtype: torch.dtype, back: bool
) -> tuple[Any, ...]:
    """Arguments of one layer of an LSTM in one direction, as PyTorch gives them to oneDNN."""
    states = [torch.zeros(1, batch, hidden, dtype=dtype) for _ in range(2)]
    weights = [torch.rand(4 * hidden, size, dtype=dtype) for size in (channels, hidden)]
    biases = [torch.zeros(4 * hidden, dtype=dtype) for _ in range(2)]
    sequence = torch.rand(length, batch, channels, dtype=dtype)
    return (sequence, *weights, *biases, *states, back, [], 2, hidden, 1, True, False, False, True)


@avx512
@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("length", "batch", "channels", "hidden"), [(128, 256, 32, 64), (256, 128, 200, 48)]
)
def test_a_workspace_is_what_is_written_into_it(
    length: int, batch: int, channels: int, hidden: int, dtype: torch.dtype, back: bool
) -> None:
    args = layer(length, batch, channels, hidden, dtype, back)
    forward = aten.mkldnn_rnn_layer
    made = forward(*args)
    kept = resident(made[3])
    assert workspace_bytes(forward.default, args) == pytest.approx(kept, rel=0.03)
    assert workspace_bytes(aten.convolution.default, args) == 0
    taken = allocated(lambda: forward(*args)) - bytes_of(*made)
    assert scratch_bytes(forward.default, args, made) == pytest.approx(taken, rel=0.3, abs=600_000)

    sequence, w0, w1, b0, b1, h, c, *_ = args
    given = [torch.rand_like(t) for t in (made[0], h, c)]
    backward = (
        sequence, w0, w1, b0, b1, h, c, *made[:3], *given, back, 2, hidden, 1, True, True, False,
        [], False, made[3],
    )  # fmt: skip
    grads = [t for t in aten.mkldnn_rnn_layer_backward(*backward) if t is not None]
    taken = allocated(lambda: aten.mkldnn_rnn_layer_backward(*backward)) - bytes_of(*grads)
    taken += resident(made[3]) - kept
    said = scratch_bytes(aten.mkldnn_rnn_layer_backward.default, backward, grads)
    assert said == pytest.approx(taken, rel=0.03)


class Rows(nn.Module):
    """Reads each row of the image as a sequence, from both sides."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 32, 3, padding=1)
        self.rows = kind(32, 64, batch_first=True, bidirectional=True)  # type: ignore[call-arg]
        self.last = nn.Conv2d(128, 4, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image).relu().movedim(1, -1)
        rows, _ = self.rows(x.flatten(0, 1))
        return self.last(rows.unflatten(0, x.shape[:2]).movedim(-1, 1))


@avx512
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_step_with_a_recurrent_layer_takes_what_is_said(kind: type[nn.RNNBase]) -> None:
    net, shape = Rows(kind), (3, 160, 160)
    (took,) = _in_a_process(net, Manner(), torch.device("cpu"), [(2, shape)])
    course = rehearse_step(net, shape, batch=2).course
    said = Gauge.of("cpu").taken(course)
    assert said == pytest.approx(took.peak_bytes - took.before_bytes, rel=0.1)


def test_a_recurrent_layer_keeps_gates_and_states() -> None:
    found = fc.plan(Rows(nn.LSTM), (3, 90, 70), memory="64 GiB")
    kept = {one.module: one.saved_bytes for one in found.layers}
    numbers = 90 * 70 * 64  # of a state at each position, for one direction
    # Gates, states of the cells, the output; and before and after it once more on the way back.
    assert kept["rows"] > 4 * numbers * (2 * (4 + 1 + 1) + 2)
