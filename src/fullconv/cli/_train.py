"""`fullconv train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from fullconv.cli._settings import flags_of, given
from fullconv.cli._show import show_run
from fullconv.training import TrainConfig

if TYPE_CHECKING:
    Flags = TrainConfig
else:
    Flags = flags_of(TrainConfig, leave_out=["data"])


def train(
    data: Annotated[Path | None, Parameter(show_default=False)] = None,
    /,
    *,
    flags: Flags | None = None,
    config: Path | None = None,
    resume: Path | None = None,
) -> int:
    """Train a network on images of any size, evaluate it on those held out, and write a report.

    Ctrl-C ends the training cleanly; the run so far can be used, and resumed.

    Args:
        data: A folder with `images/` and `masks/` (matched by stem), or with `train/`, `val/` and
            `test/` that hold those, or a CSV file of pairs.
        flags: Settings of the run.
        config: YAML file with the names of the flags as keys; flags outdo it.
        resume: Folder of a run to go on with: to its end, its evaluation included, or for more
            `--minutes` or `--epochs` in all.
    """
    from fullconv.reporting import write_report
    from fullconv.training import resolve
    from fullconv.training import train as train_run

    named = given(flags) | ({"data": data} if data else {})
    settings = resolve(named, config=config, resume=resume)
    run = train_run(settings, resume=resume)
    write_report(run)
    return show_run(run)
