"""Defines the errors of this package, which are plain exceptions.

An error says what is wrong and where, and gives a hint what to do about it. The core does not know
the options of any command. A command that has an option for the purpose replaces the hint by its
own with `hints`. `vgg_deploy.command_line` shows errors to users.
"""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from vgg_deploy.printable import printable

MOST_CHARACTERS = 4000  # of a sentence: names come from files, and may be of any length


class VGGDeployError(Exception):
    """Base of all errors that are raised on purpose.

    Attributes:
        what: What is wrong and where: the file, folder or value by its name.
        hint: What to do about it; empty if `what` says it already.
        about: The setting that a command may have an option for, such as "data" or "threads".
        details: Lines of our own that are shown below the sentence, such as a table.
        exit_code: Of a command that ends with this error.
    """

    exit_code = 1
    details = ""

    def __init__(self, what: str, hint: str = "", about: str = ""):
        super().__init__(what, hint, about)
        self.what = what
        self.hint = hint
        self.about = about

    @property
    def message(self) -> str:
        """The whole sentence on one line, whatever names it has; a long one without its middle."""
        sentence = f"{self.what}; {self.hint}" if self.hint else self.what
        if len(sentence) > MOST_CHARACTERS:
            half = MOST_CHARACTERS // 2
            sentence = f"{sentence[:half]} [...] {sentence[-half:]}"
        return printable(sentence)

    def __str__(self) -> str:
        return self.message


class InputError(VGGDeployError):
    """A file, a folder or a value that cannot be used."""

    exit_code = 2


class UnreadableImage(InputError):
    """An image file that cannot be used."""

    def __init__(self, what: str):
        super().__init__(what, "remove it", "unreadable")
        self.args = (what,)  # what pickle calls this class with


class CheckFailed(VGGDeployError):
    """The inputs were fine, but a result is not good enough (parity, accuracy)."""


class Undecided(VGGDeployError):
    """The inputs were fine, but they do not suffice for a verdict."""

    exit_code = 3


class Stopped(KeyboardInterrupt):
    """A signal that ends the command, raised where it arrived, as Python does for Ctrl-C.

    Attributes:
        signum: Its number.
    """

    def __init__(self, signum: int):
        super().__init__(signum)
        self.signum = signum


class Interrupted(VGGDeployError):
    """Ctrl-C or a scheduler's SIGTERM. The exit code is the shell's own: 128 and the signal."""

    def __init__(self, what: str, signum: int = signal.SIGINT):
        super().__init__(what)
        self.args = (what, signum)  # what pickle calls this class with
        self.exit_code = 128 + signum


@contextmanager
def hints(by_setting: Mapping[str, str]) -> Iterator[None]:
    """Replace the hints of errors that leave the block, by the setting that they are about.

    Args:
        by_setting: What to do about an error, by its `about`.

    Example:
        >>> with hints({"data": "check its name"}):
        ...     raise InputError("photos: cannot be listed", "check the folder", "data")
        Traceback (most recent call last):
        vgg_deploy.errors.InputError: photos: cannot be listed; check its name
    """
    try:
        yield
    except VGGDeployError as error:
        error.hint = by_setting.get(error.about, error.hint)
        raise


@contextmanager
def interruptible(kept: str) -> Iterator[None]:
    """Turn Ctrl-C, and `Stopped`, in the block into an error.

    Args:
        kept: What was saved until then, as the end of the sentence.

    Raises:
        Interrupted: After Ctrl-C or another signal.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        raise interrupted(stop, kept) from None


def interrupted(stop: KeyboardInterrupt, kept: str) -> Interrupted:
    """The error that a signal becomes.

    Args:
        stop: What the signal raised.
        kept: As of `interruptible`.
    """
    signum = stop.signum if isinstance(stop, Stopped) else signal.SIGINT
    how = "interrupted" if signum == signal.SIGINT else f"stopped by {signal.Signals(signum).name}"
    return Interrupted(f"{how}; {kept}", signum)
