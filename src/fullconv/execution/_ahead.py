"""Reading ahead of the computing, and writing behind it, one thread each."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")
U = TypeVar("U")


def ahead(items: Iterable[T], load: Callable[[T], U]) -> Generator[tuple[T, U]]:
    """Yield each item with what `load` makes of it, the next one being loaded meanwhile.

    At most two loads are in memory: the one that was yielded, if it is kept, and the next. What a load
    raises is raised when its turn has come.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        waiting: tuple[T, Future[U]] | None = None
        for item in items:
            coming = item, pool.submit(load, item)
            if waiting is not None:
                yield waiting[0], waiting[1].result()
            waiting = coming
        if waiting is not None:
            yield waiting[0], waiting[1].result()


class Behind:
    """Runs functions in order in another thread; at most one waits while another one runs.

    What one raises is raised by the next call, or at the end.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="behind")
        self._last: Future[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Run a function when those before it are done; wait until they are."""
        self.wait()
        self._last = self._pool.submit(function, *arguments)

    def wait(self) -> None:
        """Wait for what was given."""
        if self._last is not None:
            last, self._last = self._last, None
            last.result()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.wait()
        finally:
            self._pool.shutdown()
