"""The certificate: right networks pass it, and every planted fault is caught."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fullconv as fc
from fullconv.geometry import Axis, Geometry
from fullconv.verifying import Certificate
from fullconv.verifying._witnesses import WITNESSES

SHAPE = (3, 40, 56)


class TwoLevels(nn.Module):
    """A small encoder and decoder with one skip."""

    def __init__(self, norm: nn.Module | None = None, mode: str = "zeros") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down = nn.Conv2d(3, 6, 3, padding=1, padding_mode=mode)
        self.norm = norm or nn.Identity()
        self.deep = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Conv2d(12, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        fine = torch.relu(self.norm(self.down(x)))
        coarse = F.relu(self.deep(F.max_pool2d(fine, 4)))
        return self.head(torch.cat([fine, F.interpolate(coarse, scale_factor=4)], 1))


@pytest.fixture(scope="module")
def right() -> Geometry:
    return fc.trace(TwoLevels(), shape=SHAPE[1:])


def changed(axis: Axis, **by: int) -> Axis:
    """Return the axis with each phase moved by so many px."""
    return replace(
        axis,
        phases=tuple(
            replace(p, **{name: getattr(p, name) + d for name, d in by.items()})
            for p in axis.phases
        ),
    )


def failed(certificate: Certificate) -> set[str]:
    return {f.witness.split(" ")[0] for f in certificate.findings if not f.passed}


def test_a_right_geometry_passes_and_says_so() -> None:
    certificate = fc.verify(TwoLevels(), shape=SHAPE)
    assert certificate.passed
    assert str(certificate).startswith("passed on an image of shape (3, 40, 56)")
    assert {f.cases > 0 for f in certificate.findings[:3]} == {True}
    assert max(f.error for f in certificate.findings) < 1e-12


def test_an_unpadded_network_is_also_held_against_cropped_patches() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 2, 5))
    patches = fc.verify(net, shape=(3, 32, 30)).findings[3]
    assert (patches.passed, patches.cases) == (True, 8)


def test_a_map_of_one_unit_may_come_without_its_axes() -> None:
    class OneAnswer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(3, 2, 5)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return y[..., 0] if y.shape[-1] == 1 else y

    patches = fc.verify(OneAnswer(), shape=(3, 32)).findings[3]
    assert (patches.passed, patches.cases) == (True, 8)


@pytest.mark.parametrize("by", [{"start": 1, "first": 1}, {"stop": -1, "last": -1}])
def test_a_halo_one_too_small_is_caught(right: Geometry, by: dict[str, int]) -> None:
    wrong = replace(right, axes=(changed(right.axes[0], **by), right.axes[1]))
    assert "footprint" in failed(fc.verify(TwoLevels(), shape=SHAPE, geometry=wrong))


def test_a_field_one_too_large_is_caught(right: Geometry) -> None:
    wrong = replace(right, axes=(right.axes[0], changed(right.axes[1], start=-1, first=-1)))
    assert failed(fc.verify(TwoLevels(), shape=SHAPE, geometry=wrong)) == {"footprint"}


def test_taps_without_weight_are_no_dependence() -> None:
    """Units of a linear enlargement by 3 that stand on a pixel read its neighbour with weight zero."""
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Upsample(scale_factor=3, mode="bilinear"))
    assert fc.verify(net, shape=SHAPE).passed


def test_a_dependence_far_outside_the_field_is_caught() -> None:
    """Beside the field nothing is read, farther out with a small weight."""
    net = nn.Conv2d(3, 2, (1, 21), padding=(0, 10))
    near = fc.trace(nn.Conv2d(3, 2, (1, 5), padding=(0, 2)), shape=SHAPE[1:])
    with torch.no_grad():
        net.weight[..., 1:8] = net.weight[..., -8:-1] = 0
        net.weight[..., 0] = net.weight[..., -1] = 1e-8
    found = fc.verify(net, shape=SHAPE, geometry=near).findings[0]
    assert not found.passed
    assert "(20, 28) depends on pixels outside its field" in found.detail


def test_starts_off_the_period_are_caught(right: Geometry) -> None:
    axis = replace(
        right.axes[0], period=1, phases=right.axes[0].phases[:1], legal=((1, 1),), residue=0
    )
    wrong = replace(right, axes=(axis, right.axes[1]))
    assert {"random", "gradients"} <= failed(fc.verify(TwoLevels(), shape=SHAPE, geometry=wrong))


def test_a_norm_over_the_image_that_the_geometry_hides_is_caught_and_named(right: Geometry) -> None:
    certificate = fc.verify(TwoLevels(nn.GroupNorm(2, 6)), shape=SHAPE, geometry=right)
    assert failed(certificate) == {"footprint", "random", "gradients"}
    assert "`norm` (GroupNorm)" in certificate.findings[1].detail


def test_a_padding_mode_that_the_geometry_dropped_is_caught(right: Geometry) -> None:
    certificate = fc.verify(TwoLevels(mode="circular"), shape=SHAPE, geometry=right)
    assert not certificate.passed


def test_a_network_that_is_not_local_fails_by_the_name_of_its_module() -> None:
    certificate = fc.verify(TwoLevels(nn.GroupNorm(2, 6)), shape=SHAPE)
    assert not certificate.passed
    assert "`norm` (GroupNorm) is not local" in certificate.findings[0].detail
    found = json.loads(certificate.to_json(), parse_constant=pytest.fail)
    assert (found["geometry"], found["findings"][0]["error"]) == (None, None)


def test_a_score_layer_at_zero_hides_nothing(right: Geometry) -> None:
    net = TwoLevels()
    nn.init.zeros_(net.head.weight)
    wrong = replace(right, axes=(changed(right.axes[0], first=4, start=4), right.axes[1]))
    assert not fc.verify(net, shape=SHAPE, geometry=wrong).passed
    assert not net.head.weight.any()


def test_the_json_holds_geometry_and_findings() -> None:
    found = json.loads(fc.verify(TwoLevels(), shape=SHAPE).to_json())
    assert found["passed"] is True
    assert found["geometry"]["period"] == [4, 4]
    assert len(found["findings"]) == 4


def test_a_shape_that_the_network_does_not_take_is_refused() -> None:
    with pytest.raises(fc.FullconvError, match="nearest are 40 x 56 and 44 x 56"):
        fc.verify(TwoLevels(), shape=(3, 41, 56))


@pytest.mark.parametrize("padding", [0, 1])
def test_a_classifier_made_convolutional_is_compared_with_its_patches(padding: int) -> None:
    """Without padding they agree; with padding the difference is told, and is the one that there is."""
    torch.manual_seed(0)
    size = 9 - 2 * (1 - padding)
    classifier = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=padding), nn.ReLU(), nn.Conv2d(4, 4, size, stride=2),
        nn.Flatten(), nn.Linear(4, 2),
    ).eval()  # fmt: skip
    fcn = fc.convolutionalize(classifier, (9, 9))
    certificate = fc.verify(fcn, (3, 31, 33))
    assert certificate.passed
    (finding,) = [f for f in certificate.findings if f.witness == "cropped patches"]
    assert finding.cases > 0
    if not padding:
        assert finding.error < 1e-12
        return
    assert "a cropped patch of 9 x 9 px is padded where the map sees image" in str(certificate)
    x = torch.randn(3, 31, 33, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        whole = fcn.double()(x[None])[0]
        errors = [
            (whole[:, i, j] - classifier.double()(x[None, :, 2 * i : 2 * i + 9, 2 * j : 2 * j + 9])[0])
            .abs().max().item() / whole.abs().max().item()
            for i in range(12) for j in range(13)
        ]  # fmt: skip
    assert min(abs(finding.error - e) for e in errors) < 1e-12
    assert finding.error > 0.01


class Excited(nn.Module):
    """Squeeze-and-excite by a Linear, without any padding."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.linear(x.mean((2, 3)))[:, :, None, None]


CUT = "ends within the last windows of a pooling in ceil mode, where the map goes on"
OF_ITS_OWN = (
    "one factor or summand for all its positions, where each position of the map has that of"
)
PADDED = "is padded where the map sees image"
# Layers before the Linear, the px of the patch, and what is said of it.
HEADED: dict[str, tuple[list[nn.Module], int, list[str]]] = {
    "a last window that is cut": ([nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, ceil_mode=True)], 11, [CUT]),
    "a mean that is cut": ([nn.Conv2d(3, 4, 3), nn.AvgPool2d(3, 2, ceil_mode=True)], 12, [CUT]),
    "a last window that fits": ([nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, ceil_mode=True)], 12, []),
    "squeeze-and-excite": ([nn.Conv2d(3, 4, 3), Excited(4), nn.MaxPool2d(2)], 12, [OF_ITS_OWN]),
    "squeeze-and-excite, padded": ([nn.Conv2d(3, 4, 3, padding=1), Excited(4), nn.MaxPool2d(2)], 12, [PADDED, OF_ITS_OWN]),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADED)
@pytest.mark.parametrize("side", [34, 35])
def test_what_a_unit_sees_beside_its_patch_is_measured_and_named(name: str, side: int) -> None:
    """The witness is the classifier itself, on every patch."""
    torch.manual_seed(0)
    layers, patch, said = HEADED[name]
    trunk = nn.Sequential(*copy.deepcopy(layers), nn.Conv2d(4, 4, 3), nn.Flatten()).eval()
    features = trunk(torch.zeros(1, 3, patch, patch)).shape[1]
    classifier = nn.Sequential(trunk, nn.Linear(features, 2)).double().eval()
    fcn = fc.convolutionalize(classifier, (patch, patch))
    certificate = fc.verify(fcn, (3, side, side))
    finding = certificate.findings[-1]
    assert certificate.passed
    assert finding.cases == 8
    assert {reason: reason in finding.detail for reason in (CUT, OF_ITS_OWN, PADDED)} == {
        reason: reason in said for reason in (CUT, OF_ITS_OWN, PADDED)
    }
    x = torch.randn(3, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        whole = fcn(x[None])[0]
        places = [
            (i, j) for i in range((side - patch) // 2 + 1) for j in range((side - patch) // 2 + 1)
        ]
        crops = torch.stack([x[:, 2 * i : 2 * i + patch, 2 * j : 2 * j + patch] for i, j in places])
        units = torch.stack([whole[:, i, j] for i, j in places])
        errors = (classifier(crops) - units).abs().amax(1) / whole.abs().max()
    assert (errors - finding.error).abs().min() < 1e-12
    assert (finding.error > 1e-3) == bool(said)


def test_a_patch_that_holds_all_that_its_unit_needs_must_give_the_same_answer() -> None:
    class Doubled(nn.Conv2d):
        meta: ClassVar = {"patch": (11, 11)}

        def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
            return super().forward(x) * (2 if x.shape[-1] == 11 else 1)

    geometry = fc.trace(nn.Conv2d(3, 2, 9))
    found = fc.verify(Doubled(3, 2, 9), (3, 30, 30), geometry=geometry).findings[-1]
    assert not found.passed
    assert found.detail == "a unit differs from the network on its cropped patch"


def test_a_network_that_fails_on_windows_is_found_so() -> None:
    class OneWidth(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
            if x.shape[-1] != 40:
                raise RuntimeError("one width alone")
            return super().forward(x)

    geometry = fc.trace(nn.Conv2d(3, 2, 3))
    found = fc.verify(OneWidth(3, 2, 3), shape=(3, 40, 40), geometry=geometry)
    assert not found.passed
    said = [f.detail for f in found.findings if not f.passed]
    assert {f.witness for f in found.findings} == set(WITNESSES)
    assert any("fails on a window or patch that it should take: one width alone" in s for s in said)
