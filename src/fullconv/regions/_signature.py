"""What changes when a file, or a folder of chunks, changes."""

from __future__ import annotations

from pathlib import Path


def signature(path: Path) -> tuple[int, int]:
    """Return the size in bytes and the time of the last change in ns; of a folder, all and newest.

    Raises:
        OSError: If it is not there.
    """
    if not path.is_dir():
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    files = [p.stat() for p in path.rglob("*") if p.is_file()]
    return sum(s.st_size for s in files), max((s.st_mtime_ns for s in files), default=0)
