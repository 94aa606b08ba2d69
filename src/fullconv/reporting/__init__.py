"""The HTML report of a run."""

from fullconv.reporting._record import Record
from fullconv.reporting._report import SECTIONS, write_report
from fullconv.reporting._section import Section

__all__ = ["SECTIONS", "Record", "Section", "write_report"]
