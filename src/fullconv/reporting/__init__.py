"""The HTML report of a run."""

from fullconv.reporting._record import Record
from fullconv.reporting._report import SECTIONS, write_report
from fullconv.reporting._section import Section
from fullconv.reporting._sight import picture_of

__all__ = ["SECTIONS", "Record", "Section", "picture_of", "write_report"]
