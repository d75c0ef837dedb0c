"""Shows progress with an estimate: a bar on a terminal, a line every few seconds in a log."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from vgg_deploy.printable import printable

LOG_EVERY = 10.0  # seconds between lines where there is no terminal


class PlainConsole(Console):
    """A console that takes texts as they are: brackets are no markup, colons no emoji."""

    def __init__(self, **settings: Any):
        super().__init__(markup=False, emoji=False, highlight=False, soft_wrap=True, **settings)

    def on_broken_pipe(self) -> None:
        """Let the command decide about a closed pipe."""
        raise  # noqa: PLE0704  # rich calls this where it handles the error


console = PlainConsole(stderr=True)


def mute() -> None:
    """Show nothing from now on. Of the processes of a job only one shows the progress of all."""
    global LOG_EVERY
    LOG_EVERY = 1e6
    console.quiet = True


def results() -> Console:
    """Standard output; where it is no terminal, wide enough for every table."""
    return PlainConsole(width=None if sys.stdout.isatty() else 150)


class Bar:
    """One running task. `advance` is cheap enough to call for every image.

    Args:
        label: What is being done.
        total: All of the work, in the unit of `advance`.
        done: The part of it that was done before.
        display: Draws the bar on a terminal; None writes lines to a log.
    """

    def __init__(self, label: str, total: float, done: float, display: Progress | None):
        self.label = printable(label)
        self.total = total
        self.first = self.done = done
        self.note = ""
        self.start = self.last_line = time.monotonic()
        self._display = display
        if display:
            self._task = display.add_task(self.label, total=total, note="")
            display.update(self._task, completed=done)

    def advance(self, by: float = 1, note: str | None = None) -> None:
        """Count finished work.

        Args:
            by: How much more is finished.
            note: A text to show behind the bar; None keeps the last one.
        """
        self.done += by
        if note is not None:
            self.note = printable(note)
        now = time.monotonic()
        if self._display:
            self._display.update(self._task, advance=by, note=self.note)
        elif now - self.last_line >= LOG_EVERY:
            self.last_line = now
            finished = self.done - self.first
            left = (now - self.start) * (self.total - self.done) / finished if finished else 0
            percent = 100 * self.done / self.total
            _log(f"{self.label}  {percent:3.0f} %  {clock(left)} left  {self.note}")

    def extend(self, by: float) -> None:
        """There is more work than was known.

        Args:
            by: How much more.
        """
        self.total += by
        if self._display:
            self._display.update(self._task, total=self.total)


@contextmanager
def progress(label: str, total: float, done: float = 0) -> Iterator[Bar]:
    """Show progress while the block runs.

    Args:
        label: What is being done.
        total: All of the work, in the unit by which the block advances the bar.
        done: The part of it that was done before.

    Yields:
        The bar to advance.
    """
    if not console.is_terminal:
        bar = Bar(label, total, done, None)
        yield bar
        seconds = time.monotonic() - bar.start
        if seconds >= LOG_EVERY:
            _log(f"{label}  done in {clock(seconds)}  {bar.note}")
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console) as display:
        yield Bar(label, total, done, display)


def clock(seconds: float) -> str:
    """A duration as minutes:seconds, or as hours:minutes:seconds.

    Example:
        >>> clock(75), clock(3675)
        ('1:15', '1:01:15')
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


@contextmanager
def elapsed(label: str) -> Iterator[None]:
    """Show how long the block has been running, where its length cannot be estimated.

    Args:
        label: What is being done.
    """
    if console.is_terminal:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console, transient=True) as display:
            display.add_task(printable(label))
            yield
        return
    finished = threading.Event()
    start = time.monotonic()

    def report() -> None:
        while not finished.wait(LOG_EVERY):
            _log(f"{label}  {clock(time.monotonic() - start)} so far")

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        yield
    finally:
        finished.set()
        reporter.join()


def _log(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)
