"""Dense networks: every unit is what the network says, by dilation and on fragments alike."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import product
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import fullconv as fc

from .classifiers import Of
from .phases import dense_reference

CLOSE = {"atol": 1e-12, "rtol": 1e-12}
EXECUTIONS = pytest.mark.parametrize("execution", ["dilation", "fragments"])


class Residual(nn.Module):
    """A residual block as ResNet has it: padded, with a strided shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.second = nn.Conv2d(width, width, 3, padding=1)  # registered before it is called
        self.first = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.shortcut = nn.Conv2d(channels, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(F.relu(self.norm(self.first(x))))
        return F.relu(y + self.shortcut(x))


class Cropped(nn.Module):
    """A residual block without padding, its shortcut strided by slicing alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + x[:, :, 1:-1:2, 1:-1:2]


def chain(*layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*(copy.deepcopy(layer) for layer in layers))


def conv(channels: int, width: int, kernel: int, **settings: int | str) -> nn.Conv2d:
    return nn.Conv2d(channels, width, kernel, **settings)


NETS: dict[str, Callable[[], nn.Module]] = {
    "pooling of kinds": chain(
        conv(3, 4, 4), nn.ReLU(inplace=True), nn.MaxPool2d(2), conv(4, 4, 3), nn.AvgPool2d(3, 2), conv(4, 2, 2)
    ),
    "strides and dilation": chain(conv(3, 4, 3, stride=2), conv(4, 4, 3, dilation=2), conv(4, 2, 2, stride=3)),
    "groups and depthwise": chain(
        conv(3, 6, 3, stride=2), nn.Conv2d(6, 6, 3, groups=6), nn.MaxPool2d(3, 2), nn.Conv2d(6, 4, 1, groups=2)
    ),
    "residual, padded": chain(conv(3, 4, 7, stride=2, padding=3), Residual(4, 4, 1), Residual(4, 6, 2)),
    "residual, cropped": chain(conv(3, 4, 3), Cropped(4), nn.PReLU(4), Cropped(4)),
    "padded pooling": chain(
        conv(3, 4, 3, padding=1), nn.MaxPool2d(3, 2, 1), conv(4, 4, 3, padding=1), nn.MaxPool2d(3, 2, 1),
        nn.AvgPool2d(3, 1, 1, count_include_pad=False), conv(4, 2, 3, padding=2, dilation=2),
    ),
    "ceil mode": chain(
        conv(3, 4, 3, padding=1), nn.MaxPool2d(2, ceil_mode=True), conv(4, 4, 3, padding=1),
        nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False),
        conv(4, 2, 1),
    ),
    "ceil mode, padded": chain(conv(3, 4, 3, padding=1), nn.MaxPool2d(3, 3, 1, ceil_mode=True), conv(4, 2, 2)),
    "means of means": chain(
        conv(3, 4, 2), nn.AvgPool2d(2, 2, padding=1), conv(4, 4, 3), nn.AvgPool2d(3, 2, divisor_override=5)
    ),
    "overlapping strides": chain(conv(3, 4, 5, stride=4, padding=2), nn.LocalResponseNorm(3), conv(4, 2, 3)),
    "functions": lambda: Of(
        lambda net, x: F.conv2d(
            F.avg_pool2d(torch.cat([F.max_pool2d(net.a(x), 2), net.b(x)[:, :1]], 1), 2), net.b.weight, stride=2
        ),
        a=conv(3, 2, 3), b=conv(3, 2, 4, stride=2),
    ),
    "branches": lambda: Of(
        lambda net, x: torch.cat([net.one(x), net.pool(net.two(x))], 1).permute(0, 2, 3, 1).softmax(-1).permute(0, 3, 1, 2),
        one=conv(3, 2, 5, stride=4), two=conv(3, 2, 3, stride=2), pool=nn.MaxPool2d(2),
    ),
    "padding of its own": chain(
        nn.ZeroPad2d((2, 0, 1, 3)), conv(3, 4, 3, stride=2), nn.ConstantPad2d(1, 0.5), conv(4, 4, 3), nn.MaxPool2d(2)
    ),
    "weights computed anew": chain(weight_norm(conv(3, 4, 3, stride=2)), weight_norm(conv(4, 2, 2))),
    "same padding": chain(nn.MaxPool2d(2), conv(3, 4, 3, padding="same"), nn.MaxPool2d(2), conv(4, 2, 2, padding="same")),
    "same padding of even kernels": chain(conv(3, 4, 4, padding="same"), nn.MaxPool2d(2), conv(4, 2, 6, padding="same")),
    "channels last inside": lambda: Of(
        lambda net, x: net.pool(net.linear(net.norm(net.stem(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)),
        stem=conv(3, 4, 2, stride=2), norm=nn.LayerNorm(4), linear=nn.Linear(4, 6), pool=nn.MaxPool2d(2),
    ),
}  # fmt: skip
PADDED = {"residual, padded", "padded pooling", "ceil mode", "ceil mode, padded", "means of means", "overlapping strides", "padding of its own", "same padding", "same padding of even kernels"}  # fmt: skip


def network(name: str) -> nn.Module:
    """In float64, with running statistics of its own, in evaluation."""
    torch.manual_seed(2)
    net = NETS[name]().double().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()  # pyright: ignore[reportOptionalMemberAccess]
    return net


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def densified(net: nn.Module, execution: str, stride: int = 1, **settings: int) -> nn.Module:
    dense = fc.densify(net, stride, **settings)
    dense.execution = execution
    return dense


@EXECUTIONS
@pytest.mark.parametrize("name", NETS)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
def test_a_dense_map_is_that_of_all_phases(name: str, execution: str) -> None:
    net = network(name)
    stride = fc.trace(net).stride
    targets = [t for t in (1, 2, 3) if all(s % t == 0 for s in stride)]
    for target, shape in zip([*targets, 1], ((33, 40), (42, 31), (39, 37)), strict=False):
        dense = densified(net, execution, target)
        if execution == "fragments" and "a part of its stride" in dense._hindrance():
            continue
        x = noise(2, 3, *shape)
        with torch.no_grad():
            found = dense(x)
            torch.testing.assert_close(found, dense_reference(net, x, stride, target), **CLOSE)
            kept = found[(..., *(slice(None, None, s // target) for s in stride))]
            torch.testing.assert_close(kept, net(x), **CLOSE)


@EXECUTIONS
@pytest.mark.parametrize("name", sorted(NETS.keys() - PADDED))
def test_every_unit_is_the_network_on_the_sub_image_there(name: str, execution: str) -> None:
    net = network(name)
    field = fc.trace(net).field
    x = noise(1, 3, *(f + 5 for f in field))
    with torch.no_grad():
        y = densified(net, execution)(x)
        assert y.shape[2:] == (6, 6)
        for i, j in product(range(6), range(6)):
            crop = x[..., i : i + field[0], j : j + field[1]]
            torch.testing.assert_close(y[..., i, j], net(crop)[..., 0, 0], **CLOSE)


@EXECUTIONS
@pytest.mark.parametrize("name", ["pooling of kinds", "residual, padded", "padded pooling"])
def test_gradients_are_those_of_all_phases(name: str, execution: str) -> None:
    net = network(name)
    dense = densified(net, execution)
    x = noise(1, 3, 37, 34).requires_grad_()
    expected = dense_reference(net, x, fc.trace(net).stride)
    weights = noise(*expected.shape)
    leaves = [x, *net.parameters()]
    wanted = torch.autograd.grad((expected * weights).sum(), leaves)
    assert all(a is b for a, b in zip(net.parameters(), _in_order(dense, net), strict=True))
    found = torch.autograd.grad((dense(x) * weights).sum(), leaves)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-11)


def _in_order(dense: nn.Module, net: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters of a dense network by the names that they have in the network."""
    held = dict(dense.named_parameters())
    return (held[f"net.{name}"] for name, _ in net.named_parameters())


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One random layer along one axis."""

    kind: str
    kernel: int
    stride: int
    dilation: int
    padding: int
    ceil: bool

    def build(self) -> nn.Module:
        k, s, d = self.kernel, self.stride, self.dilation
        match self.kind:
            case "convolution":
                return nn.Conv1d(2, 2, k, s, self.padding, d)
            case "maximum":
                return nn.MaxPool1d(k, s, min(self.padding, k // 2), ceil_mode=self.ceil)
            case _:
                padding = min(self.padding, k // 2)
                return nn.AvgPool1d(k, s, padding, count_include_pad=False)


LAYERS = st.builds(
    Layer,
    kind=st.sampled_from(["convolution", "convolution", "maximum", "mean"]),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    padding=st.integers(0, 2),
    ceil=st.booleans(),
)


@settings(max_examples=25)
@given(
    layers=st.lists(LAYERS, min_size=1, max_size=3),
    extra=st.integers(0, 30),
    target=st.integers(1, 6),
)
def test_random_chains_are_dense_at_any_divisor_of_their_stride(
    layers: list[Layer], extra: int, target: int
) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*(layer.build() for layer in layers)).double().eval()
    g = fc.trace(net, 2)
    target = max(t for t in range(1, target + 1) if g.stride[0] % t == 0)
    x = noise(1, 2, g.nearest_shapes((g.field[0] + extra,))[-1][0])
    dense = fc.densify(net, target, channels=2)
    with torch.no_grad():
        expected = dense_reference(net, x, g.stride, target)
        for execution in ("dilation", "fragments"):
            dense.execution = execution
            if execution == "fragments" and "a part of its stride" in dense._hindrance():
                continue
            torch.testing.assert_close(dense(x), expected, **CLOSE)


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
@pytest.mark.parametrize("size", [30, 37])
def test_padding_by_copies_copies_what_each_fragment_holds(mode: str, size: int) -> None:
    """Checked by hand: phases are cropped first, and each is padded by PyTorch itself."""
    first = nn.Conv1d(1, 2, 4, stride=3)
    second = nn.Conv1d(2, 1, 3, padding=1, padding_mode=mode)
    net = nn.Sequential(first, second).double().eval()
    x = noise(1, 1, size)
    dense = fc.densify(net, channels=1)
    with torch.no_grad():
        whole = F.conv1d(x, first.weight, first.bias)
        fragments = [second(whole[..., r::3]) for r in range(3)]
        expected = torch.empty_like(whole[:, :1])
        for r, fragment in enumerate(fragments):
            expected[..., r::3] = fragment
        dense.execution = "dilation"
        torch.testing.assert_close(dense(x), expected, **CLOSE)
        dense.execution = "fragments"
        with pytest.raises(
            fc.FullconvError, match=r"'dilation' here, got 'fragments'.*pads with copies"
        ):
            dense(x)


COPYING = {
    "a layer of its own": (nn.ReflectionPad2d(3), conv(3, 4, 7), nn.MaxPool2d(2), conv(4, 2, 3)),
    "a padding mode": (conv(3, 4, 3, padding=1, padding_mode="reflect"), nn.MaxPool2d(2), conv(4, 2, 3)),
    "borders": (nn.ReplicationPad2d((2, 1, 0, 3)), conv(3, 4, 3, stride=3), conv(4, 2, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", COPYING)
@pytest.mark.parametrize("shape", [(40, 41), (35, 38)])
def test_padding_by_copies_before_any_stride_runs_on_fragments(
    name: str, shape: tuple[int, int]
) -> None:
    """Dilation is the witness: it copies by positions of the dense map alone."""
    torch.manual_seed(0)
    net = nn.Sequential(*copy.deepcopy(COPYING[name])).double().eval()
    strides, x = fc.trace(net).stride, noise(2, 3, *shape)
    with torch.no_grad():
        expected = densified(net, "dilation")(x)
        torch.testing.assert_close(
            expected[(..., *(slice(None, None, s) for s in strides))], net(x), **CLOSE
        )
        for execution in ("fragments", "auto"):
            torch.testing.assert_close(densified(net, execution)(x), expected, **CLOSE)


def test_one_and_three_axes() -> None:
    for n, kind, pool in ((1, nn.Conv1d, nn.MaxPool1d), (3, nn.Conv3d, nn.AvgPool3d)):
        net = nn.Sequential(kind(1, 2, 3), pool(2), kind(2, 2, 2, stride=2)).double().eval()
        x = noise(1, 1, *(11, 14, 12)[:n])
        with torch.no_grad():
            expected = dense_reference(net, x, (4,) * n)
            for execution in ("dilation", "fragments"):
                found = densified(net, execution, channels=1)(x)
                torch.testing.assert_close(found, expected, **CLOSE)


def test_axes_with_strides_of_their_own() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, (1, 5)), nn.Conv2d(2, 2, (3, 1)), nn.AvgPool2d((1, 6), (1, 3)), nn.Conv2d(2, 2, (1, 2)))  # fmt: skip
    net = net.double().eval()
    x = noise(2, 1, 5, 40)
    with torch.no_grad():
        expected = dense_reference(net, x, (1, 3))
        for execution in ("dilation", "fragments"):
            torch.testing.assert_close(densified(net, execution, channels=1)(x), expected, **CLOSE)


def test_convolutionalized_classifiers_are_made_dense() -> None:
    """From a classifier of patches to its answer for every patch."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 6, 3), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(6, 4), nn.BatchNorm1d(4),
    ).double().eval()  # fmt: skip
    fcn = fc.convolutionalize(net, (18, 18))
    x = noise(1, 3, 21, 23)
    with torch.no_grad():
        for execution in ("dilation", "fragments"):
            y = densified(fcn, execution)(x)
            assert y.shape == (1, 4, 4, 6)
            for i, j in product(range(4), range(6)):
                torch.testing.assert_close(
                    y[..., i, j], net(x[..., i : i + 18, j : j + 18]), **CLOSE
                )


class Excited(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one = nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * self.one(F.adaptive_avg_pool2d(x, 1)).sigmoid()


def test_squeeze_and_excite_is_made_dense_by_dilation() -> None:
    torch.manual_seed(0)
    head = (nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    net = nn.Sequential(Excited(), *head).double().eval()
    fcn = fc.convolutionalize(net, (21, 21))
    x = noise(1, 3, 50, 47)
    with torch.no_grad():
        expected = dense_reference(fcn, x, (4, 4))
        torch.testing.assert_close(fc.densify(fcn)(x), expected, **CLOSE)


def test_weights_are_shared_and_trained_through_the_dense_network() -> None:
    net = nn.Sequential(
        conv(3, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Dropout(), conv(4, 2, 3)
    )
    dense = fc.densify(net.train())
    assert dense.training
    assert {p.data_ptr() for p in dense.parameters()} == {p.data_ptr() for p in net.parameters()}
    x = torch.randn(2, 3, 20, 20)
    dense(x).square().mean().backward()
    assert all(p.grad is not None for p in net.parameters())
    assert net[1].num_batches_tracked == 1, "timing must not move the statistics"
    assert isinstance(net[2], nn.MaxPool2d)
    assert net[2].stride == 2
    twin = copy.deepcopy(dense.eval())
    assert torch.equal(twin(x), dense(x))
    twin.load_state_dict(dense.state_dict())


def test_its_geometry_is_dense_and_the_field_is_kept() -> None:
    for name in ("pooling of kinds", "residual, padded", "ceil mode"):
        net = network(name)
        g, dense = fc.trace(net), fc.trace(fc.densify(net))
        assert (dense.field, dense.stride) == (g.field, (1, 1))
        assert dense.field_of((0, 0)) == g.field_of((0, 0))
        assert dense.map_shape((64, 72))[0] >= (g.map_shape((64, 72))[0] - 1) * g.stride[0] + 1
    assert fc.verify(fc.densify(network("pooling of kinds")), (3, 40, 40)).passed


def test_the_fastest_way_is_measured_once_for_images_of_a_size() -> None:
    dense = fc.densify(network("pooling of kinds"))
    x = noise(1, 3, 40, 40)
    with torch.no_grad():
        torch.manual_seed(5)
        y = dense(x)
        drawn = torch.rand(1)
        assert len(dense._chosen) == 1
        dense(noise(1, 3, 41, 43))
        assert len(dense._chosen) == 1
        dense(noise(1, 3, 90, 43))
        assert len(dense._chosen) == 2
        ways = {(execution, last) for execution, last in dense._chosen.values()}
        assert all(execution in ("dilation", "fragments") for execution, _ in ways)
        for execution in ("dilation", "fragments"):
            dense.execution = execution
            torch.testing.assert_close(dense(x), y, **CLOSE)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn), "timing must not draw numbers"
    dense.execution = "fast"
    with pytest.raises(fc.FullconvError, match="one of auto, dilation, fragments, got 'fast'"):
        dense(x)


def test_a_dense_network_is_saved_after_it_has_run() -> None:
    dense, file, x = fc.densify(network("pooling of kinds")), BytesIO(), noise(1, 3, 40, 40)
    with torch.no_grad():
        y = dense(x)
        torch.save(dense, file)
        file.seek(0)
        again = torch.load(file, weights_only=False)
        assert (len(dense._chosen), len(again._chosen)) == (1, 0)
        torch.testing.assert_close(again(x), y, **CLOSE)


def test_under_autocast_and_with_gradients_the_fastest_way_is_measured_anew() -> None:
    dense = fc.densify(chain(conv(3, 4, 3, stride=2), conv(4, 2, 3))().eval())
    x = torch.randn(1, 3, 20, 20)
    for _ in range(2):
        with torch.no_grad():
            assert dense(x).dtype == torch.float32
            with torch.autocast("cpu", torch.bfloat16):
                assert dense(x).dtype == torch.bfloat16
        dense(x)
    assert len(dense._chosen) == 3


def test_fragments_are_refused_where_their_numbers_would_differ() -> None:
    dense = densified(
        nn.Sequential(conv(3, 4, 3, stride=2), nn.BatchNorm2d(4)).train(), "fragments"
    )
    with pytest.raises(fc.FullconvError, match="BatchNorm in training would count positions"):
        dense(torch.randn(1, 3, 20, 20))
    ceil = chain(conv(3, 4, 3, stride=2), nn.AvgPool2d(2, 2, ceil_mode=True))()
    dense = densified(ceil, "fragments")
    with pytest.raises(fc.FullconvError, match="`1` counts padding"):
        dense(torch.randn(1, 3, 20, 20))
    dense = densified(chain(conv(3, 4, 3, stride=3), conv(4, 4, 3, stride=2))(), "fragments", 2)
    with pytest.raises(fc.FullconvError, match="keeps a part of its stride"):
        dense(torch.randn(1, 3, 20, 20))


@pytest.mark.parametrize(
    "pool", [nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2, 2, 1), nn.MaxPool2d(2, ceil_mode=True)], ids=str
)
def test_numbers_that_nothing_uses_spoil_no_gradient(pool: nn.Module) -> None:
    """Fragments of different sizes, padded maxima, and a logarithm: zeros or infinities would be NaN."""
    net = Of(
        lambda net, x: net.last(net.pool(net.mean(net.first(x).square()).log())),
        first=conv(3, 4, 3, stride=2), mean=nn.AvgPool2d(2, 2), pool=pool, last=conv(4, 2, 1),
    ).double()  # fmt: skip
    x = noise(1, 3, 39, 38)
    grads = [
        torch.autograd.grad(densified(net, way)(x).sum(), list(net.parameters()))
        for way in ("dilation", "fragments")
    ]
    assert all(grad.isfinite().all() for grad in grads[1])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


def sliced_by_size(net: Of, x: Tensor) -> Tensor:
    y = net.a(x)
    return y[..., 1 : y.shape[-1] - 1]


def folded(net: Of, x: Tensor) -> Tensor:
    y = net.a(x)
    return net.one(y.flatten(2)).unflatten(2, y.shape[2:])


class Opaque(nn.Module):
    """Its `forward` cannot be followed, and convolves twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv(x)) if len(x.shape) == 4 else x


REFUSED = {
    "upsampling": (
        nn.Sequential(conv(3, 4, 3, stride=4), nn.ConvTranspose2d(4, 4, 2, 2)),
        r"`1` \(ConvTranspose2d\) cannot be rewritten exactly: it upsamples",
    ),
    "interpolation": (
        nn.Sequential(conv(3, 4, 3, stride=4), nn.Upsample(scale_factor=2)),
        r"`1` \(Upsample\).*no rule knows `upsample_nearest2d`",
    ),
    "an end by the size": (
        Of(sliced_by_size, a=conv(3, 4, 3, stride=2)),
        r"`getitem` in `net` \(Of\).*takes positions along the image that depend on its size",
    ),
    "branches of different fields": (
        Of(
            lambda net, x: torch.cat([net.one(x), net.two(x)], 1),
            one=conv(3, 2, 6, stride=4), two=conv(3, 2, 5, stride=4),
        ),
        r"`cat` in `net` \(Of\).*it does not take a dense map",
    ),
    "spatial axes folded together": (
        Of(folded, a=conv(3, 4, 3, stride=2), one=nn.Conv1d(4, 2, 1)),
        r"`flatten` in `net` \(Of\).*it changes the axes along which positions lie",
    ),
    "a layer of its own": (
        nn.Sequential(conv(3, 3, 3, stride=2), Opaque()),
        r"`1` \(Opaque\).*`convolution` reads neighbouring positions",
    ),
    "neighbours in a view": (
        Of(lambda net, x: net.a(x).unfold(2, 2, 1).sum(-1), a=conv(3, 4, 3, stride=2)),
        r"`unfold`.*no rule knows `unfold`",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_dense_counterpart_is_refused_by_name(name: str) -> None:
    net, message = REFUSED[name]
    with pytest.raises(fc.FullconvError, match=message):
        fc.densify(net.eval())


def test_strides_that_cannot_be_had_are_refused() -> None:
    net = nn.Sequential(conv(3, 4, 3, stride=4))
    for make in (fc.densify, fc.shift_and_stitch):
        for stride in (0, 3, 8):
            with pytest.raises(
                fc.FullconvError, match=f"divide that of the network, 4 x 4 px.*got {stride}"
            ):
                make(net, stride)
    with pytest.raises(fc.NotLocalError, match="GroupNorm"):
        fc.densify(nn.Sequential(conv(3, 4, 3), nn.GroupNorm(2, 4)))


@EXECUTIONS
def test_of_equal_positions_the_first_by_rows_has_the_gradient_as_in_pooling(
    execution: Literal["dilation", "fragments"],
) -> None:
    image = torch.randint(2, (1, 1, 9, 11), generator=torch.Generator().manual_seed(0)).double()
    image.requires_grad_()
    dense = fc.densify(nn.Sequential(nn.MaxPool2d(2)), channels=1)
    dense.execution = execution
    found = torch.autograd.grad(dense(image).sum(), image)[0]
    assert torch.equal(found, torch.autograd.grad(F.max_pool2d(image, 2, 1).sum(), image)[0])


def test_an_image_without_its_batch_is_refused() -> None:
    dense = fc.densify(nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)))
    with pytest.raises(fc.FullconvError, match=r"have 4 axes here.*\(3, 20, 20\).*image\[None\]"):
        dense(torch.randn(3, 20, 20))
