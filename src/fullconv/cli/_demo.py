"""`fullconv demo`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fullconv.cli._show import show_run


def demo(
    *,
    out: Path = Path("runs/demo"),
    seed: int = 0,
    minutes: Annotated[float | None, Parameter(show_default=False)] = None,
) -> int:
    """Train, evaluate and report on images that are made here from real digits and photographs.

    Nothing is downloaded. It takes about 3 minutes on 2 cores and ends with the path of a report.

    Args:
        out: Folder of the run; an earlier demo there is replaced. The images go beside it.
        seed: Seed of images, weights and order.
        minutes: Time for learning; about 2 if not given.
    """
    from fullconv.demo import run_demo

    if minutes is None:
        return show_run(run_demo(out, seed=seed))
    return show_run(run_demo(out, seed=seed, minutes=minutes))
