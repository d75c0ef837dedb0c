"""Turns what the system says of names that no file can have into one sentence."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from vgg_deploy.errors import InputError

# What a name itself causes, wherever it is looked up first, and what to do about it
IMPOSSIBLE_NAMES = {
    errno.ENAMETOOLONG: "correct it",
    errno.ELOOP: "correct it",
    errno.EACCES: "check its permissions, and those of the folders above it",
}
MOST_CHARACTERS = 300  # of a name that is shown
NULL = "embedded null"  # begins Python's words for a name with a null character
SURROGATES = "surrogates not allowed"  # ends those for a name that is no Unicode


@contextmanager
def impossible_names_refused() -> Iterator[None]:
    """Refuse a name that no file can have, wherever in the block it is used first.

    Raises:
        InputError: If it is too long, leads in a circle, may not be looked at, or has a character
            that no name has.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in IMPOSSIBLE_NAMES or error.filename is None:
            raise
        reason = os.strerror(error.errno).lower()
        name = os.fsdecode(error.filename)[:MOST_CHARACTERS]
        raise InputError(f"{name}: {reason}", IMPOSSIBLE_NAMES[error.errno]) from None
    except UnicodeEncodeError as error:
        if error.reason != SURROGATES:
            raise
        raise InputError(
            f"{error.object[:MOST_CHARACTERS]!r}: is no name of a file; correct it"
        ) from None
    except ValueError as error:
        if not str(error).startswith(NULL):
            raise
        raise InputError(
            "a name of a file has a null character, which no name can have; correct it"
        ) from None
