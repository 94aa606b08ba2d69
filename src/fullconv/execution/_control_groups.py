"""What the control groups of a process leave it of the memory, on Linux.

A process is in a group, that in another one, and so on; each may have a limit. They lie as folders
below `/sys/fs/cgroup`: in one tree (version 2), or in one for memory (version 1). In a container the
group's own folder may be out of sight, and that of the container is the root.
Source: Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class _Names:
    """What a version calls its limit, what is used, and what of that is given up when it is needed."""

    limit: str
    used: str
    cached: str


_ONE = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_TWO = _Names("memory.max", "memory.current", "inactive_file")


def left_by_groups(root: Path = ROOT, own: Path = OWN) -> int | None:
    """Return the bytes that the strictest group of this process leaves; None where none has a limit.

    Pages of files that were read and not needed since count as free: they are given up first.

    Args:
        root: Where groups lie.
        own: The file that names those of the process.
    """
    rooms = [
        room for names, folder in _groups(root, own) if (room := _room(names, folder)) is not None
    ]
    return max(0, min(rooms)) if rooms else None


def _groups(root: Path, own: Path) -> Iterator[tuple[_Names, Path]]:
    """Yield the folders of the groups of the process, from its own to the root's."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, group = line.split(":", 2)
        if not kinds:
            homes, names = (root, root / "unified"), _TWO
        elif "memory" in kinds.split(","):
            homes, names = (root / "memory", root / kinds), _ONE
        else:
            continue
        path = PurePosixPath(group.lstrip("/"))
        for home in dict.fromkeys(homes):
            for part in dict.fromkeys((path, *path.parents)):
                yield names, home / part


def _room(names: _Names, folder: Path) -> int | None:
    """Return the bytes that one group leaves; None if it has no limit."""
    limit, used = _number(folder / names.limit), _number(folder / names.used)
    if limit is None:
        return None
    return limit - max(0, (used or 0) - _cached(folder / "memory.stat", names.cached))


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _cached(path: Path, name: str) -> int:
    try:
        rows = dict(line.split(" ", 1) for line in path.read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(rows.get(name, 0))
