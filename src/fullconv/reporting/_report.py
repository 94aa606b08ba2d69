"""From a run to its report.

To add a section, write a function from the record to a `Section` (or None where it has nothing to
say) and name it in `SECTIONS`, where it should stand.
"""

from collections.abc import Callable
from pathlib import Path

from fullconv.reporting._classes import classes
from fullconv.reporting._confusion import confusion
from fullconv.reporting._curves import curves
from fullconv.reporting._examples import examples
from fullconv.reporting._frequencies import frequencies
from fullconv.reporting._gather import gather
from fullconv.reporting._memory import memory
from fullconv.reporting._page import page
from fullconv.reporting._record import Record
from fullconv.reporting._results import results, summary, title
from fullconv.reporting._section import Section
from fullconv.reporting._setup import setup, subject
from fullconv.reporting._sight import sight
from fullconv.runs import Run, write_text

SECTIONS: tuple[Callable[[Record], Section | None], ...] = (
    results,
    examples,
    subject,
    curves,
    classes,
    confusion,
    frequencies,
    sight,
    memory,
    setup,
)


def write_report(run: Run) -> Path:
    """Write the report of a run into its folder and return where it lies.

    Args:
        run: A run, finished or stopped early. The held-out images that the report shows are read
            from where the data lay; one that is no longer there is named instead.

    Returns:
        Path of ``report.html``, one file that needs no other.

    Raises:
        BadRunError: If the folder lacks what every run has: configuration, network, data.
    """
    record = gather(run)
    sections = [section for make in SECTIONS if (section := make(record)) is not None]
    text = page(
        title=title(record), summary=summary(record), sections=sections, footer=str(run.path)
    )
    write_text(run.report, text)
    return run.report
