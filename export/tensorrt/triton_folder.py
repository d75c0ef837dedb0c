"""Puts a model into a Triton repository: all of its files at once, and never in silence."""

import os
import re
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from vgg_deploy.errors import InputError
from vgg_deploy.exported.onnx_wire import data_files
from vgg_deploy.files import exchange
from vgg_deploy.partial_files import folder_aside, older_files_aside

try:
    import fcntl
except ImportError:  # Windows
    HAS_FCNTL = False
else:
    HAS_FCNTL = True

FICLONE = 0x40049409  # of Linux: share the blocks of another file until one of them is changed
CONFIG, LABELS, VERSION = "config.pbtxt", "labels.txt", "1"
SOURCE_KEY = "vgg_deploy.source_sha256"  # a parameter of config.pbtxt
SOURCE = re.compile(rb'"vgg_deploy\.source_sha256"\s*value\s*\{\s*string_value:\s*"([0-9a-f]*)"')
MOST_CONFIG_BYTES = 2**20
QUEUE_DELAY_US = 2000  # how long a request may wait to be batched with others


def parameter(key: str, value: str) -> str:
    """A parameter of config.pbtxt in protobuf's text format, a line.

    Args:
        key: Its name.
        value: A text of ASCII letters, digits and underscores.
    """
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n'


def source_parameter(digest: str) -> str:
    """The parameter of config.pbtxt that names the net's source."""
    return parameter(SOURCE_KEY, _plain(digest))


def batching(max_batch: int) -> str:
    """The entry of config.pbtxt that makes the server put waiting requests into one batch.

    Args:
        max_batch: Largest batch.
    """
    smaller = {size for size in (4, 8, 16, 32) if size < max_batch}
    sizes = ", ".join(map(str, sorted(smaller | {max_batch})))
    delay = f"max_queue_delay_microseconds: {QUEUE_DELAY_US}"
    return f"dynamic_batching {{ preferred_batch_size: [ {sizes} ], {delay} }}"


def what_it_replaces(folder: Path, digest: str, labels: str) -> str:
    """A sentence about a model that is in the way of another one.

    Args:
        folder: Of the model.
        digest: Hex sha256 of the new model's source.
        labels: The new model's labels.txt; empty if it has none.

    Returns:
        Empty if there is none, or if it is of the same source and has the same labels.
    """
    if not os.path.lexists(folder):
        return ""
    found, old_labels = None, b""
    with suppress(OSError), open(folder / CONFIG, "rb") as file:
        found = SOURCE.search(file.read(MOST_CONFIG_BYTES))
    with suppress(OSError):
        old_labels = (folder / LABELS).read_bytes()
    if old_labels != labels.encode():
        return f"{folder}: has a model with other labels, or none, which will be replaced"
    if not found:
        return f"{folder}: has a model of unknown origin, which will be replaced"
    if found[1] != _plain(digest).encode():
        return f"{folder}: has a model of another net, which will be replaced"
    return ""


def _plain(digest: str) -> str:
    """A digest; nothing if it is something else, as a file of somebody else's may say."""
    return digest if re.fullmatch("[0-9a-f]{64}", digest) else ""


def put_model(folder: Path, texts: Mapping[str, str], files: Mapping[str, Path]) -> None:
    """Write a model's folder, or replace the files of one.

    Everything is written to a hidden folder first. A new model's folder then appears as a whole. In
    an existing one the files are exchanged, and what else is there stays.

    Args:
        folder: Of the model.
        texts: By their path in the folder.
        files: To copy, by their path in the folder. Links are followed.

    Raises:
        InputError: If something cannot be read or written; the folder is as before then.
    """
    target = Path(os.path.realpath(folder))  # Triton follows a link to a model
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with folder_aside(target) as aside:
            staged = aside / target.name
            (staged / VERSION).mkdir(parents=True)
            for name, text in texts.items():
                (staged / name).parent.mkdir(parents=True, exist_ok=True)
                (staged / name).write_text(text, encoding="utf-8")
            for name, source in files.items():
                copy_bytes(source, staged / name)
            for name in (*texts, *files):
                _flush(staged / name)
            if os.path.lexists(target):
                _exchange(target, staged, [*files, *texts])
            else:
                os.replace(staged, target)
    except OSError as error:
        raise InputError(
            f"{folder}: writing failed ({error.strerror or error}); it is as it was before"
        ) from error


def copy_bytes(source: Path, target: Path) -> None:
    """Copy a file's bytes to a new file, with the permissions of a new file.

    The copy shares its blocks with the source where the file system can do that. It is no hard
    link: that would share permissions and edits with the source, and onnx refuses external data
    with one.

    Args:
        source: Any file; a link is followed.
        target: The new file.

    Raises:
        OSError: If it cannot be read or written.
    """
    if sys.platform == "linux" and HAS_FCNTL:
        with open(source, "rb") as read, open(target, "wb") as written, suppress(OSError):
            fcntl.ioctl(written.fileno(), FICLONE, read.fileno())
            return
    shutil.copyfile(source, target)


def _flush(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _exchange(folder: Path, staged: Path, names: list[str]) -> None:
    """Move staged files into an existing folder."""
    renamed = {staged / name: folder / name for name in names}
    for path in renamed.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    leftover = _data_of(folder / VERSION / "model.onnx") - set(renamed.values())
    with older_files_aside(folder) as aside:
        exchange(renamed, tuple(leftover), aside)


def _data_of(graph: Path) -> set[Path]:
    """The files with the weights of an older model."""
    try:
        return set(data_files(graph))
    except InputError:  # no model, or not one of ours
        return set()
