"""Keeps the traceback of a fault of this program in a file, for a report."""

import os
import stat
import sys
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path

from vgg_deploy.printable import printable

EXIT_CODE = 70  # of sysexits.h: an internal fault
MOST_BYTES = 64 * 2**10  # of one file
KEPT = 20  # files
FOLDER = "faults"
SUFFIX = ".txt"
MOST_CHARACTERS = 300  # of the sentence's own reason


def fault_sentence(error: BaseException, version: str) -> str:
    """Write the traceback to a file, and say what happened and where the file is.

    Args:
        error: Any exception that nobody expected.
        version: Of this package, for the file.

    Returns:
        One line. Where no file can be written the traceback follows it, line by line.
    """
    words = printable(f"{type(error).__name__}: {error}")[:MOST_CHARACTERS]
    sentence = f"a fault of this program ({words}); please report it"
    text = "".join(traceback.format_exception(error))
    try:
        path = _write(text, version)
    except OSError:
        shown = "\n".join(printable(line) for line in text.splitlines())
        return f"{sentence}, with this traceback, which could not be written to a file\n{shown}"
    return f"{sentence}, with the file {printable(str(path))}"


def _write(text: str, version: str) -> Path:
    """Write the file to the first folder that takes it.

    Raises:
        OSError: If none does.
    """
    told = f"vgg-deploy {version}, Python {sys.version}\n{sys.argv}\n\n{text}"
    content = told.encode("utf-8", "backslashreplace")
    if len(content) > MOST_BYTES:
        half = MOST_BYTES // 2 - 10
        content = content[:half] + b"\n[...]\n" + content[-half:]
    stem = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}-"
    why = OSError("no folder")
    for folder in _folders():
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _refuse_others(folder)
            handle, name = tempfile.mkstemp(SUFFIX, stem, folder)
            with open(handle, "wb") as file:
                file.write(content)
        except OSError as error:
            why = error
            continue
        _leave_newest(folder)
        return Path(name)
    raise why


def _folders() -> list[Path]:
    """That of the cache, and one for temporary files."""
    folders = []
    if own := os.environ.get("VGG_DEPLOY_CACHE"):
        folders.append(Path(own) / FOLDER)
    elif users := os.environ.get("XDG_CACHE_HOME"):
        folders.append(Path(users) / "vgg-deploy" / FOLDER)
    else:
        home = Path(os.path.expanduser("~"))
        if home.is_absolute():  # it stays "~" for a user without a home folder
            folders.append(home / ".cache" / "vgg-deploy" / FOLDER)
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return [*folders, Path(tempfile.gettempdir()) / f"vgg-deploy-{FOLDER}-{user}"]


def _refuse_others(folder: Path) -> None:
    """Among temporary files anybody may have put a folder, or a link, of this name.

    Raises:
        OSError: If the folder is a link or another user's.
    """
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(folder)
    if hasattr(os, "getuid") and found.st_uid != os.getuid():
        raise PermissionError(folder)


def _leave_newest(folder: Path) -> None:
    """Remove all but the newest files; their names begin with the time."""
    for path in sorted(folder.glob(f"*{SUFFIX}"))[:-KEPT]:
        path.unlink(missing_ok=True)
