"""Prints what a training command reports."""

from vgg_deploy.printable import printable
from vgg_deploy.progress import PlainConsole

_console = PlainConsole()


def log(text: str) -> None:
    """Print a line to standard output."""
    _console.print(printable(text))
