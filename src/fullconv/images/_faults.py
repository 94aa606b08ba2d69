"""What is wrong with a file, and how all of it is told at once."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fullconv.errors import BadDataError

NUM_LISTED = 20


class BrokenRuleError(ValueError):
    """A rule that a file breaks. Whoever knows the file adds its name."""


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Fault:
    """One rule that one file breaks."""

    path: Path
    rule: str


def bad_file(path: Path, rule: object) -> BadDataError:
    """Return the error for a single file."""
    return BadDataError(f"{path}: {rule}")


def bad_data(root: Path, faults: Iterable[Fault]) -> BadDataError:
    """Return the error that lists every fault under `root`: the first 20 by name, then a count."""
    found = sorted(set(faults))
    num_files = len({fault.path for fault in found})
    files = plural(num_files, "file")
    lines = [f"`data` must hold readable pairs of image and mask, got {files} to mend in {root}:"]
    lines += [f"  {_below(fault.path, root)}: {fault.rule}" for fault in found[:NUM_LISTED]]
    if len(found) > NUM_LISTED:
        lines.append(f"  … and {len(found) - NUM_LISTED} more")
    return BadDataError("\n".join(lines))


def plural(count: int, noun: str) -> str:
    """Return a count with its noun.

    Examples:
        >>> plural(1, "file"), plural(3, "file")
        ('1 file', '3 files')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _below(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path
