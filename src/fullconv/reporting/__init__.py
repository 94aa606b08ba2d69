"""The HTML report of a run, and that of a comparison of runs."""

from fullconv.reporting._race import Race, write_race
from fullconv.reporting._record import Record
from fullconv.reporting._report import SECTIONS, write_report
from fullconv.reporting._section import Section
from fullconv.reporting._sight import picture_of

__all__ = [
    "SECTIONS",
    "Race",
    "Record",
    "Section",
    "picture_of",
    "write_race",
    "write_report",
]
