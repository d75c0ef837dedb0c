"""Progress with an estimate: a bar on a terminal, a line every few seconds in a log."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LOG_EVERY = 10.0  # seconds between lines where there is no terminal

console = Console(stderr=True, highlight=False, soft_wrap=True)


def mute() -> None:
    """Show nothing from now on: of the processes of a job one shows how far all are."""
    global LOG_EVERY
    LOG_EVERY = 1e6
    console.quiet = True


def results() -> Console:
    """Standard output; where it is no terminal, wide enough for every table."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 150)


class Bar:
    """One running task. `advance` is cheap enough to call for every image."""

    def __init__(self, label: str, total: float, shown: Progress | None):
        self.label, self.total, self.done, self.note = label, total, 0.0, ""
        self.shown = shown
        self.task = shown.add_task(label, total=total, note="") if shown else None
        self.start = self.last = time.monotonic()

    def advance(self, by: float = 1, note: str | None = None) -> None:
        self.done += by
        self.note = self.note if note is None else note
        now = time.monotonic()
        if self.shown:
            self.shown.update(self.task, advance=by, note=self.note)
        elif now - self.last >= LOG_EVERY:
            self.last = now
            left = (now - self.start) * (self.total / self.done - 1) if self.done else 0
            print(
                f"{self.label}  {100 * self.done / self.total:3.0f} %  {clock(left)} left  {self.note}",
                file=sys.stderr,
                flush=True,
            )


@contextmanager
def progress(label: str, total: float, begun: float = 0) -> Iterator[Bar]:
    """Show `label` while the block runs; `total` is in whatever unit the block advances by, `begun` is done already."""
    if not console.is_terminal:
        bar = Bar(label, total, None)
        bar.done = begun
        yield bar
        seconds = time.monotonic() - bar.start
        if seconds >= LOG_EVERY:
            print(f"{label}  done in {clock(seconds)}  {bar.note}", file=sys.stderr, flush=True)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as shown:
        bar = Bar(label, total, shown)
        bar.done = begun
        shown.update(bar.task, completed=begun)
        yield bar


def clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return (
        f"{minutes}:{seconds:02d}"
        if minutes < 60
        else f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
    )


@contextmanager
def elapsed(label: str) -> Iterator[None]:
    """Show how long the block has been running, where nobody can say how long it will."""
    if console.is_terminal:
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        ) as shown:
            shown.add_task(label)
            yield
        return
    done, begun = threading.Event(), time.monotonic()

    def tell() -> None:
        while not done.wait(LOG_EVERY):
            print(f"{label}  {clock(time.monotonic() - begun)} so far", file=sys.stderr, flush=True)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
