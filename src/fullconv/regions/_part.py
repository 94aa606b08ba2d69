"""An output while it is being written: locked, kept when the process ends, gone when it is finished.

Beside an output ``NAME``, in the folder ``.fullconv``, lie

- ``NAME.part/``: what is done of it, and a plan that says of what; whoever asks for the same output
  again goes on with it
- ``NAME.json``: once it is finished, of what it was made, so that it is known to be done
- ``NAME.lock``: held by the process that writes

Under its own name an output is there whole or not at all.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fullconv.errors import BadOutputError
from fullconv.regions._signature import signature

HOME = ".fullconv"
# A note that a full disk has cut off lacks it, and stands on a line of its own: `1` is not `12`.
END = "."
_BUSY = (errno.EACCES, errno.EAGAIN)


@dataclass(frozen=True, slots=True)
class Part:
    """The unfinished output `target`, in `folder`; made by `part_of`."""

    target: Path
    folder: Path

    @property
    def plan(self) -> dict[str, Any] | None:
        """What is being made, as `begin` was told; None if nothing is."""
        try:
            return dict(json.loads((self.folder / "plan.json").read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None

    def begin(self, plan: Mapping[str, Any]) -> None:
        """Start from nothing, with this plan."""
        self.clear()
        self.folder.mkdir(parents=True)
        _write(self.folder / "plan.json", json.dumps(dict(plan)))

    def done(self) -> set[int]:
        """Return the numbers of the pieces that are done."""
        path = self.folder / "done"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return {int(line[:-1]) for line in lines if line.endswith(END) and line[:-1].isdigit()}

    def note(self, number: int) -> None:
        """Note that a piece is done: everything of it is in its files."""
        with (self.folder / "done").open("ab", buffering=0) as file:
            file.write(f"\n{number}{END}\n".encode())

    def finish(self, files: Mapping[Path, Path], key: str) -> None:
        """Give the finished files their names, `target` last, and forget the rest.

        Args:
            files: Target → where it lies now.
            key: Of what they were made.
        """
        for target, made in sorted(files.items(), key=lambda pair: pair[0] == self.target):
            # What a file has as its signature goes with it when it gets another name.
            _write(record_of(target), json.dumps({"key": key, "signature": signature(made)}))
            _replace(made, target, self.folder / "old")
        self.clear()

    def clear(self) -> None:
        """Forget what is unfinished."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def part_of(target: Path) -> Generator[Part]:
    """Yield the unfinished output of that name, locked for this process.

    Raises:
        BadOutputError: If another process writes it, or the folder cannot be written.
    """
    with telling(target):
        home = target.parent / HOME
        home.mkdir(parents=True, exist_ok=True)
        with _locked(home / f"{target.name}.lock", target):
            yield Part(target, home / f"{target.name}.part")


@contextmanager
def telling(target: Path) -> Generator[None]:
    """Turn what the operating system refuses into an error that says what is kept."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadOutputError(
            f"{target} must be writable, got: {reason}; what was done before is kept, and the same "
            "command goes on with it"
        ) from error


def record_of(target: Path) -> Path:
    """Return the file that says of what a finished output was made."""
    return target.parent / HOME / f"{target.name}.json"


def note_finished(target: Path, key: str) -> None:
    """Note of what an output was made that is there now."""
    path = record_of(target)
    path.parent.mkdir(exist_ok=True)
    _write(path, json.dumps({"key": key, "signature": signature(target)}))


def is_finished(target: Path, key: str) -> bool:
    """Return whether an output is there, made of the same, and was not touched since."""
    try:
        record = json.loads(record_of(target).read_text(encoding="utf-8"))
        return record["key"] == key and record["signature"] == list(signature(target))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _replace(made: Path, target: Path, old: Path) -> None:
    if target.is_dir():  # a folder cannot be replaced in one go
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
    made.replace(target)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


@contextmanager
def _locked(path: Path, target: Path) -> Generator[None]:
    """Hold a lock that the system lets go when the process ends, however it does."""
    import fcntl

    while True:
        number = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(number)
            if error.errno not in _BUSY:
                raise
            raise BadOutputError(
                f"{target} must be written by one process at a time, got another that is at it; wait "
                "for its end, or choose another output"
            ) from None  # it is not the disk that refuses
        # Who held it before may have taken the file away since it was opened here.
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(number).st_ino:
                break
        os.close(number)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(number)
