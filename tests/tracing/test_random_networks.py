"""Random networks: the traced geometry against what the network does.

Nothing here knows an operator. A network is run with pixels changed or poisoned (`footprints`), on
windows, and on images of many sizes; the geometry must say the same.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, event, given, seed, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import fullconv as fc
from fullconv.execution._rewind import Rewind
from fullconv.execution._rewinding import Rewinding
from fullconv.execution._rolling import Rolling
from fullconv.geometry import Axis, Box, Geometry
from fullconv.tracing import stages

from .footprints import change_footprint, hull, nan_footprint
from .random_networks import Do, Network, networks

LONGEST = 170
TOLERANCE = 1e-10

QUICK = settings(
    max_examples=20,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
# A thousand networks in all, in parts that test workers can share.
SHARDS = 10
MANY = settings(QUICK, max_examples=100, derandomize=False)


def traced(net: Network, shape: tuple[int, ...] | None = None) -> Geometry:
    """The geometry of a network that takes some image and is local; others are thrown away."""
    try:
        return fc.trace(net, 2, ndim=net.ndim, shape=shape)
    except fc.NotLocalError as error:
        event(f"refused: {error.why[:60]}")
        assume(False)
        raise


def image_of(shape: tuple[int, ...], seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 + torch.rand(2, *shape, generator=generator, dtype=torch.float64)


def smallest(axis: Axis) -> int:
    """The smallest image of the sizes that were traced."""
    entry = axis.legal[axis.residue]
    assert entry
    return entry[0]


def long_enough(axis: Axis) -> int:
    """A size at which several units of each phase are clear of the border."""
    reach = axis.field + sum(axis.halo) + max(axis.borders)
    return smallest(axis) + (reach // axis.period + 4) * axis.period


def small(axis: Axis) -> int:
    return smallest(axis) + 2 * axis.period


def check_footprints(net: Network, geometry: Geometry) -> None:
    # What reads nothing along one axis reads nothing.
    reads = all(any(phase.start < phase.stop for phase in a.phases) for a in geometry.axes)
    for k, axis in enumerate(geometry.axes):
        assume(long_enough(axis) <= LONGEST)
        changed, reached = footprints(net, geometry, k, small)
        copies = any(mode in str(net) for mode in ("reflect", "replicate"))
        check_axis(axis, changed, copies=copies)
        if not reads or gaps_beside(net, k):
            continue
        if unread(axis, reached):  # where the other axes are short, their borders cut off
            _, reached = footprints(net, geometry, k, long_enough)
            assert not unread(axis, reached), unread(axis, reached)


def gaps_beside(net: Network, k: int) -> bool:
    """Whether transposed convolutions leave positions along other axes that hold their bias alone.

    A branch that has those alone reads no pixel, which fields along `k` do not know: axes are followed
    one by one. They are wider then than they need be.
    """
    ups = (m for m in net.modules() if isinstance(m, nn.modules.conv._ConvTransposeNd))
    return any(
        len({tap * up.dilation[n] % up.stride[n] for tap in range(up.kernel_size[n])})
        < up.stride[n]
        for up in ups
        for n in range(net.ndim)
        if n != k
    )


def footprints(
    net: Network, geometry: Geometry, k: int, across: Callable[[Axis], int]
) -> tuple[Tensor, Tensor]:
    """Which pixels along axis `k` change which units, and which reach them."""
    size = long_enough(geometry.axes[k])
    shape = tuple(size if n == k else across(a) for n, a in enumerate(geometry.axes))
    # Where maxima are put back depends on the image: many images show all that may happen, and those
    # with a few large numbers also where a layer makes every other position larger.
    unpools = "unpool" in str(net)
    images = [image_of(shape, seed) for seed in range(6 if unpools else 1)]
    images += [image**9 for image in images] if unpools else []
    changed = torch.stack([change_footprint(net, image, k) for image in images]).any(0)
    assert changed.shape == (size, geometry.map_shape(shape)[k])
    # Where ties hide part of what operators read, fields are only held not to be too small.
    if net.ties:
        return changed, torch.ones_like(changed)
    poisoned = [nan_footprint(net, image, k) for image in images]
    return changed, changed | torch.stack(poisoned).any(0)


def check_axis(axis: Axis, changed: Tensor, *, copies: bool) -> None:
    """Every unit: nothing outside its field changes it."""
    size = len(changed)
    for unit in range(changed.shape[1]):
        start, stop = axis.field_of(unit)
        turn, phase = divmod(unit, axis.units)
        first = axis.phases[phase].first + turn * axis.period
        last = axis.phases[phase].last + turn * axis.period
        low, high = hull(changed[:, unit])
        at_border = first < 0 or last > size
        if copies and at_border:  # what padding copies lies in the unit's window
            held = low == high or (low >= first and high <= last) or axis.borders != (0, 0)
            assert held, (unit, low, high)
        else:
            assert low >= min(max(start, 0), low if low == high else size), (unit, low, start)
            assert high <= max(stop, 0) or low == high, (unit, high, stop)


def unread(axis: Axis, reached: Tensor) -> dict[int, list[int]]:
    """The phases not all of whose field reaches their units, and the pixels that do."""
    found: dict[int, set[int]] = {phase: set() for phase in range(axis.units)}
    for unit in range(reached.shape[1]):
        turn, phase = divmod(unit, axis.units)
        first = axis.phases[phase].first + turn * axis.period
        last = axis.phases[phase].last + turn * axis.period
        if first >= 0 and last <= len(reached):
            places = reached[:, unit].nonzero().flatten().tolist()
            found[phase].update(p - turn * axis.period for p in places)
    return {
        n: sorted(found[n])
        for n, phase in enumerate(axis.phases)
        if phase.start < phase.stop
        and not min(found[n], default=phase.stop) <= phase.start < phase.stop <= max(found[n]) + 1
    }


def check_windows(
    net: Network, geometry: Geometry, shape: tuple[int, ...], draw: st.DataObject
) -> None:
    image = image_of(shape, 4)
    whole = net(image[None])[0]
    assert tuple(whole.shape[1:]) == geometry.map_shape(shape)
    scale = float(whole.abs().max()) + 1e-300
    for _ in range(4):
        corners = [
            sorted((draw.draw(st.integers(0, m - 1)), draw.draw(st.integers(0, m - 1))))
            for m in whole.shape[1:]
        ]
        units = Box(start=tuple(a for a, _ in corners), stop=tuple(b + 1 for _, b in corners))
        window = geometry.window(units, shape)
        assert Box.whole(shape).contains(window.reads)
        part = net(image[(slice(None), *window.reads.slices)][None])[0]
        got = part[(slice(None), *window.inside.slices)]
        error = float((got - whole[(slice(None), *units.slices)]).abs().max()) / scale
        assert error < TOLERANCE, (units, window.reads, error)


def check_rows(
    net: Network, geometry: Geometry, shape: tuple[int, ...], draw: st.DataObject, *, back: bool
) -> None:
    """Run down the image, some rows at a time, where every operator can stop; and back."""
    found = stages(net, 2, shape, geometry.axes[0].period)
    event(f"runs down: {found is not None}")
    if found is None:
        return
    image = image_of(shape, 5)[None]
    whole = net(image)
    parts = Rolling(net, found)(lambda a, b: image[:, :, a:b], draw.draw(st.integers(1, 40)))
    got = torch.cat([part for _, part in parts], 2)
    assert got.shape == whole.shape
    assert float((got - whole).abs().max()) < TOLERANCE * (float(whole.abs().max()) + 1e-300)
    if not back:
        return
    plan = Rewind(rows=draw.draw(st.integers(16, 40)), every=draw.draw(st.integers(1, 3)))
    check_way_back(net, Rolling(net, found), plan, image)


def check_way_back(net: Network, rolling: Rolling, plan: Rewind, image: Tensor) -> None:
    """Go down the image and back: the gradient for it is that of the whole map."""
    image = image.clone().requires_grad_()
    with torch.enable_grad():
        whole = net(image)
        # Laid out as the map: else PyTorch's gradient of BatchNorm in eval mode is wrong for one image
        # whose channels come last (2.13: 1 x 2 x 14 x 3 of strides 2, 1, 6, 2).
        outer = torch.empty_like(whole).copy_(
            torch.randn(whole.shape, generator=torch.Generator().manual_seed(6))
        )
        if not whole.requires_grad:
            return
        (expected,) = torch.autograd.grad(whole, [image], outer, allow_unused=True)
    (found,) = Rewinding(rolling, plan).back(
        lambda a, b: image[:, :, a:b],
        [image],
        lambda first, piece: (piece, outer[:, :, first : first + piece.shape[2]]),
    )
    zero = torch.zeros_like(image)  # None, where nothing depends on the image
    found, expected = (zero if grad is None else grad for grad in (found, expected))
    scale = max(float(expected.abs().max()), 0.01)  # below, it is rounding of what cancels
    assert float((found - expected).abs().max()) <= TOLERANCE * scale


def check_sizes(net: Network, geometry: Geometry, draw: st.DataObject) -> None:
    """Sizes along each axis: those that the network takes, and the map that it returns."""
    for k, axis in enumerate(geometry.axes):
        size = draw.draw(st.integers(1, axis.smallest + 2 * axis.period + 3))
        shape = tuple(size if n == k else small(a) for n, a in enumerate(geometry.axes))
        try:
            found = tuple(net(image_of(shape)[None]).shape[2:])
        except (RuntimeError, ValueError):
            found = None
        if found is None or 0 in found:
            assert not geometry.takes(shape), shape
        else:
            assert geometry.takes(shape), shape
            assert geometry.map_shape(shape) == found


def check(net: Network, draw: st.DataObject, *, back: bool) -> None:
    geometry = traced(net)
    check_footprints(net, geometry)
    shape = tuple(
        small(axis)
        + axis.period * draw.draw(st.integers(0, max(0, (60 - small(axis)) // axis.period)))
        for axis in geometry.axes
    )
    check_windows(net, geometry, shape, draw)
    check_rows(net, geometry, shape, draw, back=back)
    check_sizes(net, geometry, draw)
    odd = tuple(size + draw.draw(st.integers(0, 7)) for size in shape)
    if geometry.takes(odd):
        at_odd = traced(net, odd)
        check_windows(net, at_odd, odd, draw)
        check_rows(net, at_odd, odd, draw, back=back)


@QUICK
@given(networks(), st.data())
def test_geometry_is_the_footprint_and_windows_are_exact(net: Network, data: st.DataObject) -> None:
    check(net, data, back=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_geometry_is_the_footprint_of_a_thousand_networks(shard: int) -> None:
    @seed(shard)
    @MANY
    @given(networks(), st.data())
    def holds(net: Network, data: st.DataObject) -> None:
        check(net, data, back=True)

    holds()


def test_of_equal_values_the_first_is_the_maximum() -> None:
    """By its operators a place for the second copy reads pixels; which, no image ever shows."""

    def run(x: Tensor) -> Tensor:
        small, places = F.max_pool1d(x.repeat_interleave(2, 2), 2, return_indices=True)
        return F.max_unpool1d(small, places, 2)

    net = Do("nearest, pool, unpool", run)
    changed = change_footprint(net, image_of((8,)), 0)
    assert [hull(changed[:, unit]) for unit in range(4)] == [(0, 1), (0, 0), (1, 2), (0, 0)]
    assert [fc.trace(net, 2, 1).field_of((unit,)).start[0] for unit in range(4)] == [0, 0, 1, 1]


class BesideTaps(nn.Module):
    """Adds, two rows further down, columns between the taps of a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2, 1, 1, stride=(1, 2), output_padding=(0, 1)).double()

    def forward(self, image: Tensor) -> Tensor:
        columns = self.up(image)
        return columns[:, :, :-2, ::2] + columns[:, :, 2:, 1::2]


def test_a_branch_that_reads_nothing_along_one_axis_counts_along_the_others() -> None:
    """Fields may be wider than they need be, never too narrow: windows stay exact."""
    net = BesideTaps()
    changed = change_footprint(net, image_of((6, 5), 0), 0)
    assert {hull(changed[:, unit]) for unit in range(4)} == {(n, n + 1) for n in range(4)}
    assert fc.trace(net, 2).field == (3, 1)
