"""The two ways a command ends badly; click prints the message and exits with the code, without a traceback."""

from click import ClickException


class InputError(ClickException):
    """A file, folder or option that cannot be used. The message names it and says what to do."""

    exit_code = 2


class CheckFailed(ClickException):
    """The inputs were fine, but a result is not good enough (parity, accuracy)."""

    exit_code = 1
