"""Reaches files behind URLs through fsspec, with errors that name the address."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vgg_deploy.errors import InputError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


class Unreachable(InputError):
    """A store that does not answer; unlike a damaged image it is never skipped."""


def is_url(root: Path | str) -> bool:
    """Whether a data set is named by a URL."""
    return "://" in str(root)


@contextmanager
def reached(url: str) -> Iterator[tuple["AbstractFileSystem", str]]:
    """Find the file system of a URL, and turn its errors in the block into Unreachable.

    It is looked up again each time: fsspec keeps connections, and makes others in a forked process.

    Args:
        url: URL, or path of a local file.

    Yields:
        The file system, and the path of the file there.

    Raises:
        Unreachable: For anything that goes wrong in the store.
    """
    import fsspec  # here: folders do without

    try:
        yield fsspec.url_to_fs(url)
    except InputError:
        raise
    except Exception as error:  # every kind of store has errors of its own
        raise Unreachable(
            f"{url}: cannot be read ({type(error).__name__}: {error}); "
            "check the address and the connection"
        ) from error
