"""The published networks against the numbers of their papers and of the authors' code.

Sources: Long, Shelhamer & Darrell (CVPR 2015), Table 1 and section 4; the authors' repository
shelhamer/fcn.berkeleyvision.org, commit 1305c73: ``*/net.py`` (offsets, kernels, factors) and
``surgery.py`` (bilinear kernels). Sizes and parameters follow from these by counting.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor, nn

import fullconv as fc
from fullconv.errors import BadConfigError
from fullconv.networks import build

FAMILY = [
    "fcn32s-vgg16", "fcn16s-vgg16", "fcn8s-vgg16", "fcn8s-atonce-vgg16", "fcn-alexnet", "fcn-googlenet",
]  # fmt: skip


@cache
def published(name: str, **options: object) -> nn.Module:
    """A network of the published size, without numbers."""
    with torch.device("meta"):
        return build(name, classes=21, **options).eval()


class Coarse(nn.Module):
    """The scores before any enlarging."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        return self.net.score_fr(self.net.trunk(image)[-1])


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("fcn32s-vgg16", 134_346_581),
        ("fcn16s-vgg16", 134_346_581 + 10_773),
        ("fcn8s-vgg16", 134_346_581 + 10_773 + 5_397),
        ("fcn8s-atonce-vgg16", 134_346_581 + 10_773 + 5_397),
        ("fcn-alexnet", 56_954_261),
    ],
)
def test_parameters_are_as_many_as_published(name: str, count: int) -> None:
    assert sum(p.numel() for p in published(name).parameters()) == count


def test_googlenet_has_about_6_million_parameters_in_22_layers() -> None:
    net = published("fcn-googlenet")
    assert round(sum(p.numel() for p in net.parameters()) / 1e6) == 6
    # A branch of an inception has two convolutions one after the other at most.
    stem, inceptions, score = 3, 2 * 9, 1
    assert stem + inceptions + score == 22
    assert sum(isinstance(m, nn.Conv2d) for m in net.modules()) == stem + 6 * 9 + score


def test_a_learned_enlarging_of_32_times_has_1_806_336_parameters() -> None:
    fixed, learned = published("fcn32s-vgg16"), published("fcn32s-vgg16", learned="all")
    counts = [sum(p.numel() for p in net.parameters()) for net in (fixed, learned)]
    assert counts[1] - counts[0] == 21 * 21 * 64 * 64 == 1_806_336


@pytest.mark.parametrize(
    ("name", "options", "field"),
    [
        ("fcn32s-vgg16", {}, 404),
        ("fcn-alexnet", {}, 355),
        ("fcn-googlenet", {}, 715),
        ("fcn-googlenet", {"average": True}, 907),
    ],
)
def test_fields_and_strides_are_those_of_table_1(
    name: str, options: dict[str, object], field: int
) -> None:
    geometry = fc.trace(Coarse(published(name, **options)))
    assert (geometry.field, geometry.stride) == ((field, field), (32, 32))
    assert geometry.smallest_shape == (1, 1)


@pytest.mark.parametrize("name", ["fcn32s-vgg16", "fcn-alexnet"])
def test_score_maps_have_the_sizes_of_the_authors_networks(name: str) -> None:
    net = Coarse(published(name))
    for size, units in {224: 8, 375: 12, 500: 16, 512: 17, 640: 21}.items():
        assert net(torch.empty(1, 3, size, 500, device="meta")).shape == (1, 21, units, 16)


@pytest.mark.parametrize(
    ("name", "crop", "skips", "kernels"),
    [
        ("fcn32s-vgg16", 19, [], {"upscore": 64}),
        ("fcn16s-vgg16", 27, [5], {"upscore2": 4, "upscore16": 32}),
        ("fcn8s-vgg16", 31, [5, 9], {"upscore2": 4, "upscore_pool4": 4, "upscore8": 16}),
        ("fcn8s-atonce-vgg16", 31, [5, 9], {"upscore2": 4, "upscore_pool4": 4, "upscore8": 16}),
        ("fcn-alexnet", 18, [], {"upscore": 63}),
    ],
)
def test_offsets_and_kernels_come_out_as_the_authors_wrote_them(
    name: str, crop: int, skips: list[int], kernels: dict[str, int]
) -> None:
    net = published(name)
    assert net.crop.offset == (crop, crop)
    assert [skip.offset for skip in net.skips] == [(offset, offset) for offset in skips]
    found = {key: net.get_buffer(f"{key}.kernel").shape for key in kernels}
    assert found == {key: (21, 1, size, size) for key, size in kernels.items()}


@pytest.mark.parametrize("name", FAMILY)
def test_every_image_is_mapped_onto_itself(name: str) -> None:
    """All sizes modulo the period, from 1 px on."""
    net = published(name)
    for size in [*range(1, 34), 500, 1499]:
        image = torch.empty(1, 3, size, 2, device="meta")
        assert net(image).shape == (1, 21, size, 2)


def test_dropout_is_that_of_single_numbers_where_the_reference_has_it() -> None:
    drops = {
        n: m.p for n, m in published("fcn8s-vgg16").named_modules() if isinstance(m, nn.Dropout)
    }
    assert drops == {"trunk.drop6": 0.5, "trunk.drop7": 0.5}
    assert not any("Dropout2d" in type(m).__name__ for m in published("fcn8s-vgg16").modules())


@pytest.mark.parametrize("name", FAMILY)
def test_scores_begin_at_zero(name: str) -> None:
    net = build(name, classes=4, thin=8)
    scores = {n: p for n, p in net.named_parameters() if n.startswith("score_")}
    assert len(scores) == 2 * (1 + len(net.skips))
    assert not any(p.any() for p in scores.values())
    assert net(torch.rand(1, 3, 9, 9)).abs().max() == 0


@pytest.mark.parametrize("name", ["fcn8s-vgg16", "fcn8s-atonce-vgg16"])
def test_fcn8s_is_the_sum_that_the_authors_wrote(name: str) -> None:
    """Written out with their numbers: dense kernels, offsets 5, 9 and 31, factors 0.01 and 0.0001."""
    torch.manual_seed(0)
    net = build(name, classes=3, thin=32).double().eval()
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    image = torch.rand(1, 3, 75, 90, dtype=torch.float64)
    pool3, pool4, top = net.trunk(image)
    s3, s4 = (0.0001, 0.01) if "atonce" in name else (1, 1)
    upscore2 = enlarged(net.score_fr(top), 4, 2)
    fuse4 = upscore2 + cropped(net.score_pool4(pool4 * s4), 5, upscore2)
    up4 = enlarged(fuse4, 4, 2)
    fuse3 = up4 + cropped(net.score_pool3(pool3 * s3), 9, up4)
    expected = cropped(enlarged(fuse3, 16, 8), 31, image)
    torch.testing.assert_close(net(image), expected, atol=1e-12, rtol=0)
    assert expected.std() > 0


def enlarged(x: Tensor, kernel: int, stride: int) -> Tensor:
    """A transposed convolution whose weights are the authors' formula, written out."""
    factor = (kernel + 1) // 2
    middle = factor - 1 if kernel % 2 else factor - 0.5
    weight = torch.zeros(x.shape[1], x.shape[1], kernel, kernel, dtype=x.dtype)
    for channel in range(x.shape[1]):
        for i in range(kernel):
            for j in range(kernel):
                taps = (1 - abs(i - middle) / factor) * (1 - abs(j - middle) / factor)
                weight[channel, channel, i, j] = taps
    return nn.functional.conv_transpose2d(x, weight, stride=stride)


def cropped(x: Tensor, offset: int, like: Tensor) -> Tensor:
    height, width = like.shape[2:]
    return x[..., offset : offset + height, offset : offset + width]


def test_caffenet_pools_before_it_normalises_and_halves_three_layers() -> None:
    net = published("fcn-alexnet")
    names = [name for name, _ in net.trunk.named_children()]
    assert names.index("pool1") < names.index("norm1") < names.index("conv2")
    groups = {n: m.groups for n, m in net.trunk.named_modules() if isinstance(m, nn.Conv2d)}
    assert groups == {
        "conv1": 1, "conv2": 2, "conv3": 1, "conv4": 2, "conv5": 2, "fc6": 1, "fc7": 1,
    }  # fmt: skip


def test_learned_enlargings_start_as_the_fixed_ones() -> None:
    torch.manual_seed(0)
    fixed = build("fcn16s-vgg16", classes=3, thin=32).eval()
    image = torch.rand(1, 3, 40, 33)
    for learned, count in (("inner", 1), ("all", 2)):
        other = build("fcn16s-vgg16", classes=3, thin=32, learned=learned).eval()
        assert sum("upscore" in n for n, _ in other.named_parameters()) == count
        other.load_state_dict(fixed.state_dict(), strict=False)
        for net in (fixed, other):
            nn.init.constant_(net.score_fr.weight, 0.01)
        torch.testing.assert_close(other(image), fixed(image))


def test_a_width_that_cannot_be_divided_is_refused() -> None:
    with pytest.raises(BadConfigError, match=r"`thin` must be a power of 2 up to 64, .* got 3"):
        build("fcn32s-vgg16", classes=2, thin=3)
    with pytest.raises(BadConfigError, match=r"`thin` must be a power of 2 up to 8, .* got 16"):
        build("fcn-googlenet", classes=2, thin=16)
    halves = r"`thin` must be a power of 2 up to 16, .* into 2 equal groups each, got 32"
    with pytest.raises(BadConfigError, match=halves):
        build("fcn-alexnet", classes=2, thin=32)
    with pytest.raises(BadConfigError, match=r"`thin` must be a power of 2 .* got '4'"):
        build("fcn32s-vgg16", classes=2, thin="4")
    with pytest.raises(BadConfigError, match=r"`thin` must be .* got 0"):
        build("fcn-alexnet", classes=2, thin=0)


def test_what_is_learned_is_one_of_three() -> None:
    with pytest.raises(
        BadConfigError, match=r"`learned` must be one of none, inner, all, got 'no'"
    ):
        build("fcn32s-vgg16", classes=2, thin=64, learned="no")


@pytest.mark.parametrize(
    ("name", "thin"),
    [
        ("fcn8s-vgg16", 64),
        ("fcn-alexnet", 16),
        pytest.param("fcn-googlenet", 8, marks=pytest.mark.slow),
    ],
)
def test_geometry_windows_and_gradients_are_certified(name: str, thin: int) -> None:
    torch.manual_seed(0)
    found = fc.verify(build(name, classes=2, thin=thin).eval(), shape=(3, 560, 9))
    assert found.passed, str(found)
