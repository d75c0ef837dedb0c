"""Writes a large file part by part, so that a later process goes on where one was stopped.

Beside the file that grows lies a record: how many bytes are done, their checksum, and what its user
noted. It is written after the bytes are on the disk. What follows these bytes in the file belongs
to a part that was not finished, and is written again.
"""

import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from vgg_deploy.errors import InputError
from vgg_deploy.files import write_text
from vgg_deploy.json_files import entry, read_json_object
from vgg_deploy.locks import exclusive_lock, waiting_lock
from vgg_deploy.regular_files import is_regular, open_regular

CHUNK = 2**22  # bytes that are read at once
WRONG = "the record"


class GrowingFile:
    """The unfinished form of a file; close it at the end.

    Only one process may have it open, see `only_writer`.

    Attributes:
        path: Of the bytes so far.
        size: Bytes so far.
        steps: Of the work that is done, in the unit of `finish_part`.
        notes: What was noted about the parts that are done, ready for JSON.
        damaged: Whether an earlier process left what cannot be used.
    """

    def __init__(self, final: Path, action: str):
        """Go on with what an earlier process left, if it is intact.

        Args:
            final: The name of the finished file, in an existing folder.
            action: What the user can do about a full disk, for messages.

        Raises:
            InputError: If the folder cannot be written.
        """
        self.final, self.action = final, action
        self.path = final.with_name(f".{final.name}.unfinished")
        self.record = final.with_name(f".{final.name}.unfinished.json")
        self.size, self.steps, self.checksum = 0, 0, 0
        self.notes: list[object] = []
        self.damaged = not self._recall() and os.path.lexists(self.record)
        if os.path.lexists(self.path) and not is_regular(self.path):
            raise InputError(f"{self.path}: is not a regular file; remove it")
        with self._told():
            if self.damaged:
                self.record.unlink()
            mode = "rb+" if self.path.exists() else "wb+"
            self.file = open(self.path, mode)  # noqa: SIM115  # closed by `close`
            self._cut(self.size)

    def begin_anew(self) -> None:
        """Drop all that was done.

        Raises:
            InputError: If the file cannot be written.
        """
        self.size, self.steps, self.checksum, self.notes = 0, 0, 0, []
        with self._told():
            self.record.unlink(missing_ok=True)
            self._cut(0)

    def _cut(self, size: int) -> None:
        self.file.truncate(size)
        self.file.seek(size)

    def write(self, data: bytes | memoryview) -> None:
        """Append to the present part.

        Raises:
            InputError: If the disk is full.
        """
        with self._told():
            self.file.write(data)
        self.size += len(data)
        self.checksum = zlib.crc32(data, self.checksum)

    def finish_part(self, steps: int, notes: Sequence[object]) -> None:
        """Keep what was written so far, whatever happens from now on.

        Args:
            steps: Of the work that the part was, in any unit.
            notes: About the part; `notes` has those of all parts.

        Raises:
            InputError: If the disk is full.
        """
        with self._told():
            self.file.flush()
            os.fsync(self.file.fileno())
        self.steps += steps
        self.notes += notes
        known = {"bytes": self.size, "steps": self.steps, "crc32": self.checksum}
        with self._told():
            write_text(self.record, json.dumps({**known, "notes": self.notes}))

    def close(self) -> None:
        """Close the file. It is removed if no part was finished."""
        with suppress(OSError):  # what no record counts may be lost
            self.file.close()
        if not self.record.exists():
            with suppress(OSError):
                self.path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Give the file its final name.

        Raises:
            InputError: If it cannot be renamed.
        """
        with self._told():
            self.file.close()  # so that Windows can rename it
            os.replace(self.path, self.final)
            self.record.unlink(missing_ok=True)

    def _recall(self) -> bool:
        """Read the record; returns whether there is one and the bytes are as it says."""
        try:
            found = read_json_object(self.record)
            size, steps, checksum = (
                entry(found, key, int, WRONG) for key in ("bytes", "steps", "crc32")
            )
            notes = entry(found, "notes", list, WRONG)
            intact = size >= 0 and steps >= 0 and _checksum(self.path, size) == checksum
        except (InputError, OSError):
            return False
        if intact:
            self.size, self.steps, self.checksum, self.notes = size, steps, checksum, notes
        return intact

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what the system says into one sentence."""
        try:
            yield
        except OSError as error:
            why = f"{self.final}: writing failed ({error.strerror or error})"
            raise InputError(f"{why}; what was finished is kept; {self.action}") from None
        except InputError as error:
            raise InputError(f"{error.what}; what was finished is kept; {self.action}") from None


@contextmanager
def only_writer(final: Path, log: Callable[[str], None]) -> Iterator[bool]:
    """Keep other processes from writing the same file in the block; wait for one that does.

    Args:
        final: The name of the finished file, in an existing folder.
        log: Prints a line.

    Yields:
        Whether it waited: the file may exist by now.

    Raises:
        InputError: If the lock cannot be written.
    """
    lock = final.with_name(f".{final.name}.lock")
    busy = f"{final}: another process writes it"
    with ExitStack() as held:
        waited = False
        try:
            held.enter_context(exclusive_lock(lock, busy))
        except InputError as error:
            if error.what != busy:
                raise
            waited = True
            log(f"{busy}; waiting for its end")
            held.enter_context(waiting_lock(lock))
        yield waited


def _checksum(path: Path, size: int) -> int:
    """CRC-32 of the first bytes of a file.

    Raises:
        OSError: If it has fewer bytes, or cannot be read.
    """
    checksum, left = 0, size
    with open_regular(path) as file:
        while left:
            data = file.read(min(CHUNK, left))
            if not data:
                raise OSError(f"{path}: has fewer bytes")
            checksum = zlib.crc32(data, checksum)
            left -= len(data)
    return checksum
