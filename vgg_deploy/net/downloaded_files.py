"""Downloads files of weights by torch.hub, and checks the digests that their names carry."""

import contextlib
import hashlib
import re
import socket
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import HTTPError
from urllib.parse import SplitResult, unquote, urlsplit

from vgg_deploy.cache import cache_folder
from vgg_deploy.errors import InputError
from vgg_deploy.files import sha256
from vgg_deploy.net.torch_files import TORCH_SUFFIXES
from vgg_deploy.net.weights_suffixes import WEIGHTS_SUFFIXES
from vgg_deploy.progress import elapsed

# torch.hub's convention: name-<first digits of the sha256>.suffix. A date is no digest
DATE = r"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])"
DIGEST = re.compile(rf"-(?!{DATE}\.)([0-9a-f]{{8,64}})\.")
STATED_DIGEST = re.compile(r"sha256=([0-9a-f]{8,64})")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
PATIENCE = 60.0  # seconds that a server may be silent


def digest_in(name: str) -> str:
    """The first digits of a file's sha256 that its name carries; empty without any.

    Example:
        >>> digest_in("vgg16-397923af.pth"), digest_in("vgg16-20260101.pth")
        ('397923af', '')
    """
    found = DIGEST.search(name)
    return found[1] if found else ""


def matches_digest(path: Path, digest: str) -> bool:
    """Whether a file's sha256 begins with these digits. The whole file is read, once a run."""
    state = path.stat()
    return _sha256_of(path, state.st_size, state.st_mtime_ns).startswith(digest)


@lru_cache(maxsize=64)
def _sha256_of(path: Path, size: int, modified: int) -> str:
    """Of a file in this state."""
    return sha256(path)


def check_digest(path: Path, digest: str, given: str) -> None:
    """Refuse a cached file that is not the one that was published.

    Args:
        path: The file.
        digest: First digits of its sha256; empty if none are known.
        given: What the user asked for.

    Raises:
        InputError: If the file is another one, or cannot be read.
    """
    if not digest:
        return
    try:
        matches = matches_digest(path, digest)
    except OSError as error:
        raise InputError(
            f"{given}: {path} cannot be read ({error.strerror}); check its permissions"
        ) from None
    if not matches:
        raise InputError(
            f"{given}: {path} is damaged or another file, its sha256 does not begin with {digest}; "
            "remove it, so that it is downloaded again"
        )


def downloaded(given: str) -> Path:
    """The file of an address, in this project's cache; it is downloaded only once.

    A file gets its name in the cache when its digest is right, and its weights could be read.

    Args:
        given: https://HOST/FILE, or with the first digits of its sha256
            https://HOST/FILE#sha256=DIGEST. http:// only from this machine itself.

    Raises:
        InputError: For an address of another form, or a file that cannot be downloaded or read.
    """
    parts = _parsed(given)
    name = unquote(Path(parts.path).name)
    address = parts._replace(fragment="").geturl()
    digest = _stated_digest(given, parts) or digest_in(name)
    folder = cache_folder() / "weights" / hashlib.sha256(address.encode()).hexdigest()[:16]
    path = folder / name
    if path.is_file():
        check_digest(path, digest, given)
        return path
    _make(folder, given)
    try:
        with TemporaryDirectory(prefix=".partial-", dir=folder) as partial:
            whole = Path(partial) / name
            fetch(given, address, whole, digest, path)
            _check_readable(whole, given)
            whole.replace(path)
    except OSError as error:
        raise InputError(
            f"{given}: cannot be downloaded to {folder} ({error.strerror}); make it writable"
        ) from None
    return path


def fetch(given: str, address: str, path: Path, digest: str, final: Path | None = None) -> None:
    """Download a file by torch.hub, which gives it its name when it is complete.

    Args:
        given: What the user asked for.
        address: Of the file.
        path: Where to.
        digest: First digits of its sha256; empty if none are known.
        final: Where a user could put the file; `path` by default.

    Raises:
        InputError: If it cannot be downloaded; the message says which file to put where.
    """
    import torch

    _make(path.parent, given)
    try:
        with shown_in_logs(f"downloading {address}"), _patience():
            torch.hub.download_url_to_file(
                address, str(path), digest or None, progress=sys.stderr.isatty()
            )
    except RuntimeError as error:
        if "invalid hash" not in str(error):
            raise
        raise InputError(
            f"{given}: what {address} sends is damaged or another file, its sha256 does not begin "
            f"with {digest}; try again, or take the file from elsewhere and put it at "
            f"{final or path}"
        ) from None
    except (OSError, ValueError) as error:  # of the network: URLError, HTTPError, timeouts
        reason = getattr(error, "reason", error)
        if isinstance(error, HTTPError):  # which holds the connection
            reason = str(error)
            error.close()
        raise InputError(
            f"{given}: cannot be downloaded ({reason}); put the file {address} at {final or path}"
        ) from None


@contextlib.contextmanager
def shown_in_logs(label: str) -> Iterator[None]:
    """Show that a download goes on where there is no terminal; on one, loaders draw a bar."""
    with contextlib.nullcontext() if sys.stderr.isatty() else elapsed(label):
        yield


def _parsed(given: str) -> SplitResult:
    try:
        parts = urlsplit(given)
        host = parts.hostname
    except ValueError as error:
        raise InputError(f"{given}: is no address ({error}); write https://HOST/FILE") from None
    if parts.scheme == "http" and host not in LOOPBACK:
        raise InputError(
            f"{given}: anyone on the way can change what http:// sends; write https://"
        )
    if not host or Path(parts.path).suffix not in WEIGHTS_SUFFIXES:
        raise InputError(
            f"{given}: names no file of weights; an address ends in one of "
            f"{', '.join(WEIGHTS_SUFFIXES)}"
        )
    if "/" in unquote(Path(parts.path).name) or "\0" in unquote(parts.path):
        raise InputError(f"{given}: its file name cannot be used; download the file yourself")
    return parts


def _stated_digest(given: str, parts: SplitResult) -> str:
    if not parts.fragment:
        return ""
    stated = STATED_DIGEST.fullmatch(parts.fragment)
    if not stated:
        raise InputError(
            f"{given}: #{parts.fragment} is no digest; write #sha256= and at least 8 of its hex "
            "digits, in lower case"
        )
    return stated[1]


def _check_readable(path: Path, given: str) -> None:
    """Read a downloaded file, which a broken connection may have cut.

    Raises:
        InputError: If it cannot be read.
    """
    # here, because most runs download nothing, and these import PyTorch
    from vgg_deploy.net.checkpoint import is_checkpoint_file, load_checkpoint
    from vgg_deploy.net.foreign_files import open_tensors

    try:
        if path.suffix in TORCH_SUFFIXES and is_checkpoint_file(path):
            load_checkpoint(path)
        else:
            open_tensors(path)
    except InputError as error:
        message = error.message.removeprefix(f"{path}: ")
        raise InputError(f"{given}: was downloaded, but {message}") from None


def _make(folder: Path, given: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{given}: cannot be downloaded to {folder} ({error.strerror}); make it writable"
        ) from None


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """Give up on a server that is silent; torch.hub waits forever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
