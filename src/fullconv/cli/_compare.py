"""`fullconv compare`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from fullconv.cli._settings import flags_of, given
from fullconv.cli._show import output
from fullconv.errors import BadConfigError
from fullconv.training import TrainConfig

if TYPE_CHECKING:
    from fullconv.training import Reading

    Flags = TrainConfig
else:
    Flags = flags_of(TrainConfig, leave_out=["data", "sampling"])


def compare(
    data: Path,
    /,
    *,
    flags: Flags | None = None,
    config: Path | None = None,
    regimes: str | None = None,
    seeds: Annotated[int, Parameter(alias="--runs")] = 1,
    quick: bool = False,
) -> None:
    """Compare patchwise, sampled and whole-image training on your data, by step, image and second.

    All regimes start from the same weights and have the same `--minutes` or `--epochs` each. A
    comparison that was interrupted goes on with the same command.

    Args:
        data: As for `fullconv train`.
        flags: Settings of every run.
        config: YAML file with the names of the flags as keys; flags outdo it.
        regimes: What to compare, as for `fullconv train --sampling`, with commas between. If not
            given, four sub-images of 256 px where images are larger, whole images, and half of their units.
        seeds: Runs of each; with `--quick`, how often to measure, for a mean over as many fresh networks.
        quick: Do not train; measure how much gradient signal each buys per second.
    """
    from fullconv.comparing import compare as compare_regimes
    from fullconv.comparing import fitting, measure
    from fullconv.training import resolve

    named = given(flags) | {"data": data}
    if "out" not in named:
        named["out"] = Path("runs") / f"{data.resolve().stem}-compared"
    settings = resolve(named, config=config)
    given_names = regimes.split(",") if regimes is not None else fitting(settings)
    names = [name.strip() for name in given_names if name.strip()]
    if quick:
        if len(set(names)) < 2 or "auto" in names:
            raise BadConfigError(
                f"`regimes` must be two different ones at least, and none of them auto, got {names}"
            )
        _show(measure(settings, names, seeds=seeds))
        return
    found = compare_regimes(settings, names, seeds=seeds)
    output().print(found.verdict.words)
    output().print(f"report: {found.report}")


def _show(readings: Sequence["Reading"]) -> None:
    """Print what was measured, and which regime buys most."""
    whole = next((r.noise for r in readings if r.regime.name == "whole"), None)
    table = Table("sampling", "s/step", "noise/signal", "within images", "worth/s")
    for one in readings:
        within = "-" if whole is None else f"{max(0.0, one.noise - whole) / one.signal:.2f}"
        ratio = f"{one.noise / one.signal:.2f}"
        table.add_row(one.regime.name, f"{one.seconds:.3f}", ratio, within, f"{one.worth:.3g}")
    best = max(readings, key=lambda one: one.worth)
    output().print(table)
    others = ", ".join(
        f"{best.worth / one.worth:.1f} times {one.regime.name}"
        for one in readings
        if one is not best
    )
    output().print(f"{best.regime.name} buys most gradient signal per second: {others}")
