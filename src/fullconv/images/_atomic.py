"""Files that are there whole, or not at all."""

from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
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
        reason = error.strerror or str(error)
        raise BadOutputError(f"{path} must be writable, got: {reason}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
