"""The numbers of the paper, from networks written from its tables."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fullconv as fc

from .trunks import Crop, caffenet, googlenet, vgg16


def traced(build: Callable[..., nn.Module], **options: Any) -> fc.Geometry:
    with torch.device("meta"):
        net = build(**options).eval()
    return fc.trace(net)


@pytest.mark.parametrize(
    ("pool", "field", "stride"), [(1, 6, 2), (2, 16, 4), (3, 44, 8), (4, 100, 16), (5, 212, 32)]
)
def test_fields_and_strides_at_the_poolings_of_vgg16(pool: int, field: int, stride: int) -> None:
    geometry = traced(vgg16, stop=pool)
    assert (geometry.field, geometry.stride) == ((field,) * 2, (stride,) * 2)


def test_fcn_vgg16_sees_404_px_at_stride_32_and_its_sizes_with_a_padding_of_100() -> None:
    geometry = traced(vgg16, padding=100, head=True)
    assert (geometry.field, geometry.stride) == ((404, 404), (32, 32))
    assert geometry.smallest_shape == (1, 1)
    sizes = {224: 8, 375: 12, 500: 16, 512: 17, 640: 21}
    assert {s: geometry.map_shape((s, 500))[0] for s in sizes} == sizes


def test_fcn_32s_maps_every_image_onto_itself_at_the_offset_of_the_paper() -> None:
    with torch.device("meta"):
        scores = vgg16(padding=100, head=True)
        net = Crop(nn.Sequential(scores, nn.ConvTranspose2d(21, 21, 64, 32, bias=False)), 19)
    geometry = fc.trace(net.eval())
    assert geometry.stride == (1, 1)
    assert geometry.period == (32, 32)
    # Each output px sums two units of the score map, 32 px apart.
    assert geometry.field == (404 + 32,) * 2
    assert all(geometry.map_shape((size, 500)) == (size, 500) for size in range(1, 200))


def test_fcn_alexnet_sees_355_px_and_maps_500_px_onto_10_units() -> None:
    geometry = traced(caffenet)
    assert (geometry.field, geometry.stride) == ((355, 355), (32, 32))
    assert geometry.map_shape((500, 500)) == (10, 10)
    assert geometry.map_shape((227, 227)) == (1, 1)


@pytest.mark.parametrize(("average", "field"), [(True, 907), (False, 715)])
def test_fcn_googlenet_sees_907_px_with_its_average_pooling_and_715_without(
    average: bool, field: int
) -> None:
    geometry = traced(googlenet, average=average)
    assert (geometry.field, geometry.stride) == ((field,) * 2, (32, 32))


TIMED = """
import sys, time, torch
sys.path.insert(0, sys.argv[1])
import fullconv as fc
from trunks import vgg16
with torch.device("meta"):
    net = vgg16(padding=100, head=True).eval()
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
        [sys.executable, "-c", TIMED, str(Path(__file__).parent)],
        env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    first, *later = map(float, done.stdout.split())
    assert first > 0  # it loads parts of PyTorch as well
    assert min(later) < 1


def test_seven_billion_weights_that_are_nowhere_are_traced_too() -> None:
    with torch.device("meta"):
        net = nn.Sequential(*(nn.Conv2d(9000, 9000, 3) for _ in range(10))).eval()
    assert sum(p.numel() for p in net.parameters()) > 7e9
    assert fc.trace(net, 9000).field == (21, 21)
