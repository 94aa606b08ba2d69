"""What commands print: results to standard output, progress and notes to standard error."""

from collections.abc import Mapping
from math import isnan
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from fullconv.cli._status import DONE, INTERRUPTED

if TYPE_CHECKING:
    from fullconv.runs import Run

METRICS = {
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "mean_iu": "mean IU",
    "fw_iu": "f.w. IU",
}


def output() -> Console:
    """Return the console for results."""
    return Console(highlight=False, soft_wrap=True)


def progress_console() -> Console:
    """Return the console for progress."""
    return Console(stderr=True, highlight=False)


def show_run(run: "Run") -> int:
    """Print how a run ended, and return the exit status that says the same."""
    finished = run.about()["finished"]
    if not finished:
        output().print(f"stopped by Ctrl-C; go on with: fullconv train --resume {run.path}")
    elif run.evaluation_json.exists():
        show_scores(run.evaluation())
    output().print(f"report: {run.report}")
    return DONE if finished else INTERRUPTED


def show_scores(evaluation: Mapping[str, Any]) -> None:
    """Print the metrics of an evaluation beside those of the majority class, and IU by class."""
    count = len(evaluation["images"])
    title = f"{count} {'image' if count == 1 else 'images'} ({evaluation['split']})"
    scores = Table("metric", "network", "majority class", title=title)
    for key, name in METRICS.items():
        scores.add_row(name, _share(evaluation[key]), _share(evaluation["baseline"][key]))
    classes = Table("class", "IU")
    for name, iu in evaluation["iu"].items():
        classes.add_row(name, _share(iu))
    output().print(scores, classes)


def _share(value: float | None) -> str:
    """Return a share between 0 and 1; a dash for one that does not exist (None or NaN)."""
    return "-" if value is None or isnan(value) else f"{value:.3f}"
