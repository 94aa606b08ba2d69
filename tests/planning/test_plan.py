"""What a plan says, against closed formulas and the steps that would be made."""

import json
import re
import subprocess
import sys
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fullconv as fc
from fullconv.geometry import Box
from fullconv.planning import Plan, RegimePlan, rehearse_step
from fullconv.planning._gauge import LOADED_BYTES, Gauge
from fullconv.planning._manner import Precision
from fullconv.planning._words import amount, count, duration, enough, ratio

SHAPE = (3, 100, 92)
LOADED = LOADED_BYTES["cpu"]


def small() -> nn.Module:
    """A field of 12 px, a stride of 2 px, no padding."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3), nn.ReLU(),
        nn.Conv2d(16, 4, 2),
    )  # fmt: skip


@pytest.fixture(scope="module")
def plan() -> Plan:
    return fc.plan(small(), SHAPE, batch=2, memory="100 MiB", images=25)


def test_bytes_are_those_of_the_formulas(plan: Plan) -> None:
    weights = 16 * 3 * 25 + 16 + 16 * 16 * 9 + 16 + 4 * 16 * 4 + 4
    assert plan.parameters == weights
    assert plan.parameter_bytes == plan.gradient_bytes == 4 * weights
    assert plan.optimizer_bytes == 2 * 4 * weights + 6 * 4
    assert plan.image_bytes == 4 * 3 * 100 * 92
    assert plan.bill.data == 2 * (plan.image_bytes + 8 * prod(plan.map_shape[1:]))
    assert plan.map_shape == tuple(small()(torch.zeros(1, *SHAPE)).shape[1:])
    # 980 x 980 px: 10.99 MiB.
    assert amount(plan.image_bytes * 980 * 980 / (100 * 92)) == "10.99 MiB"


def test_the_peak_is_that_of_the_rehearsal_and_of_its_items(plan: Plan) -> None:
    assert plan.peak_bytes == rehearse_step(small(), SHAPE, batch=2).peak_bytes + LOADED
    items = ("parameters", "gradients", "optimizer", "data", "saved", "workspace")
    assert plan.peak_bytes == sum(getattr(plan.bill, item) for item in items)
    assert sum(layer.saved_bytes for layer in plan.layers) == plan.saved_bytes


def test_one_image_more_than_the_largest_batch_does_not_fit() -> None:
    plan = fc.plan(small(), SHAPE, memory="100 MiB")

    def taken(batch: int) -> int:
        return rehearse_step(small(), SHAPE, batch=batch).peak_bytes + LOADED

    usable = plan.memory / (1 + plan.reserve)
    assert taken(plan.largest_batch) <= usable < taken(plan.largest_batch + 1)
    assert plan.choice.regime == "whole"
    assert plan.choice.peak_bytes == taken(plan.largest_batch)
    few = fc.plan(small(), SHAPE, memory="100 MiB", images=3)
    assert few.largest_batch == 3


def test_no_regime_looks_at_more_images_than_there_are() -> None:
    found = fc.plan(small(), SHAPE, memory="100 MiB", images=1)
    assert [regime.images for regime in found.regimes] == [1, 1, 1, 1]
    assert {regime.epoch_steps for regime in found.regimes} == {1}
    three = fc.plan(small(), SHAPE, memory="100 MiB", images=3)
    assert (three.regime("sampled").images, three.regime("patchwise").images) == (3, 3)


@pytest.mark.parametrize("norm", [nn.Identity(), nn.BatchNorm2d(16)], ids=["local", "whole"])
def test_a_step_has_no_more_images_than_there_are(norm: nn.Module) -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 3), norm, nn.ReLU(), nn.Conv2d(16, 4, 3))
    all_three = fc.plan(net, SHAPE, batch=3, memory="1 GiB", images=3)
    memory = int(1.5 * all_three.peak_bytes)  # three images fit, the reserve kept, and not eight
    assert fc.plan(net, SHAPE, batch=3, memory=memory).largest_batch < 8
    found = fc.plan(net, SHAPE, batch=8, memory=memory, images=3)
    assert (found.choice.regime, found.choice.batch, found.largest_batch) == ("whole", 3, 3)
    assert (found.batch, found.peak_bytes) == (3, all_three.peak_bytes)


def test_whole_images_cost_one_pass_over_their_pixels(plan: Plan) -> None:
    whole = plan.regime("whole")
    assert (whole.images, whole.pixels) == (2, 2 * 100 * 92)
    assert whole.terms == 2 * prod(plan.map_shape[1:])
    assert whole.epoch_steps == 13
    assert whole.epoch_seconds == pytest.approx(13 * whole.seconds)


def test_patches_compute_their_field_for_each_unit(plan: Plan) -> None:
    assert plan.patch_px == 12**2  # 5 + (2 - 1) + (3 - 1) * 2 + (2 - 1) * 2
    units = prod(plan.map_shape[1:])
    more = plan.patch_px * units / (100 * 92)
    assert f"a patch for each unit would compute {ratio(more)} times the pixels" in str(plan)


def test_windows_are_those_of_the_steps_that_would_be_made() -> None:
    net = small().eval()
    found = fc.plan(net, (3, 300, 280), memory="46 MiB", images=10)
    streamed = found.regime("streamed")
    assert found.choice.regime == "streamed"
    assert streamed.peak_bytes <= found.memory
    assert streamed.step_bytes
    step = fc.StepLoss(net, nn.CrossEntropyLoss(reduction="none"), memory=streamed.step_bytes)
    image, target = torch.zeros(3, 300, 280), torch.zeros(found.map_shape[1:], dtype=torch.long)
    cover = step.cover(image, target)
    assert sum(w.count for w in streamed.windows) == len(cover)
    assert streamed.pixels == sum(w.reads.size for w in cover)
    assert streamed.terms == target.numel()
    assert f"at once they would take {amount(found.peak_bytes)}" in found.recommendation


def test_sampled_steps_look_at_more_images_for_as_many_terms(plan: Plan) -> None:
    sampled, patchwise = plan.regime("sampled"), plan.regime("patchwise")
    assert sampled.images == 8
    assert sampled.terms == pytest.approx(2 * prod(plan.map_shape[1:]), rel=0.05)
    assert patchwise.terms == 64
    assert patchwise.pixels_per_term > plan.regime("whole").pixels_per_term


def test_a_sampler_of_ones_own_is_planned_beside_the_others() -> None:
    found = fc.plan(small(), SHAPE, memory="1 GiB", sampler=fc.Balanced(count=100))
    assert [r.name for r in found.regimes] == [
        "whole",
        "streamed",
        "sampled",
        "patchwise",
        "balanced",
    ]
    assert found.regime("balanced").terms == 100
    again = fc.plan(small(), SHAPE, memory="1 GiB", sampler=fc.Patchwise(count=9, size=16))
    assert 0.5 < again.regime("patchwise").terms / (9 * 16 * 16) <= 1  # they overlap


def own(sampler: Any, batch: int = 1) -> RegimePlan:
    """Return the plan of a sampler of one's own."""
    net = nn.Conv2d(3, 2, 3, padding=1)
    return fc.plan(net, (3, 60, 50), batch, memory="1 GiB", sampler=sampler).regimes[-1]


def test_a_sampler_may_choose_all_units_or_none_of_the_first_class() -> None:
    def all_of_all(maps: Any, _: Any) -> None:
        del maps

    assert own(all_of_all, batch=2).terms == own(lambda maps, _: [None] * len(maps), 2).terms
    assert own(all_of_all, batch=2).terms == 2 * 60 * 50
    assert own(lambda maps, _: [m == 1 for m in maps]).terms == 60 * 50
    assert own(fc.Balanced(count=100, ignore=0)).terms == 100
    assert own(lambda maps, _: [maps[0] > 0, [Box(start=(1, 2), stop=(4, 6))]], batch=2).terms == 12


@pytest.mark.parametrize(
    ("chosen", "why"),
    [
        (lambda maps: [m > 5 for m in maps], "must choose a unit .* all 0 or all 1: give one"),
        (
            lambda maps: [torch.ones(3, 3) > 0 for _ in maps],
            r"shape of the map, .60, 50., got .3, 3.",
        ),
        (lambda maps: [None for _ in maps[1:]], r"must return the units of each of 2 images, got"),
        (lambda _: 3, r"must return the units of each of 2 images, got 3: a list"),
        (lambda maps: [3 for _ in maps], "`units` must be a tensor, a list of `Box` or None"),
    ],
)
def test_units_that_steps_would_refuse_are_refused(chosen: Any, why: str) -> None:
    assert re.search(why, own(lambda maps, _: chosen(maps), batch=2).refusal)


def test_each_regime_is_planned_once() -> None:
    plain = fc.plan(small(), SHAPE, memory="1 GiB")
    assert fc.plan(small(), SHAPE, memory="1 GiB", sampler=fc.Whole()).regimes == plain.regimes
    other = fc.plan(small(), SHAPE, memory="1 GiB", sampler=fc.Sampled(keep=0.5))
    assert [r.name for r in other.regimes] == [r.name for r in plain.regimes]
    assert other.regime("sampled").terms > plain.regime("sampled").terms / 2
    assert (plain.regime("sampled").images, other.regime("sampled").images) == (4, 2)


@pytest.mark.timeout(60)
def test_many_images_are_planned_as_one_and_a_number() -> None:
    one = fc.plan(small(), SHAPE, memory="100 TiB", images=4 * 10**6)
    many = fc.plan(small(), SHAPE, batch=10**6, memory="100 TiB", images=4 * 10**6)
    for name in ("whole", "streamed", "sampled"):
        alone, together = one.regime(name), many.regime(name)
        assert together.images == 10**6 * alone.images
        assert together.pixels == 10**6 * alone.pixels
        assert together.terms == pytest.approx(10**6 * alone.terms, rel=0.02)
        assert together.operations == pytest.approx(10**6 * alone.operations)
    assert "from 256 images of 45 x 41 units at most, got 1,000,000" in str(many)
    with pytest.raises(fc.FullconvError, match=r"the least that works is \d+ GiB, in windows"):
        fc.plan(small(), SHAPE, batch=10**6, memory="10 GiB")


def test_sampled_units_of_few_windows_cost_less_than_the_image() -> None:
    found = fc.plan(small().eval(), SHAPE, memory="1 GiB", sampler=fc.Patchwise(count=1))
    assert found.regime("patchwise").pixels == 12**2


def test_a_network_that_is_not_local_is_planned_for_whole_images() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1))
    found = fc.plan(net, SHAPE, memory="1 GiB")
    assert found.choice.regime == "whole"
    assert found.regime("streamed").windows[0].shape == SHAPE[1:]
    assert found.patch_px == 9  # as it is used


def test_half_precision_takes_less_and_sgd_less_state() -> None:
    plain = fc.plan(small(), SHAPE, memory="1 GiB")
    half = fc.plan(small(), SHAPE, memory="1 GiB", precision="bf16")
    sgd = fc.plan(small(), SHAPE, memory="1 GiB", optimizer="sgd")
    assert half.saved_bytes < 0.7 * plain.saved_bytes
    assert sgd.optimizer_bytes == plain.gradient_bytes


def test_a_plan_is_read_as_json_and_as_a_table(plan: Plan) -> None:
    values = json.loads(plan.to_json())
    assert values["peak_bytes"] == plan.peak_bytes
    assert values["recommendation"] == plan.recommendation
    assert [r["name"] for r in values["regimes"]] == [r.name for r in plan.regimes]
    assert values["regimes"][0]["epoch_seconds"] == plan.regime("whole").epoch_seconds
    assert sum(values["bill"].values()) == plan.peak_bytes
    text = str(plan)
    for said in (amount(plan.peak_bytes), "saved activations", "patchwise", "MaxPool2d"):
        assert said in text


def test_a_network_without_numbers_and_of_any_size_is_planned() -> None:
    with torch.device("meta"):
        net = fc.networks.build("unet", classes=2, norm="none", width=8, depth=2)
    found = fc.plan(net, (3, 20_000, 20_000), memory="12 GiB")
    assert found.peak_bytes > 40 * 2**30
    assert found.choice.regime == "streamed"
    assert found.choice.peak_bytes <= 12 * 2**30
    assert found.regime("streamed").pixels < 1.3 * 20_000**2


def test_plans_have_one_or_three_axes_too() -> None:
    signal = nn.Sequential(nn.Conv1d(2, 8, 9), nn.ReLU(), nn.Conv1d(8, 3, 1))
    assert fc.plan(signal, (2, 5_000), memory="1 GiB").map_shape == (3, 4_992)
    volume = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.Conv3d(4, 2, 1))
    assert fc.plan(volume, (1, 20, 30, 40), memory="1 GiB").map_shape == (2, 18, 28, 38)


class Halving(nn.Module):
    """Takes even sides only, as encoders without rounding do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.GroupNorm(1, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not any(side % 16 for side in x.shape[-2:]), "sides must be multiples of 16"
        return self.norm(self.conv(x))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"batch": 10**13},
            r"`batch` must be images that take .*, at most 73,300,775 of 3 x 200 x 200 px, got 10,0",
        ),
        ({"memory": "plenty"}, "`memory` must be an amount such as '2 GiB', .*, got 'plenty'"),
        ({"memory": 0}, "`memory` must be an amount"),
        ({"memory": "26 MiB"}, "and the optimiser's state alone take .* KiB"),
        ({"memory": "26 MiB"}, "got 26 MiB .*: the least that works is .* MiB, in windows of .* px"),
        ({"batch": 0}, "`batch` must be a whole number of at least 1, got 0"),
        ({"batch": None}, "`batch` must be a whole number of at least 1, got None"),
        ({"images": 2.5}, "`images` must be a whole number of at least 1, got 2.5"),
        ({"precision": "16"}, "`precision` must be one of 32, bf16, got '16'"),
        ({"optimizer": "lion"}, "`optimizer` must be one of adamw, sgd, .*rprop, got 'lion'"),
        ({"shape": (980, 980)}, "`shape` must be one that the network takes, got 980 px with 980 ch"),
        ({"shape": (3, 980, -1)}, r"`shape` must be \(channels, \*spatial\) with 1 to 3 .*, got"),
        ({"shape": 3}, r"`shape` must be \(channels, \*spatial\) with 1 to 3 .*, got 3"),
        ({"shape": None}, r"`shape` must be \(channels, \*spatial\) with 1 to 3 .*, got None"),
        ({"shape": (3, 64)}, r"takes \(= 2\), got \(3, 64\) with 1: such as \(3, 64, 64\)"),
        ({"shape": (3, 64, 60, 9)}, r"\(= 2\), got .* with 3: such as \(3, 64, 60\)"),
        ({"net": nn.Conv3d(1, 2, 3), "shape": (1, 64, 64)}, r"\(= 3\), got \(1, 64, 64\) with 2"),
        ({"net": "unet"}, r"`net` must be a torch.nn.Module, got 'unet': .*build\('unet', classes=2"),
        ({"sampler": "patchwise:64"}, r"`sampler` .*, got 'patchwise:64': such as .*Patchwise\("),
        ({"sampler": fc.Sampled}, "`sampler` must be a function of labels and a generator, got <class"),
        ({"shape": (3,)}, r"`shape` must be \(channels, \*spatial\)"),
        ({"shape": (3, 9, 9)}, "got an image of 9 x 9 px: nearest are 12 x 12 px"),
    ],
)  # fmt: skip
def test_what_cannot_be_planned_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(fc.FullconvError, match=message):
        fc.plan(**({"net": small(), "shape": (3, 200, 200)} | settings))  # pyright: ignore[reportArgumentType]


class Detached(nn.Conv2d):
    """A map without a graph."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input).detach()


@pytest.mark.parametrize(
    ("net", "why"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid(), nn.ReLU(inplace=True)), "inplace operation"),
        (Detached(3, 4, 3), "does not require grad"),
    ],
)  # fmt: skip
def test_what_fails_for_another_reason_than_its_size_says_so(net: nn.Module, why: str) -> None:
    said = rf"fails for another reason: .*{why}"
    with pytest.raises(fc.FullconvError, match=said) as refused:
        fc.plan(net, SHAPE, memory="1 GiB")
    assert "nearest" not in str(refused.value)


def test_a_network_that_returns_no_map_is_refused_with_what_makes_one() -> None:
    classifier = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    )
    said = r"`net` must return a map .*, got \(N, 10\): see `fullconv.convolutionalize`"
    with pytest.raises(fc.FullconvError, match=said):
        fc.plan(classifier, (3, 32, 32), memory="1 GiB")


def test_plans_are_the_same_in_inference_mode(plan: Plan) -> None:
    with torch.inference_mode():
        again = fc.plan(small(), SHAPE, batch=2, memory="100 MiB", images=25)
    assert again == plan


def test_plans_are_the_same_where_tensors_are_made_on_another_device(plan: Plan) -> None:
    with torch.device("meta"):
        net = small()
        again = fc.plan(net, SHAPE, batch=2, memory="100 MiB", images=25)
    assert again == plan


def test_the_first_plan_of_a_process_draws_no_random_numbers() -> None:
    code = """
import random, numpy, torch
import fullconv as fc
def states():
    return random.getstate(), str(numpy.random.get_state()), torch.get_rng_state().tolist()
net = torch.nn.Conv2d(3, 2, 3)
before = states()
str(fc.plan(net, (3, 60, 60), memory="1 GiB", measure=True))
assert states() == before
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_sizes_are_any_whole_numbers(plan: Plan) -> None:
    shape = tuple(np.array(SHAPE))
    assert fc.plan(small(), shape, batch=2, memory="100 MiB", images=25) == plan


def test_more_memory_than_can_be_counted_is_planned_with() -> None:
    assert fc.plan(small(), SHAPE, memory=10**30).largest_batch > 10**9


def test_the_nearest_sizes_of_a_network_that_is_not_traced_are_found() -> None:
    with pytest.raises(fc.FullconvError, match="nearest are 96 x 80 px and 112 x 96 px"):
        fc.plan(Halving(), SHAPE, memory="1 GiB")


@pytest.mark.parametrize("norm", [nn.Identity(), nn.GroupNorm(1, 16)], ids=["local", "not local"])
def test_the_least_that_works_works_and_less_does_not(norm: nn.Module) -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 3), norm, nn.Conv2d(16, 2, 1))
    with pytest.raises(fc.FullconvError, match="the least that works is") as refused:
        fc.plan(net, (3, 320, 320), memory="1 MiB")
    said = re.search(r"the least that works is ([\d.]+) MiB", str(refused.value))
    assert said
    least = float(said[1])
    assert fc.plan(net, (3, 320, 320), memory=f"{least + 0.01} MiB").choice.batch == 1
    with pytest.raises(fc.FullconvError, match="the least that works is"):
        fc.plan(net, (3, 320, 320), memory=f"{0.98 * least} MiB")


@pytest.mark.parametrize(
    ("shape", "precision", "batch"), [((3, 480, 640), "32", 2), ((3, 480, 640), "bf16", 1)]
)
def test_the_least_that_works_is_that_of_the_search(
    shape: tuple[int, ...], precision: Precision, batch: int
) -> None:
    net = fc.networks.build("unet", classes=3, norm="none").eval()
    with pytest.raises(fc.FullconvError, match="the least that works is") as refused:
        fc.plan(net, shape, batch, memory="1 MiB", precision=precision)
    said = re.search(r"the least that works is ([\d.]+ MiB)", str(refused.value))
    assert said
    found = fc.plan(net, shape, batch, memory=said[1], precision=precision)
    assert found.choice.batch == batch


def test_the_least_that_works_in_half_precision_works_there() -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.GroupNorm(1, 16))
    with pytest.raises(fc.FullconvError, match="in bf16") as refused:
        fc.plan(net, (3, 640, 640), batch=2, memory="30 MiB")
    said = re.search(r"is ([\d.]+ MiB), for 2 whole images, or ([\d.]+ MiB)", str(refused.value))
    assert said
    assert fc.plan(net, (3, 640, 640), batch=2, memory=said[1]).choice.batch == 2
    half = fc.plan(net, (3, 640, 640), batch=2, memory=said[2], precision="bf16")
    assert half.choice.batch == 2


def test_a_batch_that_fits_is_named_where_a_larger_one_does_not() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 2, 1)
    )  # fmt: skip
    with pytest.raises(fc.FullconvError, match="for 8 whole images") as refused:
        fc.plan(net, (3, 200, 200), batch=8, memory="130 MiB")
    said = re.search(r"; or take `batch` = (\d+), which fits", str(refused.value))
    assert said
    assert 1 <= int(said[1]) < 8
    found = fc.plan(net, (3, 200, 200), batch=int(said[1]), memory="130 MiB")
    assert found.choice.batch == int(said[1])
    with pytest.raises(fc.FullconvError) as refused:
        fc.plan(net, (3, 200, 200), memory="1 MiB")
    assert "which fits" not in str(refused.value)


def test_amounts_that_are_enough_are_rounded_up() -> None:
    assert [enough(n) for n in (194.01 * 2**20, 10.9801 * 2**20, 8 * 2**30, 12.3)] == [
        "195 MiB",
        "10.99 MiB",
        "8 GiB",
        "13 B",
    ]


def test_what_would_make_it_fit_is_said_where_windows_are_not_exact() -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.GroupNorm(1, 16))
    said = r"the least that works is .*, for one whole image, or .* in bf16; .*`1` \(GroupNorm\)"
    with pytest.raises(fc.FullconvError, match=said):
        fc.plan(net, (3, 640, 640), memory="30 MiB")


def test_a_regime_that_does_not_exist_is_refused(plan: Plan) -> None:
    with pytest.raises(fc.FullconvError, match=r"`name` must be one of whole, .*, got 'other'"):
        plan.regime("other")


def test_amounts_are_written_as_people_do() -> None:
    assert [amount(n) for n in (12, 2048, 3 * 980 * 980 * 4)] == ["12 B", "2 KiB", "10.99 MiB"]
    assert [duration(s) for s in (0.123, 1.5, 150, 8000)] == [
        "0.12 s",
        "1.50 s",
        "2.5 min",
        "2.2 h",
    ]
    assert [count(n) for n in (960_400, 1.234e9)] == ["960,400", "1.23 G"]
    assert [ratio(r) for r in (1.04, 41.2, 168_921)] == ["1.0", "41", "169,000"]


def test_images_that_run_down_the_network_are_planned_as_they_run() -> None:
    net = fc.networks.build("unet", classes=3, norm="none", width=4, depth=3).eval()
    found = fc.plan(net, (3, 2000, 256), memory="66 MiB")
    streamed = found.regime("streamed")
    assert streamed.rows
    step = fc.StepLoss(net, nn.CrossEntropyLoss(reduction="none"), memory=streamed.step_bytes)
    image, target = torch.zeros(3, 2000, 256), torch.zeros(2000, 256, dtype=torch.long)
    assert [w.reads.shape for w in step.cover(image, target)] == [(2000, 256)]
    assert streamed.step_bytes
    assert streamed.peak_bytes <= found.memory
    assert 1.3 < streamed.operations / found.regime("whole").operations < 1.7
    assert f"whole images, {streamed.rows} rows at a time, 1 in a step" in found.recommendation
    assert f"{-(-2000 // streamed.rows)} of {streamed.rows} rows" in str(found)


def test_half_precision_runs_down_images_too() -> None:
    net = fc.networks.build("unet", classes=3, norm="none", width=4, depth=3).eval()
    found = fc.plan(net, (3, 2000, 256), memory="60 MiB", precision="bf16")
    assert found.choice.regime == "streamed"
    assert found.regime("streamed").rows


def test_planning_ends_whatever_the_memory() -> None:
    gauge = Gauge.of("cpu")
    for memory in (2**40, 10**17, 10**34):
        usable = gauge.usable(memory)
        assert gauge.needed(usable) <= memory
        assert gauge.needed(1.000001 * usable + 2) > memory


def test_a_size_that_a_network_does_not_take_is_said_once(
    capfd: pytest.CaptureFixture[str],
) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 56 * 56, 10))
    with pytest.raises(fc.FullconvError, match="`shape`"):
        fc.plan(net, (3, 300, 300), memory="1 GiB")
    assert not capfd.readouterr().err
