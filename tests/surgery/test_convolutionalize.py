"""Classifiers as fully convolutional networks: patch by patch what the classifier says."""

from __future__ import annotations

import copy
import io
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fullconv as fc
from fullconv.errors import FullconvError

from .classifiers import CASES, Case, Of, trunk

NAMES = pytest.mark.parametrize("name", CASES)


def classifier(case: Case) -> nn.Module:
    """In float64, with running statistics of its own, in evaluation."""
    torch.manual_seed(3)
    net = case.build().double()
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_()  # pyright: ignore[reportOptionalMemberAccess]
            module.running_var.uniform_(0.5, 2)  # pyright: ignore[reportOptionalMemberAccess]
    return net.eval()


def noise(case: Case, shape: tuple[int, ...], batch: int = 2) -> Tensor:
    channels = (case.channels,) if case.channels else ()
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, *channels, *shape, dtype=torch.float64, generator=generator)


def converted(case: Case, net: nn.Module) -> nn.Module:
    if case.channels:
        return fc.convolutionalize(net, case.patch, channels=case.channels)
    # The electrodes are the channels of the image.
    return fc.convolutionalize(net, case.patch[1:], channels=case.patch[0])


def spatial(case: Case) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Patch and stride without the channels."""
    return (case.patch, case.stride) if case.channels else (case.patch[1:], case.stride[1:])


@NAMES
def test_on_a_patch_it_is_the_classifier(name: str) -> None:
    case = CASES[name]
    net = classifier(case)
    fcn = converted(case, net)
    x = noise(case, case.patch)
    with torch.no_grad():
        found, expected = fcn(x), net(x)
    assert found.shape[-len(spatial(case)[0]) :] == (1,) * len(spatial(case)[0])
    torch.testing.assert_close(found.reshape(expected.shape), expected, atol=1e-12, rtol=1e-12)


@NAMES
def test_on_an_image_each_unit_is_the_classifier_on_the_sub_image_there(name: str) -> None:
    case = CASES[name]
    net = classifier(case)
    fcn = converted(case, net)
    patch, stride = spatial(case)
    grid = (3, 2, 2)[: len(patch)]
    shape = tuple(p + s * (n - 1) + 1 for p, s, n in zip(patch, stride, grid, strict=True))
    x = noise(case, (*case.patch[: len(case.patch) - len(patch)], *shape))
    with torch.no_grad():
        y = fcn(x)
        for unit in product(*map(range, grid)):
            box = [slice(u * s, u * s + p) for u, s, p in zip(unit, stride, patch, strict=True)]
            expected = net(x[(..., *box)])
            found = y[(..., *unit)].reshape(expected.shape)
            torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(
    "name",
    ["alexnet", "convnext", "eeg", "volume", "bins", "channels last", "in groups", "cosines"],
)
def test_the_geometry_is_that_of_the_patch(name: str) -> None:
    case = CASES[name]
    patch, stride = spatial(case)
    fcn = converted(case, classifier(case)).float()
    g = fc.trace(fcn, case.channels or case.patch[0], len(patch), shape=patch)
    assert g.field <= patch
    assert g.stride == stride


@NAMES
def test_weights_are_the_same_and_the_classifier_is_as_it_was(name: str) -> None:
    case = CASES[name]
    net = case.build().double().train()
    before, keys = copy.deepcopy(net), str(net)
    fcn = converted(case, net)
    assert str(net) == keys
    assert all(m.training for m in (*net.modules(), *fcn.modules()))
    for (key, a), (_, b) in zip(net.state_dict().items(), before.state_dict().items(), strict=True):
        assert torch.equal(a, b), key
    held = {p.untyped_storage().data_ptr() for p in net.parameters()}
    assert {p.untyped_storage().data_ptr() for p in fcn.parameters()} == held
    assert len(list(fcn.parameters())) == len(held)


def test_dropout_drops_in_training_and_nothing_is_lost_on_the_way() -> None:
    case = CASES["its own `forward`"]
    fcn = converted(case, classifier(case)).train()
    x = noise(case, case.patch)
    assert not torch.equal(fcn(x), fcn(x))
    assert torch.equal(fcn.eval()(x), fcn(x))
    kinds = [type(m).__name__ for m in fcn.modules()]
    assert (kinds.count("Dropout"), kinds.count("Linear")) == (1, 0)


def test_norms_after_linear_learn_statistics_over_all_units() -> None:
    case = CASES["norm after Linear"]
    net = classifier(case)
    fcn = converted(case, copy.deepcopy(net))
    x = noise(case, (20, 22))
    crops = [x[..., a : a + 16, b : b + 16] for a in (0, 2, 4) for b in (0, 2, 4, 6)]
    for norm, images in ((fcn.get_submodule("3"), x), (net[3], torch.cat(crops))):
        norm.train()
        (fcn if norm is not net[3] else net)(images)
    torch.testing.assert_close(fcn.get_submodule("3").running_mean, net[3].running_mean)
    torch.testing.assert_close(fcn.get_submodule("3").running_var, net[3].running_var)


def test_norms_frozen_in_training_stay_frozen() -> None:
    case = CASES["norm after Linear"]
    net = classifier(case).train()
    net[3].eval()
    fcn, before = converted(case, net), copy.deepcopy(net[3])
    assert {name for name, m in fcn.named_modules() if not m.training} == {"3"}
    fcn(noise(case, (20, 22)))
    torch.testing.assert_close(fcn.get_submodule("3").running_mean, before.running_mean)
    torch.testing.assert_close(net[3].running_mean, before.running_mean)


def test_a_state_dict_has_the_names_of_the_classifier() -> None:
    case = CASES["alexnet"]
    net = classifier(case)
    fcn = converted(case, net)
    assert fcn.state_dict().keys() == net.state_dict().keys()
    assert fcn.state_dict()["classifier.1.weight"].shape == (12, 8, 2, 2)
    assert fcn.meta["patch"] == (39, 39)


def test_a_network_that_was_saved_knows_its_patch_still() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 64, 5)).eval()
    fcn = fc.convolutionalize(net, (8, 8))
    fcn.note = "kept"  # pyright: ignore[reportArgumentType] (neither tensor nor module)
    known = {"patch": (8, 8), "beside": ("is padded where the map sees image",)}
    once = saved(fcn)
    for again in (once, saved(once), saved(copy.deepcopy(fcn)), copy.deepcopy(once)):
        assert again.meta == fcn.meta == known
        x = torch.randn(1, 3, 10, 11)
        assert torch.equal(again(x), fcn(x))
        assert not again.training
    assert once.note == "kept"
    told = fc.verify(once, shape=(3, 9, 9)).findings[-1].detail
    assert told.endswith("a cropped patch of 8 x 8 px is padded where the map sees image")


def saved(net: Any) -> Any:
    """Written and read again, as a file would hold it."""
    file = io.BytesIO()
    torch.save(net, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=False)


def test_several_answers_become_several_maps() -> None:
    def run(net: Of, x: Tensor) -> dict[str, Tensor]:
        x = net.stem(x)
        return {"what": net.what(x.flatten(1)), "mean": x.mean((2, 3)), "map": x}

    net = Of(run, stem=trunk(), what=nn.Linear(216, 5)).eval()  # pyright: ignore[reportArgumentType]
    fcn = fc.convolutionalize(net, (16, 16))
    x = torch.randn(1, 3, 18, 22)
    y = fcn(x)
    assert {k: tuple(v.shape) for k, v in y.items()} == {
        "what": (1, 5, 2, 4), "mean": (1, 6, 2, 4), "map": (1, 6, 7, 9),
    }  # fmt: skip
    torch.testing.assert_close(y["what"][..., 1, 3], net(x[..., 2:, 6:])["what"])


def test_an_answer_with_axes_of_one_position_becomes_a_map() -> None:
    net = Of(
        lambda net, x: net.last(net.stem(x).flatten(1)).unsqueeze(-1).unsqueeze(-1),
        stem=trunk(), last=nn.Linear(216, 5),
    ).eval()  # fmt: skip
    x = torch.randn(1, 3, 18, 22)
    y = fc.convolutionalize(net, (16, 16))(x)
    assert y.shape == (1, 5, 2, 4)
    torch.testing.assert_close(y[..., 1, 3], net(x[..., 2:, 6:])[..., 0, 0])


class SqueezeExcite(nn.Module):
    """As EfficientNet has it, or with Linear layers, or with ECA's convolution across channels."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.one, self.two = nn.Conv2d(6, 3, 1), nn.Conv2d(3, 6, 1)
        self.linear = nn.Sequential(nn.Linear(6, 3), nn.SiLU(), nn.Linear(3, 6), nn.Sigmoid())
        self.across = nn.Conv1d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "convolutions":
            scale = F.adaptive_avg_pool2d(x, 1)
            return x * self.two(F.silu(self.one(scale))).sigmoid()
        if self.kind == "linear":
            b, c, _, _ = x.shape
            return x * self.linear(x.mean((2, 3))).view(b, c, 1, 1).expand_as(x)
        scale = self.across(x.mean((2, 3)).view(x.shape[0], 1, -1)).sigmoid()
        return x * scale.view(x.shape[0], -1, 1, 1).expand_as(x)


@pytest.mark.parametrize("kind", ["convolutions", "linear", "eca"])
def test_squeeze_and_excite_is_a_window_of_the_patch(kind: str) -> None:
    """Inside the image each position is scaled by the window around it: a patch cropped there."""
    torch.manual_seed(0)
    block = SqueezeExcite(kind)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), block, nn.AvgPool2d(20), nn.Flatten(), nn.Linear(6, 4))
    net = net.double().eval()
    fcn = fc.convolutionalize(net, (22, 22))
    x = torch.randn(1, 3, 40, 45, dtype=torch.float64)
    with torch.no_grad():
        patch = x[..., 3:25, 7:29]
        torch.testing.assert_close(fcn(patch)[..., 0, 0], net(patch), atol=1e-12, rtol=0)
        # The definition, position by position: windows begin 9 before, and stay inside the map.
        maps = net[0](x)
        expected = torch.empty_like(maps)
        for i, j in product(range(38), range(43)):
            a, b = min(max(i - 9, 0), 18), min(max(j - 9, 0), 23)
            window = block(maps[..., a : a + 20, b : b + 20])
            expected[..., i, j] = window[..., i - a, j - b]
        expected = net[4](F.avg_pool2d(expected, 20, 1).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        torch.testing.assert_close(fcn(x), expected, atol=1e-12, rtol=0)
    # 20 positions are pooled, and each looks up to 19 further, before or behind.
    assert fc.trace(fcn.float(), 3).field == (22 + 19,) * 2


@dataclass
class _Found:
    best: Tensor


class Finds(nn.Module):
    """It branches on a size, so that it is called as it is; what it returns is no tuple."""

    def forward(self, x: Tensor) -> _Found:
        return _Found(x.amax((2, 3)) if x.shape[1] > 1 else x)


class FindsByName(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"best": x.amax((2, 3)) if x.shape[1] > 1 else x}


POOLED_VOLUMES = {
    "squeeze-and-excite": lambda x: x * x.mean((2, 3, 4), keepdim=True).sigmoid(),
    "bins": lambda x: F.adaptive_avg_pool3d(x, (2, 2, 3)),
    "a window": lambda x: F.adaptive_avg_pool3d(x, 1),
}


@pytest.mark.parametrize("name", POOLED_VOLUMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_volumes_are_pooled_in_half_precision_on_a_cpu_too(name: str, dtype: torch.dtype) -> None:
    """As in float64, from the same weights and voxels, up to the rounding of half precision."""
    torch.manual_seed(0)
    pooled = POOLED_VOLUMES[name](torch.zeros(1, 4, 6, 6, 6))
    net = Of(
        lambda net, x: net.last(POOLED_VOLUMES[name](net.stem(x)).flatten(1)),
        stem=nn.Conv3d(2, 4, 3), last=nn.Linear(pooled.numel(), 5),
    ).eval().to(dtype)  # fmt: skip
    volume = torch.randn(1, 2, 11, 12, 14).to(dtype)
    exact = fc.convolutionalize(copy.deepcopy(net).double(), (8, 8, 8), channels=2)
    fcn = fc.convolutionalize(net, (8, 8, 8), channels=2)
    with torch.no_grad():
        found, expected = fcn(volume), exact(volume.double())
    rounding = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), expected, atol=rounding, rtol=rounding)


REFUSED = {
    "GroupNorm": (
        nn.Sequential(nn.Conv2d(3, 6, 1), nn.GroupNorm(2, 6), nn.Flatten(), nn.Linear(6 * 256, 2)),
        r"`1` \(GroupNorm\) cannot be rewritten exactly: GroupNorm normalises by statistics",
    ),
    "InstanceNorm": (
        nn.Sequential(nn.Conv2d(3, 6, 1), nn.InstanceNorm2d(6), nn.Flatten(), nn.Linear(6 * 256, 2)),
        r"`1` \(InstanceNorm2d\).*InstanceNorm normalises by statistics",
    ),
    "LayerNorm over the map": (
        nn.Sequential(nn.LayerNorm([3, 16, 16]), nn.Flatten(), nn.Linear(3 * 256, 2)),
        r"`0` \(LayerNorm\).*does not take a larger image",
    ),
    "attention": (
        Of(
            lambda net, x: net.fc(net.attend(*[x.flatten(2).transpose(1, 2)] * 3)[0].mean(1)),
            attend=nn.MultiheadAttention(3, 1, batch_first=True), fc=nn.Linear(3, 2),
        ),
        r"`transpose` in `net` \(Of\).*the spatial axes are folded together",
    ),
    "softmax over the map": (
        Of(lambda net, x: net.fc(x.softmax(3).flatten(1)), fc=nn.Linear(768, 2)),
        r"`softmax` in `net` \(Of\).*`_softmax` looks at the whole image",
    ),
    "Linear along an axis": (
        nn.Sequential(nn.Linear(16, 4), nn.Flatten(), nn.Linear(3 * 16 * 4, 2)),
        r"`0` \(Linear\).*does not take a larger image",
    ),
    "uneven bins": (
        nn.Sequential(nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(3 * 49, 2)),
        r"`0` \(AdaptiveAvgPool2d\).*pools 16 positions into 7 bins of uneven sizes.*choose a patch",
    ),
    "maximum with channels last": (
        Of(lambda net, x: net.fc(x.permute(0, 2, 3, 1).amax((1, 2))), fc=nn.Linear(3, 2)),
        r"`amax`.*pools along axes of an unusual order",
    ),
    "a position embedding": (
        Of(lambda net, x: net.fc((x + torch.ones(16, 16)).mean((2, 3))), fc=nn.Linear(3, 2)),
        r"`add`.*does not take a larger image",
    ),
    "two strides": (
        Of(
            lambda _, x: torch.cat(
                [F.avg_pool2d(x, 16, 1).flatten(1), F.avg_pool2d(x[..., ::2, ::2], 8, 1).flatten(1)], 1
            ),
            fc=nn.Linear(3, 2),
        ),
        r"`cat`.*patches at different strides",
    ),
    "rolled": (
        Of(lambda net, x: net.fc(x.roll(1, 3).mean((2, 3))), fc=nn.Linear(3, 2)),
        r"`roll`.*looks at the whole image",
    ),
    "unknown": (
        Of(lambda net, x: net.fc(x.unfold(3, 2, 1).mean((2, 3, 4))), fc=nn.Linear(3, 2)),
        r"`unfold` in `net`.*no rule knows `unfold`",
    ),
    "in a dict": (
        Of(lambda net, x: net.fc(net.find(x)["best"]), find=FindsByName(), fc=nn.Linear(3, 2)),
        r"`find` \(FindsByName\).*it makes no larger map",
    ),
    "in a class of its own": (
        Of(lambda net, x: net.fc(net.find(x).best), find=Finds(), fc=nn.Linear(3, 2)),
        r"`output` in `net`.*an answer does not grow with the image",
    ),
    "its own branches": (
        Of(lambda net, x: net.fc(x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))), fc=nn.Linear(3, 2)),
        r"`net` itself \(Of\).*`forward` cannot be followed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exact_is_refused_by_name(name: str) -> None:
    net, message = REFUSED[name]
    with pytest.raises(fc.SurgeryError, match=message):
        fc.convolutionalize(net.eval(), (16, 16))


ONE_OF_SEVERAL = {
    "maximum": (lambda x: x.max(3)[0].max(2)[0], r"`max`.*it makes no larger map"),
    "by its name": (lambda x: x.max(3).values.max(2).values, r"`max`.*it makes no larger map"),
    "with indices": (
        lambda x: F.adaptive_max_pool2d(x, 1, return_indices=True)[0].flatten(1),
        r"`adaptive_max_pool2d_with_indices`.*it makes no larger map",
    ),
    "mean": (lambda x: torch.std_mean(x, (2, 3))[1], r"`std_mean`.*it makes no larger map"),
    "a column": (lambda x: x.unbind(3)[2].amax(2), r"`unbind`.*it makes more tensors"),
    "some columns": (lambda x: x.split(4, 3)[0].mean((2, 3)), r"`split`.*it makes more tensors"),
    "half": (lambda x: x.chunk(2, 3)[0].mean((2, 3)), r"`chunk`.*`split` looks at the whole"),
}


@pytest.mark.parametrize("name", ONE_OF_SEVERAL)
def test_each_of_several_results_must_be_a_map(name: str) -> None:
    run, message = ONE_OF_SEVERAL[name]
    net = Of(lambda net, x: net.fc(run(x)), fc=nn.Linear(3, 2)).eval()
    with pytest.raises(fc.SurgeryError, match=message):
        fc.convolutionalize(net, (16, 16))


class Same(nn.Conv2d):
    """TensorFlow's padding: so many positions that each stride has a window, half of them before."""

    def forward(self, input: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(
            input.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            more = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [more // 2, more - more // 2]
        return super().forward(F.pad(input, pads) if any(pads) else input)


BY_SIZE = {
    "cropped": (
        lambda _, x: F.max_pool2d(x[:, :, x.shape[2] % 2 :, x.shape[3] % 2 :], 2),
        r"`getitem` in `net` \(Of\)",
    ),
    "padded": (
        lambda _, x: F.max_pool2d(F.pad(x, (x.size(3) % 2, 0, x.size(2) % 2, 0)), 2),
        r"`pad` in `net` \(Of\)",
    ),
    "pooled": (
        lambda _, x: F.max_pool2d(x, 2, padding=x.shape[2] % 2), r"`max_pool2d` in `net` \(Of\)"
    ),
    "same": (lambda net, x: net.same(x), r"`same` \(Same\)"),
    "deep": (
        lambda net, x: net.same(F.max_pool2d(F.max_pool2d(F.max_pool2d(x, 2), 2), 2)), r"`same` \(Same\)"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_SIZE)
def test_what_pads_or_crops_by_the_size_of_the_image_is_refused(name: str) -> None:
    """On every second image it would move all units by 1 px."""
    run, message = BY_SIZE[name]
    net = Of(run, same=Same(3, 3, 3, stride=2)).eval()
    message += (
        r" cannot be rewritten exactly: what it pads or crops depends on the size.*same numbers"
    )
    classifier = Of(
        lambda net, x: net.fc(run(net, x).flatten(1)), same=net.same, fc=nn.LazyLinear(2)
    )
    classifier(torch.randn(1, 3, 32, 32))
    with pytest.raises(fc.SurgeryError, match=message):
        fc.convolutionalize(classifier, (32, 32))
    with pytest.raises(fc.SurgeryError, match=message):
        fc.densify(net)


def test_cropping_what_is_too_much_at_the_end_moves_nothing() -> None:
    net = Of(
        lambda net, x: net.fc(F.max_pool2d(x[..., : x.shape[2] // 2 * 2, :], 2).flatten(1)),
        fc=nn.Linear(3 * 64, 2),
    ).eval()
    x = torch.randn(1, 3, 19, 23)
    y = fc.convolutionalize(net, (16, 16))(x)
    assert y.shape == (1, 2, 2, 4)
    torch.testing.assert_close(y[..., 1, 3], net(x[..., 2:18, 6:22]))


def test_channels_may_be_split_and_constants_returned() -> None:
    net = Of(
        lambda net, x: (net.fc(torch.cat(x.split(2, 1)[::-1], 1).mean((2, 3))), net.fc.bias),
        fc=nn.Linear(3, 2),
    ).eval()
    x = torch.randn(1, 3, 18, 22)
    y, bias = fc.convolutionalize(net, (16, 16))(x)
    assert y.shape == (1, 2, 3, 7)
    torch.testing.assert_close(y[..., 2, 6], net(x[..., 2:, 6:])[0])
    assert torch.equal(bias, net.fc.bias)


def test_a_patch_that_the_classifier_does_not_take_is_refused() -> None:
    net = CASES["alexnet"].build()
    with pytest.raises(fc.FullconvError, match=r"one that the network takes, got .* \(3, 9, 9\)"):
        fc.convolutionalize(net, (9, 9))


@pytest.mark.parametrize("patch", [20, (-1, 20), (20.0, 20), (0,), "20", None, (True, 20)])
def test_a_patch_that_is_none_is_refused_by_its_rule(patch: Any) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 5), nn.Flatten(), nn.Linear(4 * 16 * 16, 2))
    with pytest.raises(FullconvError, match=r"`patch` must be whole px .*\(224, 224\), got"):
        fc.convolutionalize(net, patch)


@pytest.mark.parametrize("classifier", [None, nn.Linear, "resnet18"])
def test_what_is_no_network_is_refused_by_its_rule(classifier: Any) -> None:
    with pytest.raises(FullconvError, match=r"`classifier` must be a network, .*, got"):
        fc.convolutionalize(classifier, (20, 20))


@pytest.mark.parametrize("channels", [-1, 0, 3.0, "3", None, True])
def test_channels_that_are_no_number_are_refused_by_their_rule(channels: Any) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 5), nn.Flatten(), nn.Linear(4 * 16 * 16, 2))
    with pytest.raises(FullconvError, match=r"`channels` must be a whole number .* such as 3, got"):
        fc.convolutionalize(net, (20, 20), channels)


@pytest.mark.parametrize("stride", [(1, 2), 2.0, "2", None, True])
def test_a_stride_that_is_no_number_of_px_is_refused_by_its_rule(stride: Any) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 5), nn.MaxPool2d(2))
    for build in (fc.densify, fc.shift_and_stitch):
        with pytest.raises(FullconvError, match="`stride` must be a whole number of px"):
            build(net, stride)


def test_lazy_modules_must_have_seen_an_image() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 5), nn.Flatten(), nn.LazyLinear(2))
    with pytest.raises(FullconvError, match="lazy modules: run it once"):
        fc.convolutionalize(net, (20, 20))
    net(torch.rand(1, 3, 20, 20))
    assert fc.convolutionalize(net, (20, 20))(torch.rand(1, 3, 24, 24)).shape == (1, 2, 5, 5)


class _MadeInForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.Conv2d(3, 4, 5), nn.Linear(4 * 16 * 16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.Flatten()(self.features(x)))


def test_modules_that_are_made_in_forward_are_refused_with_what_to_do() -> None:
    with pytest.raises(
        FullconvError, match=r"`forward` makes modules.*in `__init__`.*torch\.flatten"
    ):
        fc.convolutionalize(_MadeInForward(), (20, 20))
