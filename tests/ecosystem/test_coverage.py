"""Networks of other projects: traced and certified, or refused for a reason that is true."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import torch
from torch import nn

import fullconv as fc
from fullconv.geometry import Geometry
from fullconv.verifying import _witnesses

from .evidence import evidence, takes_one_size
from .members import MEMBERS, Member
from .page import Row

# A strip is so wide, where the period allows; along the other axis it is longer than the field.
NARROW_PX = 32
PERIODS = 3

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def few_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are large and images are long: few units and windows of each."""
    monkeypatch.setattr(_witnesses, "NUM_WINDOWS", 3)
    monkeypatch.setattr(_witnesses, "MAX_FOOTPRINTS", 4)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: f"{m.library}: {m.name}")
def test_a_network_is_certified_or_refused_truly(
    member: Member, record_property: pytest.RecordProperty
) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = member.build().eval()
    try:
        geometry = fc.trace(net, member.channels, member.ndim)
    except fc.FullconvError as error:
        row = refused(net, member, error)
    else:
        row = certified(net, member, geometry)
    record_property("row", row.as_text())


def certified(net: nn.Module, member: Member, geometry: Geometry) -> Row:
    cases = 0
    for shape in strips(geometry):
        certificate = fc.verify(net, (member.channels, *shape), geometry=geometry)
        assert certificate.passed, f"{shape}\n{certificate}"
        cases += sum(finding.cases for finding in certificate.findings)
    assert cases >= 10
    return Row.traced(member, geometry)


def strips(geometry: Geometry) -> Iterator[tuple[int, ...]]:
    """Yield image shapes that are long along one axis: along the last, or each where they differ."""
    axes = geometry.axes
    for long in range(len(axes)) if len(set(axes)) > 1 else [len(axes) - 1]:
        wanted = [
            axis.field + PERIODS * axis.period if k == long else NARROW_PX
            for k, axis in enumerate(axes)
        ]
        yield tuple(
            size + (axis.residue - size) % axis.period
            for size, axis in zip(geometry.nearest_shapes(tuple(wanted))[-1], axes, strict=True)
        )


def refused(net: nn.Module, member: Member, error: fc.FullconvError) -> Row:
    """Return the row of a refused network, once the reason has been seen to be true."""
    text = str(error)
    if isinstance(error, fc.NotLocalError):
        one = re.search(r"takes an image of (\d+) x", text)
        if one:
            assert takes_one_size(net, member.channels, member.ndim, int(one[1])), text
            seen = "it runs at this size, and raises at 11 longer ones"
        elif "repeats only every" in text:
            seen = "by arithmetic"
        else:
            seen = evidence(net, error.module, member.channels, member.ndim)
        assert seen, f"nothing shows that this is so: {text}"
        kind = type(net.get_submodule(error.module)).__name__
        return Row.refused(member, error.module, kind, error.why, seen)
    large = re.search(r"at `(\S+)` \(\w+\): following `\S+` there takes too much memory", text)
    if large:
        kind = type(net.get_submodule(large[1])).__name__
        why = "to follow which positions read which takes too much memory there"
        return Row.refused(member, large[1], kind, why, "by arithmetic")
    assert "one answer for an image" in text
    shapes = {
        net(torch.randn(1, member.channels, *[size] * member.ndim)).ndim for size in (512, 1024)
    }
    assert shapes == {2}
    return Row.refused(
        member,
        "",
        type(net).__name__,
        "it gives one answer for an image",
        "two image sizes give one answer each",
    )
