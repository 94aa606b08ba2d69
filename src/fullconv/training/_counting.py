"""A bar in the terminal for work that is counted; it imports no training engine."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def counting(console: Console, what: str) -> Generator[Callable[[int, int], None]]:
    """Yield a function that shows (done, of all) on a bar; nothing where it is no terminal."""
    with Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task(what, total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield show


@contextmanager
def measuring(
    console: Console, what: str
) -> Generator[tuple[Callable[[int, int], None], Callable[[int, int], None]]]:
    """Yield functions that show images (done, of all), and the px of one image likewise, with their rate."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[told]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        images = progress.add_task(what, total=None, told="")
        pixels = progress.add_task("this image", total=None, told="", visible=False)
        rate = Rate()

        def show_images(done: int, total: int) -> None:
            progress.update(images, completed=done, total=total, told=f"{done}/{total} images")
            progress.update(pixels, visible=False)
            rate.forget()

        def show_px(done: int, total: int) -> None:
            told = f"{done / 1e6:.1f}/{total / 1e6:.1f} Mpx, {rate(done) / 1e6:.2f} Mpx/s"
            if rate.fresh:  # what was done before is no measure of speed
                progress.reset(pixels, completed=done, total=total, visible=True, told=told)
            progress.update(pixels, completed=done, total=total, visible=True, told=told)

        yield show_images, show_px


class Rate:
    """Counts per second since counting began."""

    def __init__(self) -> None:
        self._start: tuple[int, float] | None = None
        self.fresh = True

    def forget(self) -> None:
        """Begin anew with the next count."""
        self._start = None

    def __call__(self, done: int) -> float:
        """Return the counts per second up to now; 0 for the first one."""
        now = time.monotonic()
        self.fresh = self._start is None
        if self._start is None:
            self._start = done, now
        first, start = self._start
        return (done - first) / max(now - start, 1e-9)
