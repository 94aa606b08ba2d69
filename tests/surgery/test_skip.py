"""Skips: the paper's offsets come out of geometry, and what is summed sees the same place."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import fullconv as fc
from fullconv.surgery import Crop, Skip, crop_offset, crop_to_image

VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")
CAFFE_PADDING = 100


def pool() -> nn.Module:
    return nn.MaxPool1d(2, 2, ceil_mode=True)


class VGG(nn.Module):
    """VGG16 to a pooling, or with the fully connected layers; thin and along one axis, as is enough."""

    def __init__(self, pools: int, *, head: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for kind in VGG16:
            if kind == "M":
                layers.append(pool())
            else:
                padding = 1 if layers else CAFFE_PADDING
                layers.append(nn.Conv1d(1, 1, 3, padding=padding))
            if sum(isinstance(m, nn.MaxPool1d) for m in layers) == pools:
                break
        if head:
            layers += [nn.Conv1d(1, 1, 7), nn.Conv1d(1, 1, 1)]
        self.net = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        return self.net(image)


class Fused(nn.Module):
    """A coarse network upsampled twice and summed with a finer one."""

    def __init__(self, coarse: nn.Module, fine: nn.Module) -> None:
        super().__init__()
        self.coarse = nn.Sequential(coarse, nn.ConvTranspose1d(1, 1, 4, 2, bias=False))
        self.fine = fine
        self.skip = fc.skip(self.coarse, fine, channels=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.skip(self.coarse(image), self.fine(image))


def upsampled(net: nn.Module, kernel: int, stride: int) -> nn.Module:
    return nn.Sequential(net, nn.ConvTranspose1d(1, 1, kernel, stride, bias=False))


def test_the_offsets_of_fcn_vgg16_come_out() -> None:
    """19, 5 and 27, 9 and 31: Shelhamer's nets, of which none is written into the package."""
    at_32 = VGG(5, head=True)
    at_16 = Fused(at_32, VGG(4))
    at_8 = Fused(at_16, VGG(3))
    assert (at_16.skip.offset, at_8.skip.offset) == ((5,), (9,))
    finals = [upsampled(at_32, 64, 32), upsampled(at_16, 32, 16), upsampled(at_8, 16, 8)]
    assert [crop_to_image(net, channels=1).offset[0] for net in finals] == [19, 27, 31]


def caffenet() -> nn.Module:
    p = lambda: nn.MaxPool1d(3, 2, ceil_mode=True)
    return nn.Sequential(
        nn.Conv1d(1, 1, 11, 4, padding=CAFFE_PADDING), p(), nn.Conv1d(1, 1, 5, padding=2), p(),
        nn.Conv1d(1, 1, 3, padding=1), nn.Conv1d(1, 1, 3, padding=1), nn.Conv1d(1, 1, 3, padding=1),
        p(), nn.Conv1d(1, 1, 6),
    )  # fmt: skip


def test_fcn_alexnet_is_cropped_by_18_with_a_kernel_of_63_and_by_no_whole_number_with_64() -> None:
    assert crop_to_image(upsampled(caffenet(), 63, 32), channels=1).offset == (18,)
    with pytest.raises(fc.FullconvError, match=r"got \(18\.5,\).*one px smaller or larger"):
        crop_to_image(upsampled(caffenet(), 64, 32), channels=1)


@settings(max_examples=12)
@given(
    layers=st.lists(
        st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(0, 4)), min_size=1, max_size=3
    ),
    kernel=st.integers(1, 12),
)
def test_offsets_are_those_of_the_alignment_algebra(
    layers: list[tuple[int, int, int]], kernel: int
) -> None:
    """Caffe's: a layer maps x to x / s + (p - (k - 1) / 2) / s, a deconvolution to s x + (k - 1) / 2."""
    scale, place = Fraction(1), Fraction(0)
    net = nn.Sequential()
    for k, s, p in layers:
        net.append(nn.Conv1d(1, 1, k, s, p))
        scale, place = scale / s, (place + p - Fraction(k - 1, 2)) / s
    factor = int(1 / scale)
    kernel = max(kernel, factor)  # positions that see nothing have no place
    net.append(nn.ConvTranspose1d(1, 1, kernel, factor))
    expected = place * factor + Fraction(kernel - 1, 2)
    if expected.denominator > 1:
        with pytest.raises(fc.FullconvError, match="a whole number of positions apart"):
            crop_to_image(net, channels=1)
    else:
        assert crop_to_image(net, channels=1).offset == (expected,)


class Thin(nn.Module):
    """FCN-8s with a padding of 100, of one channel: legal for every size."""

    def __init__(self) -> None:
        super().__init__()
        net = Fused(Fused(VGG(5, head=True), VGG(4)), VGG(3))
        self.net = upsampled(net, 16, 8)
        self.crop = crop_to_image(self.net, channels=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.crop(self.net(image), image)


def test_every_image_has_a_map_of_its_size() -> None:
    net = Thin().eval()
    with torch.device("meta"):
        net = net.to("meta")
        assert all(
            net(torch.empty(1, 1, n)).shape == (1, 1, n) for n in (*range(1, 34), 63, 64, 65, 511)
        )
    assert fc.trace(net, 1).stride == (1,)


def upsampled2d(net: nn.Module, kernel: int, stride: int) -> nn.Module:
    return nn.Sequential(net, nn.ConvTranspose2d(1, 1, kernel, stride, bias=False))


def bright(net: nn.Module, image: Tensor) -> Tensor:
    """The middle of mass of a non-negative map, in positions."""
    with torch.no_grad():
        y = net(image)[0, 0].double()
    place = torch.arange(y.shape[1], dtype=torch.float64)
    return (y.sum(0) * place).sum() / y.sum()


def averaging(net: nn.Module) -> nn.Module:
    """The same network, its weights all positive and alike: a spot stays where it is."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
            nn.init.zeros_(module.bias)  # pyright: ignore[reportArgumentType]
        elif isinstance(module, nn.ConvTranspose2d):
            fc.surgery.fill_bilinear(module)
        elif isinstance(module, nn.Sequential):
            for name, child in module.named_children():
                if isinstance(child, nn.MaxPool2d):
                    setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride))
    return net


@pytest.mark.parametrize("column", [40, 64, 101])
def test_a_spot_is_mapped_onto_itself(column: int) -> None:
    """Moved by nothing but what strides round, less than one unit of the coarse map."""
    net = nn.Sequential(
        nn.Conv2d(1, 1, 3, padding=20), nn.MaxPool2d(2), nn.Conv2d(1, 1, 3, padding=1), nn.MaxPool2d(2),
    )  # fmt: skip
    fine = net[:2]
    coarse = upsampled2d(nn.Sequential(net, nn.Conv2d(1, 1, 3)), 4, 2)
    whole = upsampled2d(_Sum(coarse, fine, fc.skip(coarse, fine, channels=1)), 4, 2)
    averaging(whole)
    crop = crop_to_image(whole, channels=1)
    image = torch.zeros(1, 1, 3, 140)
    image[..., column] = 1
    cropped = bright(_Cropped(whole, crop), image)
    assert abs(float(cropped) - column) <= 2


class _Sum(nn.Module):
    def __init__(self, coarse: nn.Module, fine: nn.Module, skip: Skip) -> None:
        super().__init__()
        self.coarse, self.fine, self.skip = coarse, fine, skip

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(self.coarse(x), self.fine(x))


class _Cropped(nn.Module):
    def __init__(self, net: nn.Module, crop: Crop) -> None:
        super().__init__()
        self.net, self.crop = net, crop

    def forward(self, x: Tensor) -> Tensor:
        return self.crop(self.net(x), x)


@pytest.mark.parametrize("offset", [-3, -1, 0, 2, 5])
def test_positions_at_the_same_place_are_summed(offset: int) -> None:
    coarse = torch.arange(7.0).reshape(1, 1, 7)
    fine = torch.arange(6.0).reshape(1, 1, 6)
    pairs = [i + (i + offset) for i in range(7) if 0 <= i + offset < 6]
    assert Skip((offset,))(coarse, fine)[0, 0].tolist() == pairs


def test_norms_in_training_do_not_hinder_and_are_left_so() -> None:
    first = nn.Sequential(nn.Conv2d(3, 4, 3, padding=3), nn.BatchNorm2d(4), nn.MaxPool2d(2)).train()
    second = nn.Sequential(first, nn.MaxPool2d(2), nn.ConvTranspose2d(4, 4, 4, 2))
    assert fc.skip(second, first).offset == (-1, -1)
    assert first[1].training


def test_geometries_do_as_well_as_networks() -> None:
    fine = nn.MaxPool1d(2)
    coarse = nn.Sequential(nn.MaxPool1d(4), nn.ConvTranspose1d(1, 1, 4, 2))
    found = [fc.trace(net, 1) for net in (coarse, fine)]
    assert fc.skip(*found).offset == fc.skip(coarse, fine, channels=1).offset == (-1,)


class Refusing(nn.Module):
    """Takes even sizes from 6 px: pooling drops a last odd position, and the skip needs 6."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.up = nn.MaxPool1d(2), nn.Upsample(scale_factor=2)
        self.crop, self.skip = Crop((0,)), Skip((5,))

    def forward(self, image: Tensor) -> Tensor:
        return self.skip(image, self.crop(self.up(self.pool(image)), image))


def test_sizes_that_a_crop_or_a_skip_refuses_are_illegal_and_no_more() -> None:
    geometry = fc.trace(Refusing(), 1)
    assert geometry.smallest_shape == (6,)
    assert geometry.axes[0].legal == ((6, 1), None)


def test_what_cannot_be_aligned_is_refused() -> None:
    one, two = fc.trace(nn.MaxPool2d(2)), fc.trace(nn.MaxPool2d(4))
    with pytest.raises(fc.FullconvError, match=r"stride of `like`, \(4, 4\) px, got \(2, 2\)"):
        crop_offset(one, two)
    with pytest.raises(ValueError, match=r"must overlap, got \(1, 1, 2\) and \(1, 1, 2\)"):
        Skip((2,))(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2))
    with pytest.raises(ValueError, match="positions 1 to 5 of axis 0, got 4 positions"):
        Crop((1,))(torch.zeros(1, 1, 4), torch.zeros(1, 1, 4))
