"""Random networks out of every operator that has a geometry, for property tests.

A network is a chain of stages; some stages are branches with smaller chains inside. Weights are
positive and images too, so that what a unit may depend on is what it does depend on. Sizes are not
planned: a network that takes no image is thrown away by the test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

Draw = Callable[[st.SearchStrategy[Any]], Any]
MAX_STRIDE = 8


class Do(nn.Module):
    """A stage: a function of what comes in, and the modules that it uses."""

    def __init__(self, label: str, function: Callable[..., Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.label, self.function = label, function
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.parts)

    def extra_repr(self) -> str:
        return self.label


def divisible(x: Tensor, by: Sequence[int]) -> Tensor:
    """Crop to multiples, at the far ends."""
    return x[(..., *(slice(0, s // b * b) for s, b in zip(x.shape[2:], by, strict=True)))]


class Network(nn.Module):
    """A chain on images with two channels and `ndim` spatial axes; `ties` as for `Grown`."""

    def __init__(self, chain: nn.Module, ndim: int, ties: bool) -> None:
        super().__init__()
        self.chain, self.ndim, self.ties = chain, ndim, ties

    def forward(self, image: Tensor) -> Tensor:
        return self.chain(image)


@dataclass(frozen=True, kw_only=True)
class Grown:
    """What has been drawn so far: where the next stage stands.

    Attributes:
        ndim: Spatial axes.
        channels: Of what the next stage gets.
        stride: Px per position, per axis.
        depth: Branches around it.
        repeats: Whether positions side by side may hold one value, whatever the image.
        ties: Whether maxima of such values were put back. The first of them is always taken, so the
            places of the others, which by their operators read as much, change with no image.
    """

    ndim: int
    channels: int
    stride: tuple[Fraction, ...]
    depth: int = 0
    repeats: bool = False
    ties: bool = False

    def shrunk(self, by: Sequence[int | Fraction]) -> Grown:
        return replace(self, stride=tuple(s * b for s, b in zip(self.stride, by, strict=True)))


Stage = tuple[nn.Module, Grown]


def ints(draw: Draw, low: int, high: int, n: int) -> tuple[int, ...]:
    return tuple(draw(st.integers(low, high)) for _ in range(n))


def strides(draw: Draw, at: Grown, most: int = 3) -> tuple[int, ...]:
    """Strides that keep the whole network's stride small; 1 is the simplest."""
    return tuple(draw(st.integers(1, max(1, min(most, int(MAX_STRIDE / s))))) for s in at.stride)


def enlargements(draw: Draw, at: Grown) -> tuple[int, ...]:
    return tuple(draw(st.integers(1, max(1, min(3, int(3 * s))))) for s in at.stride)


def cls(name: str, ndim: int) -> Any:
    return getattr(nn, f"{name}{ndim}d")


# --- windows that slide -------------------------------------------------------------------------


def convolution(draw: Draw, at: Grown) -> Stage:
    n, groups = at.ndim, draw(st.sampled_from([1, 1, 2]))
    kernel, dilation = ints(draw, 1, 4, n), ints(draw, 1, 2, n)
    stride = strides(draw, at)
    mode = draw(st.sampled_from(["zeros", "zeros", "reflect", "replicate"]))
    padding: Any = ints(draw, 0, 2, n)
    if max(stride) == 1 and draw(st.booleans()):
        padding = "same"
    net = cls("Conv", n)(
        at.channels, draw(st.sampled_from([2, 4])), kernel, stride=stride, padding=padding,
        dilation=dilation, groups=groups, padding_mode=mode, bias=draw(st.booleans()),
    )  # fmt: skip
    return net, replace(at.shrunk(stride), channels=net.out_channels)


def transposed_convolution(draw: Draw, at: Grown) -> Stage:
    n, stride = at.ndim, enlargements(draw, at)
    dilation, kernel = ints(draw, 1, 2, n), ints(draw, 1, 4, n)
    extra = tuple(
        draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
    )
    net = cls("ConvTranspose", n)(
        at.channels, draw(st.sampled_from([2, 4])), kernel, stride=stride, dilation=dilation,
        padding=ints(draw, 0, 2, n), output_padding=extra, groups=draw(st.sampled_from([1, 2])),
    )  # fmt: skip
    grown = at.shrunk([Fraction(1, s) for s in stride])
    return net, replace(grown, channels=net.out_channels, repeats=True)


def max_pool(draw: Draw, at: Grown) -> Stage:
    n = at.ndim
    kernel, stride = ints(draw, 1, 4, n), strides(draw, at)
    options = {
        "kernel_size": kernel,
        "stride": stride,
        "padding": tuple(draw(st.integers(0, k // 2)) for k in kernel),
        "dilation": ints(draw, 1, 2, n),
        "ceil_mode": draw(st.booleans()),
    }
    function = getattr(F, f"max_pool{n}d")
    return Do(f"max_pool {options}", lambda x: function(x, **options)), at.shrunk(stride)


def avg_pool(draw: Draw, at: Grown) -> Stage:
    n = at.ndim
    kernel, stride = ints(draw, 1, 4, n), strides(draw, at)
    net = cls("AvgPool", n)(
        kernel, stride=stride, padding=tuple(draw(st.integers(0, k // 2)) for k in kernel),
        ceil_mode=draw(st.booleans()), count_include_pad=draw(st.booleans()),
    )  # fmt: skip
    return net, at.shrunk(stride)


def lp_pool(draw: Draw, at: Grown) -> Stage:
    if at.ndim == 3:
        return avg_pool(draw, at)
    kernel, stride = draw(st.integers(1, 3)), min(strides(draw, at))
    net = cls("LPPool", at.ndim)(2, kernel, stride=stride, ceil_mode=draw(st.booleans()))
    return net, at.shrunk([stride] * at.ndim)


def adaptive_pool(draw: Draw, at: Grown) -> Stage:
    factor, kind = strides(draw, at), draw(st.sampled_from(["avg", "max"]))
    function = getattr(F, f"adaptive_{kind}_pool{at.ndim}d")

    def pool(x: Tensor) -> Tensor:
        x = divisible(x, factor)
        return function(x, [s // f for s, f in zip(x.shape[2:], factor, strict=True)])

    return Do(f"adaptive_{kind}_pool /{factor}", pool), at.shrunk(factor)


def unpool(draw: Draw, at: Grown) -> Stage:
    n, kernel = at.ndim, strides(draw, at)
    with_size = draw(st.booleans())
    conv = positive_conv(at.channels, at.channels, n, 3, padding=1)
    down = getattr(F, f"max_pool{n}d")
    up = getattr(F, f"max_unpool{n}d")

    def both(x: Tensor, inner: nn.Module) -> Tensor:
        if not with_size:
            x = divisible(x, kernel)
        small, indices = down(x, kernel, return_indices=True)
        size = x.shape[2:] if with_size else None
        return up(inner(small), indices, kernel, output_size=size)

    net = Do(f"pool, conv, unpool {kernel} size={with_size}", both, conv)
    return net, replace(at, ties=at.ties or at.repeats)


def unfold(draw: Draw, at: Grown) -> Stage:
    """A convolution written as im2col and a product of matrices."""
    if at.ndim != 2:
        return convolution(draw, at)
    kernel, stride, pad = ints(draw, 1, 3, 2), strides(draw, at), draw(st.integers(0, 1))
    dilation = draw(st.integers(1, 2))
    linear = nn.Linear(at.channels * kernel[0] * kernel[1], 2)

    def run(x: Tensor, mix: nn.Module) -> Tensor:
        sizes = [
            (s + 2 * pad - dilation * (k - 1) - 1) // t + 1
            for s, k, t in zip(x.shape[2:], kernel, stride, strict=True)
        ]
        columns = F.unfold(x, kernel, dilation=dilation, padding=pad, stride=stride)
        return mix(columns.transpose(1, 2)).transpose(1, 2).reshape(len(x), 2, *sizes)

    label = f"unfold k{kernel} s{stride} p{pad} d{dilation}"
    return Do(label, run, linear), replace(at.shrunk(stride), channels=2)


def fold(draw: Draw, at: Grown) -> Stage:
    """Sliding windows taken apart, and added up where they overlap."""
    if at.ndim != 2:
        return transposed_convolution(draw, at)
    kernel, stride, pads = ints(draw, 1, 3, 2), strides(draw, at, 2), draw(st.integers(0, 1))

    def run(x: Tensor) -> Tensor:
        columns = F.unfold(x, kernel, padding=pads, stride=stride)
        return F.fold(columns, x.shape[2:], kernel, padding=pads, stride=stride)

    return Do(f"fold k{kernel} s{stride} p{pads}", run), replace(at, repeats=True)


# --- other grids --------------------------------------------------------------------------------

SMOOTH = {1: ["linear"], 2: ["bilinear", "bicubic"], 3: ["trilinear"]}


def enlarge(draw: Draw, at: Grown) -> Stage:
    mode = draw(st.sampled_from(["nearest", "nearest-exact", "area", *SMOOTH[at.ndim]]))
    factor, by_size = enlargements(draw, at), draw(st.booleans())

    def run(x: Tensor) -> Tensor:
        if by_size:
            size = [s * f for s, f in zip(x.shape[2:], factor, strict=True)]
            return F.interpolate(x, size=size, mode=mode)
        return F.interpolate(x, scale_factor=tuple(float(f) for f in factor), mode=mode)

    label = f"enlarge {mode} x{factor} by_size={by_size}"
    grown = at.shrunk([Fraction(1, f) for f in factor])
    return Do(label, run), replace(grown, repeats=at.repeats or mode not in SMOOTH[at.ndim])


def reduce(draw: Draw, at: Grown) -> Stage:
    mode = draw(st.sampled_from(["nearest", "nearest-exact", "area", *SMOOTH[at.ndim]]))
    factor, by_size = strides(draw, at), draw(st.booleans())

    def run(x: Tensor) -> Tensor:
        if by_size or mode == "area":
            x = divisible(x, factor)
            size = [s // f for s, f in zip(x.shape[2:], factor, strict=True)]
            return F.interpolate(x, size=size, mode=mode)
        return F.interpolate(x, scale_factor=tuple(1 / f for f in factor), mode=mode)

    return Do(f"reduce {mode} /{factor} by_size={by_size}", run), at.shrunk(factor)


def shuffle(draw: Draw, at: Grown) -> Stage:
    """Pixel shuffle up or down, in 2-D; space to batch otherwise."""
    if at.ndim != 2:
        return space_to_batch(draw, at)
    if draw(st.booleans()) and max(at.stride) * 2 <= MAX_STRIDE:
        out = at.channels * 4
        after = positive_conv(out, 2, 2, 1)
        net = nn.Sequential(Do("crop", lambda x: divisible(x, (2, 2))), nn.PixelUnshuffle(2), after)
        return net, replace(at.shrunk([2, 2]), channels=2)
    before = positive_conv(at.channels, 8, 2, 2)
    net = nn.Sequential(before, nn.PixelShuffle(2))
    return net, replace(at.shrunk([Fraction(1, 2)] * 2), channels=2)


def space_to_batch(draw: Draw, at: Grown) -> Stage:
    """Cut the grid into interleaved ones, as dilated convolutions were once written."""
    n, block = at.ndim, draw(st.integers(2, 3))
    inner = positive_conv(at.channels, at.channels, n, 3, padding=draw(st.integers(0, 1)))

    def run(x: Tensor, conv: nn.Module) -> Tensor:
        x = divisible(x, [block] * n)
        batch, channels, *sizes = x.shape
        split = [part for s in sizes for part in (s // block, block)]
        coarse, fine = [2 + 2 * k for k in range(n)], [3 + 2 * k for k in range(n)]
        folded = x.view(batch, channels, *split).permute(0, *fine, 1, *coarse)
        y = conv(folded.reshape(-1, channels, *(s // block for s in sizes)))
        y = y.reshape(batch, *[block] * n, *y.shape[1:])
        back = [axis for k in range(n) for axis in (n + 2 + k, 1 + k)]
        return y.permute(0, n + 1, *back).reshape(batch, -1, *(s * block for s in y.shape[n + 2 :]))

    return Do(f"space to batch {block}", run, inner), at


# --- borders ------------------------------------------------------------------------------------


def pad(draw: Draw, at: Grown) -> Stage:
    mode = draw(st.sampled_from(["constant", "reflect", "replicate"]))
    low = -2 if mode == "constant" else 0
    amounts = ints(draw, low, 3, 2 * at.ndim)
    return Do(f"pad {mode} {amounts}", lambda x: F.pad(x, amounts, mode=mode)), at


def crop(draw: Draw, at: Grown) -> Stage:
    start, end, step = ints(draw, 0, 3, at.ndim), ints(draw, 0, 3, at.ndim), strides(draw, at)
    ends = [-e if e else None for e in end]
    index = (..., *(slice(a, b, s) for a, b, s in zip(start, ends, step, strict=True)))
    return Do(f"crop {start} {end} step {step}", lambda x: x[index]), at.shrunk(step)


def shift(draw: Draw, at: Grown) -> Stage:
    """Half of the channels moved by one position, by assignment to slices."""
    forward = draw(st.booleans())

    def run(x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        half = x.shape[1] // 2
        if forward:
            y[:, :half, 1:] = x[:, :half, :-1]
        else:
            y[:, :half, :-1] = x[:, :half, 1:]
        y[:, half:] = x[:, half:]
        return y

    return Do(f"shift forward={forward}", run), at


def interleave(draw: Draw, at: Grown) -> Stage:
    """Every second position goes another way, along the last axis."""
    conv = positive_conv(
        at.channels, at.channels, at.ndim, draw(st.sampled_from([1, 3])), padding=1
    )
    first = draw(st.integers(0, 1))

    def run(x: Tensor, inner: nn.Module) -> Tensor:
        y = x.clone()
        other = inner(x)[tuple(slice(0, s) for s in x.shape)]
        y[..., first::2] = other[..., first : x.shape[-1] : 2]
        return y

    return Do(f"interleave from {first}", run, conv), at


# --- pointwise and over channels ----------------------------------------------------------------

POINTWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu_": lambda x: F.relu_(x.clone()),
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "gelu": F.gelu,
    "silu": F.silu,
    "softplus": F.softplus,
    "add_": lambda x: x.clone().add_(1.0),
    "iadd": lambda x: (x * 2).mul_(x.new_tensor(0.5)),
    "clamp": lambda x: x.clamp(min=0),
    "dropout": lambda x: F.dropout(x, 0.5, training=False),
    "where": lambda x: torch.where(x > 0, x, 0.1 * x),
    "softmax": lambda x: F.softmax(x, dim=1),
    "log_softmax": lambda x: 10 + F.log_softmax(x, dim=1),
    "lrn": lambda x: F.local_response_norm(x, 3),
}


def pointwise(draw: Draw, at: Grown) -> Stage:
    name = draw(st.sampled_from(sorted(POINTWISE)))
    return Do(name, POINTWISE[name]), at


def batch_norm(draw: Draw, at: Grown) -> Stage:
    return cls("BatchNorm", at.ndim)(at.channels, affine=draw(st.booleans())), at


def channel_norm(draw: Draw, at: Grown) -> Stage:
    """LayerNorm and a product over the channels, channels last, as in ConvNeXt."""
    out = draw(st.sampled_from([2, 4]))

    def run(x: Tensor, norm: nn.Module, linear: nn.Module) -> Tensor:
        return linear(2 + norm(x.movedim(1, -1))).movedim(-1, 1)

    net = Do("channel LayerNorm", run, nn.LayerNorm(at.channels), nn.Linear(at.channels, out))
    return net, replace(at, channels=out)


def split_channels(draw: Draw, at: Grown) -> Stage:
    """Half of the channels through a convolution, then joined: by cat, or by a stack and a sum."""
    kernel = draw(st.integers(1, 3))
    conv = positive_conv(at.channels // 2, at.channels // 2, at.ndim, kernel)
    how = draw(st.sampled_from(["cat", "stack", "unbind", "max"]))

    def run(x: Tensor, inner: nn.Module) -> Tensor:
        kept, changed = x.chunk(2, dim=1)
        both = matched([kept, inner(changed)])
        if how == "cat":
            return torch.cat(both, 1)
        stacked = torch.stack(both, 1)
        if how == "unbind":
            return torch.cat(stacked.unbind(1), 1)
        total = stacked.sum(1) if how == "stack" else stacked.amax(1)
        return total.repeat(1, 2, *[1] * (x.ndim - 2))

    return Do(f"split, {how} k{kernel}", run, conv), at


# --- branches -----------------------------------------------------------------------------------


def matched(parts: Sequence[Tensor]) -> list[Tensor]:
    """Crop to the smallest size, at the far ends."""
    sizes = [min(p.shape[d] for p in parts) for d in range(2, parts[0].ndim)]
    return [p[(..., *(slice(0, s) for s in sizes))] for p in parts]


def fitted(x: Tensor, like: Tensor) -> Tensor:
    """Pad or crop at the far ends to the size of another."""
    pads = [n for d in range(x.ndim - 1, 1, -1) for n in (0, like.shape[d] - x.shape[d])]
    return F.pad(x, pads)


def residual(draw: Draw, at: Grown) -> Stage:
    """A block with a strided 1 x 1 shortcut."""
    n, stride = at.ndim, strides(draw, at)
    kernel, out = ints(draw, 1, 4, n), draw(st.sampled_from([2, 4]))
    body = cls("Conv", n)(at.channels, out, kernel, stride=stride, padding=draw(st.integers(0, 2)))
    inner, grown = chain(draw, replace(at, channels=out, depth=at.depth + 1), 1, same=True)
    shortcut = cls("Conv", n)(at.channels, grown.channels, 1, stride=stride)

    def run(x: Tensor, main: nn.Module, short: nn.Module, more: nn.Module) -> Tensor:
        a, b = matched([more(main(x)), short(x)])
        return a.add_(b) if a.numel() % 2 else a + b

    net = Do("residual", run, body, shortcut, inner)
    return net, replace(at.shrunk(stride), channels=grown.channels)


def branches(draw: Draw, at: Grown) -> Stage:
    """Convolutions of several dilations side by side, joined over the channels."""
    n = at.ndim
    parts = [
        cls("Conv", n)(at.channels, 2, ints(draw, 1, 3, n), dilation=d, padding=p)
        for d, p in draw(
            st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2)), min_size=2, max_size=2)
        )
    ]

    def run(x: Tensor, *convs: nn.Module) -> Tensor:
        return torch.cat(matched([conv(x) for conv in convs]), 1)

    return Do("branches", run, *parts), replace(at, channels=4)


def up_and_down(draw: Draw, at: Grown) -> Stage:
    """A U-Net of one level: down, a chain, up again, fitted to what was kept."""
    down, low = draw(st.sampled_from([max_pool, avg_pool, convolution, reduce]))(draw, at)
    inside, low = chain(draw, replace(low, depth=at.depth + 1), 1, same=True)
    factor = [a / b for a, b in zip(low.stride, at.stride, strict=True)]
    mode = draw(st.sampled_from(["nearest", SMOOTH[at.ndim][0]]))
    up: nn.Module = nn.Upsample(scale_factor=tuple(float(f) for f in factor), mode=mode)
    if draw(st.booleans()):
        steps = [int(f) for f in factor]
        up = cls("ConvTranspose", at.ndim)(low.channels, low.channels, steps, stride=steps)

    def run(x: Tensor, first: nn.Module, inner: nn.Module, last: nn.Module) -> Tensor:
        return torch.cat([x, fitted(last(inner(first(x))), x)], 1)

    mix = positive_conv(at.channels + low.channels, 2, at.ndim, 1)
    net = nn.Sequential(Do(f"U-Net {mode}", run, down, inside, up), mix)
    return net, replace(at, channels=2)


def positive_conv(start: int, stop: int, ndim: int, kernel: int, **options: Any) -> nn.Module:
    return cls("Conv", ndim)(start, stop, kernel, **options)


KEEPING = (pointwise, batch_norm, channel_norm, split_channels, shift, interleave, space_to_batch)
SIMPLE = (
    convolution, transposed_convolution, max_pool, avg_pool, lp_pool, adaptive_pool, unpool, unfold,
    fold, enlarge, reduce, shuffle, pad, crop, *KEEPING,
)  # fmt: skip
BRANCHED = (residual, branches, up_and_down)


def chain(draw: Draw, at: Grown, most: int, *, same: bool = False) -> Stage:
    """Draw up to `most` stages; with `same`, only ones that keep the grid."""
    kinds = KEEPING if same else SIMPLE + BRANCHED * 2
    stages: list[nn.Module] = []
    for _ in range(draw(st.integers(1, most))):
        stage, at = draw(st.sampled_from(kinds))(draw, at)
        stages.append(stage)
    return nn.Sequential(*stages), at


def positive(net: Network, seed: int) -> Network:
    """Give every weight a random positive value, of a size that keeps values near 1."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        fan = max(1, parameter[0].numel()) if parameter.ndim > 1 else 2
        values = 0.5 + torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data = values / fan
    return net.double().eval().requires_grad_(False)


@st.composite
def networks(draw: Draw, most: int = 5) -> Network:
    """Draw a network on 1 to 3 spatial axes that takes two channels."""
    ndim = draw(st.sampled_from([2, 1, 2, 3]))
    at = Grown(ndim=ndim, channels=2, stride=(Fraction(1),) * ndim)
    net, grown = chain(draw, at, most if ndim < 3 else 3)
    return positive(Network(net, ndim, grown.ties), draw(st.integers(0, 99)))
