"""Heads on encoders: where maps lie, which sizes are legal, and what is said where a package is missing."""

from __future__ import annotations

import sys
from contextlib import nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import fullconv as fc
from fullconv.errors import BadConfigError, NotLocalError
from fullconv.networks import (
    EfficientNetLite0,
    EfficientNetLite1,
    EfficientNetLite2,
    build,
    check_builds_networks,
)
from fullconv.networks._efficientnet_lite import Size, efficientnet_lite_encoder, stages
from fullconv.networks._encoded import fcn_on, unet_on
from fullconv.networks._encoder import Encoder
from fullconv.surgery import crop_offset


class Chain(nn.Module):
    """Strided convolutions, which hand out all their maps."""

    def __init__(self, rows: list[tuple[int, int, int]]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 3, k, s, p) for k, s, p in rows)

    def forward(self, image: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []
        for layer in self.layers:
            image = layer(image)
            maps.append(image)
        return maps


def encoder(rows: list[tuple[int, int, int]]) -> Encoder:
    strides = [1]
    for _, stride, _ in rows:
        strides.append(strides[-1] * stride)
    return Encoder(Chain(rows), strides=strides[1:], widths=[3] * len(rows), whole={})


# Kernel, stride and padding as encoders have them: halves of kernels, patches side by side, and none.
LAYERS = st.sampled_from(
    [
        (3, 2, 1),
        (5, 2, 2),
        (7, 2, 3),
        (2, 2, 0),
        (4, 4, 0),
        (7, 4, 3),
        (11, 4, 2),
        (3, 2, 0),
        (3, 1, 0),
    ]
)


@settings(max_examples=12)
@given(rows=st.lists(LAYERS, min_size=1, max_size=3))
def test_maps_of_an_fcn_lie_on_the_image_whatever_the_encoder(
    rows: list[tuple[int, int, int]],
) -> None:
    net = fcn_on(encoder(rows), classes=2, channels=3).eval()
    geometry = fc.trace(net)
    assert geometry.stride == (1, 1)
    assert geometry.smallest_shape == (1, 1)
    assert crop_offset(geometry, None) == (0, 0)
    assert all(geometry.map_shape((size, size)) == (size, size) for size in range(1, 70))


def test_scores_of_an_encoder_that_does_not_pad_lie_over_what_they_see() -> None:
    torch.manual_seed(0)
    found = encoder([(11, 4, 2), (3, 2, 0), (3, 2, 0)])
    net = fcn_on(found, classes=2, channels=3).double().eval()
    image = torch.rand(1, 3, 48, 48, dtype=torch.float64, requires_grad=True)
    nn.init.constant_(net.net.score_fr.weight, 1.0)
    for layer in found.net.layers:
        nn.init.constant_(layer.weight, 1.0)
    (grad,) = torch.autograd.grad(net(image)[0, 0, 20:28, 20:28].sum(), image)
    seen = grad[0, 0].sum(0)
    middle = (seen * torch.arange(48)).sum() / seen.sum()
    assert abs(middle.item() - 23.5) < 0.5


def test_a_unet_refuses_maps_that_are_no_whole_number_of_times_smaller() -> None:
    with pytest.raises(
        BadConfigError,
        match=r"must have maps that are a whole .* got 13 px at stride 4 for an image of 56 px",
    ):
        unet_on(encoder([(11, 4, 2), (3, 2, 0)]), classes=2, channels=3)


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 1, 2])
def test_an_fcn_on_a_lite_looks_where_it_should(size: Size) -> None:
    found = efficientnet_lite_encoder(size, 3, (8, 16, 32))
    net = fcn_on(found, classes=2, channels=3).eval()
    assert crop_offset(fc.trace(net), None) == (0, 0)


# Parameters, and in training the share dropped: 4.7, 5.4 and 6.1 million by the table of README.md, and the
# last numbers in `efficientnet_lite_params` of efficientnet_lite_builder.py, both of tensorflow/tpu, in
# models/official/efficientnet/lite. The last digits are those of the tensors in the published weights.
@pytest.mark.parametrize(
    ("classifier", "millions", "count", "dropout"),
    [
        (EfficientNetLite0, 4.7, 4_652_008, 0.2),
        (EfficientNetLite1, 5.4, 5_416_680, 0.2),
        (EfficientNetLite2, 6.1, 6_092_072, 0.3),
    ],
)
def test_a_lite_has_the_parameters_of_its_paper(
    classifier: type[nn.Module], millions: float, count: int, dropout: float
) -> None:
    with torch.device("meta"):
        net = classifier()
    found = sum(p.numel() for p in net.parameters())
    assert found == count
    assert round(found / 1e6, 1) == millions
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [dropout]


def test_larger_lites_have_more_blocks_and_channels() -> None:
    """As the shapes in the published weights have it; a middle, 44, is rounded up to 48."""
    repeats, *_, channels = zip(*stages(1), strict=True)
    assert repeats == (1, 3, 3, 4, 4, 5, 1)
    assert channels == (16, 24, 40, 80, 112, 192, 320)
    repeats, *_, channels = zip(*stages(2), strict=True)
    assert repeats == (1, 3, 3, 4, 4, 5, 1)
    assert channels == (16, 24, 48, 88, 120, 208, 352)


def test_a_network_with_frozen_norms_does_not_move_them() -> None:
    net = build("unet:efficientnet-lite0", classes=2, width=2, norms="frozen").train()
    before = {n: b.clone() for n, b in net.named_buffers() if n.startswith("net.trunk")}
    net(torch.rand(2, 3, 40, 40)).sum().backward()
    after = dict(net.named_buffers())
    assert before
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_network_with_frozen_norms_is_local_in_training() -> None:
    for norms, error in (("frozen", None), ("batch", NotLocalError)):
        found = encoder([(3, 2, 1)] * 2)
        found.net.layers[1] = nn.Sequential(found.net.layers[1], nn.BatchNorm2d(3))
        net = unet_on(found, classes=2, channels=3, width=2, norm="frozen", norms=norms).train()
        with pytest.raises(error) if error else nullcontext():
            fc.trace(net)


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, 2, 1)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.conv(image)
        return [x * x.mean((2, 3), keepdim=True)]


def test_an_encoder_that_is_not_local_is_refused_by_name() -> None:
    with pytest.raises(NotLocalError, match="is not local"):
        fcn_on(Encoder(Pooled(), strides=[2], widths=[3], whole={}), classes=2, channels=3)


class Apart(nn.Module):
    """Two convolutions of the image itself, at strides 2 and `stride`."""

    def __init__(self, stride: int, kernel: int, padding: int) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, 3, 3, 2, 1)
        self.coarse = nn.Conv2d(3, 3, kernel, stride, padding)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.fine(image), self.coarse(image)]


class Tall(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, (2, 1), 1)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.conv(image)]


def test_strides_that_do_not_divide_each_other_or_differ_by_axis_are_refused() -> None:
    with pytest.raises(BadConfigError, match="strides divide each other, got 2 and 3 px"):
        fcn_on(Encoder(Apart(3, 3, 1), strides=[2, 3], widths=[3, 3], whole={}), 2, 3)
    with pytest.raises(BadConfigError, match=r"maps of one whole stride, got \(2, 1\) px"):
        fcn_on(Encoder(Tall(), strides=[2], widths=[3], whole={}), 2, 3)


def test_a_head_that_asks_for_a_stride_that_is_not_there_is_refused() -> None:
    with pytest.raises(
        BadConfigError,
        match="must have maps at strides 8, 64 px, got 2, 4, 8, 16, 32; take another",
    ):
        efficientnet_lite_encoder(0, 3, (8, 64))


def test_maps_a_quarter_of_a_position_apart_are_refused() -> None:
    """Units of the fine map lie at 1/2 + 2 i px, those of the coarse one at 2 + 4 j px."""
    with pytest.raises(
        BadConfigError, match="must have maps that lie whole or half positions apart"
    ):
        fcn_on(Encoder(Apart(4, 4, 0), strides=[2, 4], widths=[3, 3], whole={}), 2, 3)


@pytest.mark.parametrize(
    ("name", "package", "pip"),
    [
        ("timm:resnet34", "timm", "timm"),
        ("fcn32s-timm:resnet34", "timm", "timm"),
        ("unet-torchvision:resnet18", "torchvision", "torchvision"),
        ("smp:Unet", "segmentation_models_pytorch", "segmentation-models-pytorch"),
    ],
)
def test_a_missing_package_is_answered_with_the_line_to_install_it(
    name: str, package: str, pip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    check_builds_networks(name)
    with pytest.raises(BadConfigError, match=f"needs the package {package}, .* pip install {pip}"):
        build(name, classes=2)


def test_options_of_heads_are_checked() -> None:
    with pytest.raises(BadConfigError, match="`norms` must be one of batch, frozen, got 'layer'"):
        build("unet:efficientnet-lite0", classes=2, norms="layer")
    with pytest.raises(BadConfigError, match="`width` must be a whole number of at least 1, got 0"):
        build("unet:efficientnet-lite0", classes=2, width=0)
    with pytest.raises(
        BadConfigError, match="`timm:resnet34` has no option 'width'; it takes learned"
    ):
        build("timm:resnet34", classes=2, width=3)


def test_a_unet_joins_every_map() -> None:
    torch.manual_seed(0)
    found = encoder([(3, 2, 1)] * 3)
    net = unet_on(found, classes=2, channels=3, width=2, norm="none").eval()
    image = torch.rand(1, 3, 40, 24, requires_grad=True)
    for layer in found.net.layers:
        layer.bias.requires_grad_()
    net(image).sum().backward()
    assert all(layer.weight.grad.abs().sum() > 0 for layer in found.net.layers)
    assert [block[0][0].in_channels for block in net.net.up] == [3 + 3, 4 + 3]
