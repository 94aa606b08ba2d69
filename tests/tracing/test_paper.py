"""The paper's networks traced (Long, Shelhamer & Darrell 2015); more of their numbers in tests/networks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

import fullconv as fc
from fullconv.tracing import Layer, layers


@pytest.fixture(scope="module")
def rows() -> list[Layer]:
    """The layers of FCN-VGG16 with numbers nowhere."""
    with torch.device("meta"):
        net = fc.networks.build("fcn32s-vgg16", classes=21).eval()
    return list(layers(net))


def test_fields_and_strides_at_the_poolings_of_vgg16(rows: list[Layer]) -> None:
    found = [(row.field[0], row.stride[0]) for row in rows if row.kind == "MaxPool2d"]
    assert found == [(6, 2), (16, 4), (44, 8), (100, 16), (212, 32)]


def test_fcn_vgg16_sees_404_px_in_its_scores_and_436_px_in_its_map(rows: list[Layer]) -> None:
    at = {row.module: (row.field, row.stride) for row in rows}
    assert at["trunk.fc6"] == ((404, 404), (32, 32))
    # Each px of the map sums two units of the scores, 32 px apart.
    assert at["upscore"] == ((404 + 32,) * 2, (1, 1))


def test_fcn_alexnet_without_its_padding_maps_500_px_onto_10_units() -> None:
    with torch.device("meta"):
        net = fc.networks.build("fcn-alexnet", classes=21).eval()
    trunk = net.trunk
    trunk.conv1.padding = (0, 0)
    geometry = fc.trace(_Last(trunk))
    assert geometry.map_shape((500, 500)) == (10, 10)
    assert geometry.map_shape((227, 227)) == (1, 1)
    assert geometry.smallest_shape <= (227, 227)


class _Last(nn.Module):
    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.trunk(image)[-1]


TIMED = """
import time, torch
import fullconv as fc
with torch.device("meta"):
    net = fc.networks.build("fcn32s-vgg16", classes=21).eval()
for _ in range(4):
    start = time.process_time()
    fc.trace(net)
    print(time.process_time() - start)
"""


def test_vgg16_is_traced_in_less_than_a_second() -> None:
    # In a process of its own: counting covered lines would take longer than tracing.
    env = {k: v for k, v in os.environ.items() if not k.startswith("COV")} | {
        "OMP_NUM_THREADS": "1"
    }
    done = subprocess.run(
        [sys.executable, "-c", TIMED], env=env, capture_output=True, text=True, check=True
    )
    first, *later = map(float, done.stdout.split())
    assert first > 0  # it loads parts of PyTorch as well
    assert min(later) < 1


def test_seven_billion_weights_that_are_nowhere_are_traced_too() -> None:
    with torch.device("meta"):
        net = nn.Sequential(*(nn.Conv2d(9000, 9000, 3) for _ in range(10))).eval()
    assert sum(p.numel() for p in net.parameters()) > 7e9
    assert fc.trace(net, 9000).field == (21, 21)
