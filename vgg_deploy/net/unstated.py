"""What a file does not say and only its user knows."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from vgg_deploy.errors import InputError


class Unstated(InputError):
    """A setting that a file leaves open, and for which no safe default exists.

    The core knows no options; a command adds its own with `ways_out`.
    """

    def __init__(self, setting: str, message: str):
        """Args: setting, "classes" or "crop"; message, without the way out."""
        super().__init__(message)
        self.setting = setting


@contextmanager
def ways_out(options: Mapping[str, str]) -> Iterator[None]:
    """Add to an `Unstated` of the block how this command lets the setting be stated.

    Args:
        options: setting -> the end of the sentence, such as "state them with --classes FILE".
    """
    try:
        yield
    except Unstated as error:
        if error.setting not in options:
            raise
        raise InputError(f"{error.message}; {options[error.setting]}") from None
