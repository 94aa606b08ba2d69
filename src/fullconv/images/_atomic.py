"""Files that are there whole, or not at all; and whether they can be, before what they hold is computed."""

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from uuid import uuid4

from fullconv.errors import BadOutputError


@contextmanager
def atomic(path: Path) -> Generator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` if all goes well.

    Folders above `path` are made. If anything fails, the temporary file is removed and what was at
    `path` before stays.

    Raises:
        BadOutputError: If the operating system refuses: no right to write, disk full.

    Examples:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "a" / "b.txt"
        >>> with atomic(target) as temporary:
        ...     _ = temporary.write_text("all or nothing")
        >>> [p.name for p in target.parent.iterdir()]
        ['b.txt']
    """
    path = Path(path)
    temporary = path.with_name(f".fullconv-{uuid4().hex}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_file(path: Path) -> None:
    """Refuse a file that could not be written; nothing is left behind, and no folder made.

    Raises:
        BadOutputError: If a folder lies there, or the one that it belongs into cannot be written.
    """
    if path.is_dir():
        raise _unwritable(path, OSError(errno.EISDIR, os.strerror(errno.EISDIR)))
    check_folder(path.parent)


def check_folder(folder: Path) -> None:
    """Refuse a folder in which no files could be written, or that could not be made for them.

    Raises:
        BadOutputError: If the operating system refuses.
    """
    try:
        there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
        with TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(path: Path, error: OSError) -> BadOutputError:
    return BadOutputError(f"{path} must be writable, got: {error.strerror or error}")
