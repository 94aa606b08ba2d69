"""What was measured and is kept: whole, with the machine it was measured on, and said as it is."""

import json
import re
import runpy
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fullconv.planning._gauge import ERROR, FLOOR, MEASURED_ERROR

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
RESULTS = sorted((BENCHMARKS / "results").glob("*.json"))
PIXELS = 4096**2


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def tables(value: Any) -> Iterator[dict[str, Any]]:
    """Every table in a value, at any depth."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from tables(item)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_says_what_was_measured_where_and_how(path: Path) -> None:
    found = read(path)
    assert list(found) == ["name", "date", "commit", "machine", "versions", "method", "figures"]
    assert found["name"] == path.stem
    # A GPU's results, and those of a CPU of another kind, are kept apart.
    script = path.stem.removesuffix("_cuda").removesuffix("_amx")
    assert (BENCHMARKS / f"{script}.py").exists()
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", found["date"])
    assert re.fullmatch(r"[0-9a-f]{7,}", found["commit"])
    assert found["machine"]["cpu"]
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["load"] >= 0
    assert {"torch", "numpy", "fullconv"} <= found["versions"].keys()
    assert "rounds" in found["method"]


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_has_ratios_within_one_run(path: Path) -> None:
    ratios = [
        ratio
        for table in tables(read(path)["figures"])
        for key, ratio in table.items()
        if "_over_" in key
    ]
    assert ratios
    for ratio in ratios:
        assert list(ratio) == ["median", "min", "max"]
        assert 0 < ratio["min"] <= ratio["median"] <= ratio["max"]


def test_the_readme_says_what_was_measured() -> None:
    text = (ROOT / "README.md").read_text()
    said = re.search(
        r"a 4096 × 4096 image and a CPU: whole, the forward pass takes (?P<whole>[\d.]+) GiB; with a "
        r"`memory`, the network runs down the image some rows at a time, computes nothing twice, and "
        r"takes (?P<rows>[\d.]+) GiB and (?P<time>[\d.]+) of the time, planning included; "
        r"the largest difference of all logits is (?P<difference>\d+)\. "
        r"MONAI's sliding windows \(256 px, overlap 0\.25\) take (?P<monai>[\d.]+) of the time and label "
        r"(?P<labels>[\d,]+) of the (?P<all>[\d.]+) million pixels",
        text,
    )
    assert said
    found = read(BENCHMARKS / "results" / "predict_windows.json")["figures"]["unet"]
    whole = statistics.median(run["extra"] for run in found["whole"]["runs"])
    assert said["whole"] == f"{whole / 2**30:.1f}"
    rows = statistics.median(run["extra"] for run in found["windows"]["runs"])
    assert said["rows"] == f"{rows / 2**30:.2f}"
    assert said["time"] == f"{found['windows']['time_over_whole']['median']:.2f}"
    assert said["monai"] == f"{found['monai']['time_over_whole']['median']:.2f}"
    assert float(said["difference"]) == found["windows"]["largest_difference"]
    assert said["labels"] == f"{found['monai']['labels_changed']:,}"
    assert said["all"] == f"{PIXELS / 1e6:.1f}"


def test_the_docs_say_what_patches_cost() -> None:
    text = (ROOT / "docs" / "units.md").read_text()
    found = read(BENCHMARKS / "results" / "patchwise_vs_whole.json")["figures"]
    ratios = {n: f["forward_backward"]["patches_over_whole"]["median"] for n, f in found.items()}
    assert f"take {ratios['caffenet']:.1f} times as long as one pass" in text
    assert f"(operations say {found['caffenet']['limit']:.2f};" in text
    assert f"128 × 128 px: {ratios['patch63']:.0f} times" in text


def test_the_docs_say_how_much_memory_a_huge_image_takes() -> None:
    text = (ROOT / "docs" / "larger-than-memory.md").read_text()
    found = read(BENCHMARKS / "results" / "larger_than_memory.json")["figures"]["sparse"]
    assert f"took at most {found['peak_over_budget']['max']:.2f} GiB" in text
    assert found["side"] == 100_000
    assert found["budget_bytes"] == 2**30
    assert found["went_on_behind_what_was_done"]
    assert found["peak_over_budget"]["max"] <= 1.05


def test_the_docs_say_what_steps_within_a_memory_cost() -> None:
    text = (ROOT / "docs" / "larger-than-memory.md").read_text()
    found = read(BENCHMARKS / "results" / "larger_than_memory.json")["figures"]["steps"]
    times = {side: one["time_over_whole"]["median"] for side, one in found.items()}
    took = {side: one["extra_over_whole"]["median"] for side, one in found.items()}
    assert f"took {times['4096']:.1f} times as long on 4096" in text
    assert f"in {took['4096']:.2f} of the memory of the plain step, and" in text
    assert f"and {times['2048']:.1f} times on 2048 × 2048 px, in {took['2048']:.2f} of it" in text


def test_the_docs_say_how_training_by_default_raced() -> None:
    text = (ROOT / "docs" / "units.md").read_text()
    figures = read(BENCHMARKS / "results" / "peers.json")["figures"]
    for name, found in figures.items():
        ended = [f"{found['final'][arm]:.3f}" for arm in ("auto", "whole", "crop:4x256", "monai")]
        row = " | ".join([name, *ended, f"{found['auto_minus_best_other']:+.3f}"])
        assert f"| {row} |" in text
        assert found["minutes"] == 1.5
    camvid = figures["camvid"]
    chosen = {run["sampling"] for n in ("cwfid", "camvid") for run in figures[n]["runs"]["auto"]}
    assert chosen == {"crop:4x256"}
    assert f"in {camvid['share_of_time']:.2f} of the time" in text
    assert camvid["quick"]["agreed"]
    seeds = {name: {len(runs) for runs in f["runs"].values()} for name, f in figures.items()}
    assert seeds == {"cwfid": {3}, "camvid": {3}, "isbi2012": {2}}
    finals = [
        [run["final"] for run in runs] for f in figures.values() for runs in f["runs"].values()
    ]
    assert f"differ by up to {max(max(ends) - min(ends) for ends in finals):.2f}" in text


def test_the_docs_say_what_pretraining_buys() -> None:
    text = (ROOT / "docs" / "fcn.md").read_text()
    figures = read(BENCHMARKS / "results" / "pretraining.json")["figures"]
    for name, found in figures.items():
        ended = [f"{found['final'][arm]:.3f}" for arm in ("pretrained", "frozen", "fresh")]
        assert f"| {' | '.join([name, *ended])} |" in text
        assert found["minutes"] == 1
    assert figures["camvid"]["pretrained_over_fresh"]["median"] == pytest.approx(1.5, abs=0.05)
    finals = [[run["final"] for run in runs] for runs in figures["cwfid"]["runs"].values()]
    assert {len(ends) for ends in finals} == {2}
    assert f"(up to {max(max(ends) - min(ends) for ends in finals):.2f})" in text


def test_the_docs_say_what_peers_do_to_a_large_image() -> None:
    text = (ROOT / "docs" / "larger-than-memory.md").read_text()
    found = read(BENCHMARKS / "results" / "larger_than_memory.json")["figures"]
    names = {
        "windows": "`fullconv.predict`",
        "monai": "MONAI",
        "torchio": "TorchIO",
        "tiler": "tiler",
    }
    for key, name in names.items():
        one = found["peers"][key]
        time, extra = (one[f"{what}_over_whole"]["median"] for what in ("time", "extra"))
        said = f" | {time:.2f} | {extra:.2f} | "
        line = next(line for line in text.splitlines() if line.startswith(f"| {name}"))
        assert said in line
        assert line.endswith(f" | {one['labels_changed']:,} |")
        assert float(line.split(" | ")[-2]) == pytest.approx(one["largest_error"], rel=0.35)
    streamed = found["streamed"]["2048"]
    assert f"`fullconv.Streamed` took {streamed['time_over_whole']['median']:.1f} times" in text
    assert f"in {streamed['extra_over_whole']['median']:.2f} of its memory" in text


def test_the_docs_say_what_a_unit_at_every_position_costs() -> None:
    text = (ROOT / "docs" / "classifier-to-map.md").read_text()
    figures = read(BENCHMARKS / "results" / "dense.json")["figures"]
    said: list[str] = []
    for name in ("image", "signal"):
        both = figures[name]["float32_forward_backward"]
        said += [
            f"{both['patches_over_densify']['median']:.0f} times",
            f"(operations say {figures[name]['limit']:.0f})",
            f"{both['better_by_hand_over_densify']['median']:.2f} times",
        ]
    assert re.search(".*".join(map(re.escape, said)), text)


def test_the_docs_say_how_far_plans_are_off() -> None:
    text = (ROOT / "docs" / "plan.md").read_text()
    found = read(BENCHMARKS / "results" / "plan.json")["figures"]["summary"]
    assert f"plans {found['cases']} training steps of {found['networks']} networks" in text
    before, after = (
        [f"{100 * found[key][name]:.1f} %" for name in ("median", "p95", "largest")]
        for key in ("before", "after")
    )
    assert f"off by {before[0]} in the median from rehearsal alone, and by {after[0]}" in text
    assert f"at most {before[1]} and {after[1]}, and by {before[2]} and {after[2]} at worst" in text
    assert found["before"]["p95"] <= ERROR
    assert found["after"]["p95"] <= MEASURED_ERROR
    cases = read(BENCHMARKS / "results" / "plan.json")["figures"]["cases"]
    for case in cases:  # planned, and what is kept free beside it
        assert (1 + case["after"]) * (1 + case.get("reserve", FLOOR)) >= 1
    assert f"torchinfo gives is off by {100 * found['torchinfo']['median']:.1f} %" in text
    assert f"on fake tensors by {100 * found['memtracker']['median']:.1f} %" in text
    assert found["memtracker_over_taken"]["max"] < 1
    for name in {case["network"] for case in cases}:
        errors = (
            [abs(c[key]) for c in cases if c["network"] == name and c[key] is not None]
            for key in ("before", "after", "torchinfo", "memtracker")
        )
        row = (
            f"{100 * statistics.median(e):.1f} (at most {100 * max(e):.1f})" if e else "–"
            for e in errors
        )
        assert f"| {' | '.join([name, *row])} |" in text


def test_the_docs_say_what_planned_steps_took() -> None:
    text = (ROOT / "docs" / "plan.md").read_text()
    found = read(BENCHMARKS / "results" / "fits.json")["figures"]["crashes"]["summary"]
    assert found["failed"] == 0
    use, taken = found["use_of_these"], found["taken_over_planned"]
    for said in (
        f"In the {found['cases']} cases run so far none was above its budget",
        f"{found['refused']} budgets were refused",
        f"{found['of_these_using_enough']} of {found['more_would_have_helped']} plans used 85 %",
        f"and the least {100 * use['min']:.0f} %",
        f"took {taken['min']:.2f} to {taken['max']:.2f} of what was planned",
    ):
        assert said in text


def test_the_docs_say_how_long_finding_the_largest_batch_takes() -> None:
    text = (ROOT / "docs" / "plan.md").read_text()
    *small, large = read(BENCHMARKS / "results" / "fits.json")["figures"]["finders"]["cases"]
    found = large["found"]
    ours = found["plan with small steps"]
    assert large["shape"] == [3, 980, 980]
    for said in (
        f"was {ours['seconds'] / found['lightning power']['seconds']:.2f} of the time of Lightning's",
        (
            f"({found['lightning power']['seconds']:.0f} s; it found {found['lightning power']['images']} images, "
            f"the plan {ours['images']} with its reserve) and "
            f"{ours['seconds'] / found['accelerate']['seconds']:.2f} of that of accelerate's"
        ),
        f"({found['accelerate']['seconds']:.0f} s; it found {found['accelerate']['images']})",
    ):
        assert said in text
    shares = [
        case["found"]["plan with small steps"]["seconds"] / one["seconds"]
        for case in small
        for name, one in case["found"].items()
        if not name.startswith("plan")
    ]
    assert f"it was {min(shares):.1f} to {max(shares):.1f} of their time" in text


def test_the_docs_say_how_far_predicted_seconds_are_off() -> None:
    text = (ROOT / "docs" / "plan.md").read_text()
    figures = read(BENCHMARKS / "results" / "regime_seconds.json")["figures"]
    found, most = figures["summary"], max(abs(row["error"]) for row in figures["cases"])
    for said in (
        f"{found['steps']} kinds of steps of {len({r['network'] for r in figures['cases']})} networks",
        f"off by {100 * found['error']['median']:.0f} % in the median and {100 * most:.0f} % at most",
        (
            f"of {found['order']['pairs']} pairs of regimes whose seconds differ by more than 5 %, "
            f"{found['order']['right']} were predicted in the right order, and "
            f"{found['order']['predicted_alike']} alike"
        ),
    ):
        assert said in text


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux counts the peak")
def test_memory_that_was_given_back_before_is_not_in_the_peak() -> None:
    bench = runpy.run_path(str(BENCHMARKS / "bench.py"))

    def touch(num_mib: int) -> None:
        np.ones(num_mib * 2**20, np.uint8)

    touch(200)
    bench["forget_peak"]()
    before = bench["resident_bytes"]()
    touch(60)
    extra = bench["peak_bytes"]() - before
    assert 55 * 2**20 < extra < 100 * 2**20


def test_the_docs_say_what_the_cheapest_cover_costs() -> None:
    text = (ROOT / "docs" / "units.md").read_text()
    figures = read(BENCHMARKS / "results" / "covers.json")["figures"]
    ratios = {
        name: {case: one["cheapest_over_best"]["median"] for case, one in found["cases"].items()}
        for name, found in figures.items()
    }
    small = ratios.pop("small-field")
    merged = [small.pop(case) for case in ("clustered", "hard")]
    assert f"takes {min(merged):.2f} to {max(merged):.2f} of the time of the better end" in text
    slow = {case: small.pop(case) for case in ("patchwise:1", "patchwise:16", "balanced")}
    said = "1 unit ({patchwise:1:.2f}), 16 units ({patchwise:16:.2f}), and 128"
    for case, ratio in slow.items():
        said = said.replace(f"{{{case}:.2f}}", f"{ratio:.2f}")
    assert said in text
    assert f"balanced over classes ({slow['balanced']:.2f})" in text
    few = [small.pop(c) for c in ("patchwise:4", "patchwise:64", "patchwise:256")]
    few += [small.pop(c) for c in ("sampled:0.0005", "sampled:0.002")]
    assert f"it mostly takes {min(few):.2f} to {max(few):.2f}" in text
    rest = [*small.values(), *(r for cases in ratios.values() for r in cases.values())]
    assert f"({min(rest):.2f} to {max(rest):.2f} of it)" in text
