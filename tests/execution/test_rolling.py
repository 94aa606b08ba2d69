"""Running down an image, some rows at a time: the whole image's map, and nothing computed twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakIdKeyDictionary

import fullconv as fc
from fullconv.execution import Passes
from fullconv.execution._rolling import Rolling, rolling_bytes
from fullconv.geometry import Box
from fullconv.networks import build
from fullconv.tracing import Stages, stages


class Net(nn.Module):
    """Skips, padding of every kind, strides, dilation, up again in three ways, a channel norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 5, padding=2, padding_mode="reflect")
        self.norm = nn.BatchNorm2d(8)
        self.down = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.wide = nn.Conv2d(8, 8, 3, padding=4, dilation=4, groups=4)
        self.thin = nn.Conv2d(8, 8, (1, 7), padding="same")
        self.linear = nn.Linear(8, 8)
        self.up = nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1)
        self.last = nn.Conv2d(16, 3, 3, padding=1, padding_mode="replicate")

    def forward(self, x: Tensor) -> Tensor:
        skip = F.prelu(self.norm(self.stem(x)), self.norm.weight)
        deep = F.max_pool2d(self.down(skip), 3, 2, 1, ceil_mode=True)
        deep = self.thin(F.gelu(self.wide(deep)))
        deep = self.linear(deep.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        deep = F.interpolate(deep, scale_factor=2, mode="bilinear")
        deep = self.up(deep)[..., : skip.shape[2], : skip.shape[3]]
        one, other = torch.cat([skip, deep], 1).chunk(2, 1)
        return self.last(torch.cat([one * other, one.softmax(1)], 1))


def net_of(kind: type[nn.Module] = Net) -> nn.Module:
    torch.manual_seed(0)
    net = kind().double().eval()
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.uniform_(norm.running_mean, -1, 1)
    return net


def staged(net: nn.Module, channels: int, shape: tuple[int, ...]) -> Stages:
    geometry = fc.trace(net, channels, shape=shape)
    found = stages(net, channels, shape, geometry.axes[0].period)
    assert found is not None
    return found


def rolled(net: nn.Module, found: Stages, image: Tensor, rows: int) -> Tensor:
    with torch.no_grad():
        pieces = list(Rolling(net, found)(lambda a, b: image[:, :, a:b], rows))
    starts = [first for first, _ in pieces]
    assert starts == sorted(set(starts))
    return torch.cat([piece for _, piece in pieces], 2)


@pytest.mark.parametrize("rows", [1, 7, 16, 64, 500])
@pytest.mark.parametrize("shape", [(61, 44), (96, 41)])
def test_the_map_is_that_of_the_whole_image(rows: int, shape: tuple[int, int]) -> None:
    net, image = net_of(), torch.randn(1, 2, *shape, dtype=torch.float64)
    with torch.no_grad():
        whole = net(image)
    found = rolled(net, staged(net, 2, shape), image, rows)
    assert (found - whole).abs().max() <= 1e-13 * whole.abs().max()


@pytest.mark.parametrize("name", ["unet", "fcn8s"])
def test_networks_of_the_registry_run_down_an_image(name: str) -> None:
    torch.manual_seed(0)
    net = build(name, channels=3, classes=4).double().eval()
    image = torch.randn(1, 3, 219, 70, dtype=torch.float64)
    with torch.no_grad():
        whole = net(image)
    found = rolled(net, staged(net, 3, (219, 70)), image, 32)
    assert (found - whole).abs().max() <= 1e-12 * whole.abs().max()


@pytest.mark.parametrize("ndim", [1, 3])
def test_one_and_three_axes_have_rows_too(ndim: int) -> None:
    torch.manual_seed(0)
    conv, pool = (nn.Conv1d, nn.Conv3d)[ndim // 2], (nn.AvgPool1d, nn.AvgPool3d)[ndim // 2]
    net = nn.Sequential(conv(1, 3, 3, padding=1), pool(2), conv(3, 2, 3, dilation=2)).double()
    shape = (57, 12, 14)[:ndim]
    image = torch.randn(1, 1, *shape, dtype=torch.float64)
    found = rolled(net, staged(net, 1, shape), image, 10)
    assert (found - net(image)).abs().max() <= 1e-13


class BySize(nn.Module):
    """Made smaller by telling sizes: the factor is the ratio of the rows that are there."""

    def __init__(self, mode: str, factor: int) -> None:
        super().__init__()
        self.mode, self.factor = mode, factor
        self.first, self.last = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        size = [n // self.factor for n in x.shape[2:]]
        return self.last(F.interpolate(self.first(x), size=size, mode=self.mode))


@pytest.mark.parametrize("rows", [1, 5, 16])
@pytest.mark.parametrize(("mode", "factor"), [("bicubic", 2), ("bilinear", 3), ("nearest", 3)])
def test_what_is_told_sizes_alone_is_told_those_of_its_rows(
    mode: str, factor: int, rows: int
) -> None:
    torch.manual_seed(0)
    net = BySize(mode, factor).double()
    image = torch.randn(1, 2, 60, 36, dtype=torch.float64)
    found = rolled(net, staged(net, 2, (60, 36)), image, rows)
    assert (found - net(image)).abs().max() <= 1e-13


def test_a_pooling_gets_as_many_rows_as_its_kernel_has() -> None:
    net = nn.Sequential(nn.AvgPool3d((4, 2, 1), (2, 2, 1), (1, 0, 0)), nn.AvgPool3d(2)).double()
    image = torch.randn(1, 1, 30, 12, 8, dtype=torch.float64)
    found = rolled(net, staged(net, 1, (30, 12, 8)), image, 1)
    assert (found - net(image)).abs().max() <= 1e-13


def test_nothing_is_computed_twice_but_the_rows_at_a_cut() -> None:
    net, image = net_of(), torch.randn(1, 2, 512, 40, dtype=torch.float64)
    found = staged(net, 2, (512, 40))
    with FlopCounterMode(display=False) as whole, torch.no_grad():
        net(image)
    with FlopCounterMode(display=False) as down:
        rolled(net, found, image, 64)
    assert whole.get_total_flops() < down.get_total_flops() < 1.15 * whole.get_total_flops()


class Alive(TorchDispatchMode):
    """The most bytes of tensors made inside that were alive at once."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.image = image.untyped_storage()._cdata
        self.storages = WeakIdKeyDictionary()
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata != self.image:
                    self.storages[storage] = storage.nbytes()
        self.most = max(self.most, sum(self.storages.values()))
        return out


@pytest.mark.parametrize("rows", [16, 64])
def test_bytes_are_said_beforehand(rows: int) -> None:
    net, image = net_of(), torch.randn(1, 2, 640, 40, dtype=torch.float64)
    found = staged(net, 2, (640, 40))
    roll = Rolling(net, found)
    with torch.no_grad(), Alive(image) as alive:
        for _ in roll(lambda a, b: image[:, :, a:b].clone(), rows):
            pass
    with torch.no_grad(), Alive(image) as whole:
        net(image)
    said = rolling_bytes(found, rows)
    assert alive.most <= 1.1 * said
    assert said <= 2 * alive.most
    assert alive.most < 0.5 * whole.most


def test_bytes_do_not_grow_with_the_image() -> None:
    net = net_of()
    said = [rolling_bytes(staged(net, 2, (rows, 40)), 32) for rows in (320, 1280)]
    assert said[0] == pytest.approx(said[1], rel=1e-3)


class Repeated(nn.Module):
    """It makes a size of its own, which no stage can change to that of some rows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.repeat(1, 2, 1, 1))


def pieces(net: nn.Module, image: Tensor, memory: int, units: Box | None = None) -> Iterator[Any]:
    with torch.no_grad():
        yield from Passes(net, memory)(image, units)


@pytest.mark.parametrize("memory", [60_000, 250_000, 600_000, 10**8])
@pytest.mark.parametrize("part", [None, Box(start=(100, 3), stop=(290, 70))])
@pytest.mark.parametrize("kind", [Net, Repeated])
def test_passes_give_each_wanted_unit_once_within_any_memory(
    kind: type[nn.Module], part: Box | None, memory: int
) -> None:
    net, image = net_of(kind), torch.randn(2, 296, 92, dtype=torch.float64)
    with torch.no_grad():
        whole = net(image[None])[0]
    if kind is Net:
        memory *= 30
    found, times = torch.zeros_like(whole), torch.zeros(whole.shape[1:])
    for units, piece in pieces(net, image, memory, part):
        found[(slice(None), *units.slices)] = piece
        times[units.slices] += 1
    wanted = part or Box.whole(tuple(whole.shape[1:]))
    inside = torch.zeros_like(times)
    inside[wanted.slices] = 1
    assert torch.equal(times, inside)
    assert ((found - whole) * inside).abs().max() <= 1e-13 * whole.abs().max()


def test_less_memory_means_more_bands() -> None:
    net, image = net_of(), torch.randn(2, 600, 400, dtype=torch.float64)
    columns = [
        {units.start[1] for units, _ in pieces(net, image, memory)}
        for memory in (8_000_000, 4_000_000, 2_000_000)
    ]
    assert len(columns[0]) == 1 < len(columns[1]) < len(columns[2])


def test_networks_that_make_their_own_sizes_go_window_by_window() -> None:
    assert stages(Repeated(), 2, (64, 64), 1) is None


def test_casts_are_made_as_autocast_makes_them() -> None:
    torch.manual_seed(0)
    net, image = build("unet", channels=2, classes=3).eval(), torch.randn(2, 896, 96)
    exact = fc.predict(net, image)
    with torch.autocast("cpu", torch.bfloat16):
        found, whole = fc.predict(net, image, "6 MiB"), fc.predict(net, image)
    assert found.dtype == whole.dtype == torch.bfloat16
    # Both round to 8 bits, which takes them away from the exact map, and further than from each other.
    off = (whole.float() - exact).norm()
    assert (found.float() - exact).norm() <= 1.1 * off
    assert (found.float() - whole.float()).norm() <= off
    assert (found.float() - exact).norm() >= off / 2


def test_casts_are_made_only_while_autocast_is_on() -> None:
    torch.manual_seed(0)
    net, image = build("unet", channels=2, classes=3).eval(), torch.randn(2, 896, 96)
    passes, exact = Passes(net, 6 * 2**20), fc.predict(net, image)
    for half in (False, True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=half), torch.no_grad():
            found = list(passes(image))
        assert all(units.shape[0] < 500 for units, _ in found)  # rows
        assert {part.dtype for _, part in found} == {torch.bfloat16 if half else torch.float32}
        whole = torch.cat([part for _, part in found], 1)
        assert half or (whole - exact).abs().max() <= 1e-5


def test_a_network_may_cast_inside_autocast() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 5, padding=2), _InFull(), nn.Conv2d(4, 2, 5, padding=2))
    net, image = net.eval(), torch.randn(1, 900, 50)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        found = list(Passes(net, 600_000)(image))
        whole = net(image[None])[0]
    assert max(units.shape[0] for units, _ in found) < 500
    assert torch.allclose(torch.cat([p for _, p in found], 1).float(), whole.float(), atol=0.02)


class _InFull(nn.Module):
    """Adds a thousand times what a product with the unit matrix is rounded by."""

    def __init__(self) -> None:
        super().__init__()
        self.alike = nn.Linear(4, 4, bias=False)
        nn.init.eye_(self.alike.weight)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            y = x.float().movedim(1, -1) / 3
            return x + 1000 * (self.alike(y) - y).movedim(-1, 1)


def wide(start: int, stop: int) -> nn.Conv2d:
    return nn.Conv2d(start, stop, 5, dilation=12, padding=24)


class _InHalf(nn.Module):
    """Casts by itself: with an autocast that is made before it is asked to, or in `forward`."""

    def __init__(self, *, decorated: bool) -> None:
        super().__init__()
        self.inside = wide(8, 8)
        self.cast = torch.autocast("cpu", torch.bfloat16) if decorated else None

    def forward(self, x: Tensor) -> Tensor:
        with self.cast or torch.autocast("cpu", torch.bfloat16):
            return self.inside(x)


@pytest.mark.parametrize("around", [False, True])
@pytest.mark.parametrize("decorated", [False, True])
def test_a_network_may_open_autocast_itself(decorated: bool, around: bool) -> None:
    image = torch.randn(3, 1000, 64)
    with torch.autocast("cpu", torch.bfloat16):  # autocast made in here keeps what it casts
        net = nn.Sequential(wide(3, 8), nn.ReLU(), _InHalf(decorated=decorated)).eval()
    with torch.autocast("cpu", torch.bfloat16, enabled=around), torch.no_grad():
        before = net(image[None])[0]
        found = fc.predict(net, image, "2.5 MiB")
        after = net(image[None])[0]
    assert found.dtype == before.dtype == torch.bfloat16
    assert torch.allclose(found.float(), before.float(), atol=0.02)
    assert torch.equal(before, after)


def test_weights_of_two_types_may_meet_under_autocast() -> None:
    net, image = nn.Sequential(wide(3, 8), nn.ReLU(), wide(8, 3)).eval(), torch.randn(3, 1000, 64)
    net[0].bfloat16().requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        found = fc.predict(net, image, "2.5 MiB")
        whole = net(image[None])[0]
    assert torch.allclose(found.float(), whole.float(), atol=0.02)
