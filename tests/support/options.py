"""The options of a command line."""

import shlex


def options(line: str) -> list[str]:
    """The arguments of a command line, as a shell splits them."""
    return shlex.split(line)
