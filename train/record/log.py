"""Prints what a training command reports."""

from rich.console import Console

_console = Console(highlight=False, soft_wrap=True)


def log(text: str) -> None:
    """Print a line to standard output."""
    _console.print(text)
