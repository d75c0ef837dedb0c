"""Lets the n-th write of a process fail as on a full disk.

    python -m tests.support.nth_write N FOLDER COUNT MODULE [ARGUMENT ...]

runs MODULE as `python -m` does. Writes are counted from 1 below FOLDER: a file opened for writing,
bytes that Python hands to the system, fsync, mkdir and rename. The N-th raises ENOSPC once; with 0
none does. The file COUNT gets the number of writes at the end. Writes by C++ code are not seen,
except that Python opens the file for it. Worker processes that are forked count by themselves.
"""

import atexit
import builtins
import errno
import io
import os
import runpy
import sys
from pathlib import Path

WRITING = os.O_WRONLY | os.O_RDWR


class FullDisk:
    """Counts writes below a folder and refuses one of them.

    Attributes:
        count: Writes so far.
    """

    def __init__(self, nth: int, folder: Path):
        """Choose the write that fails.

        Args:
            nth: Its number, from 1; 0 for none.
            folder: Only what lies below it is counted.
        """
        self.nth, self.folder = nth, os.path.realpath(folder) + os.sep
        self.count = 0

    def install(self) -> None:
        """Count from now on. A process cannot take this back."""
        sys.addaudithook(self._audit)
        builtins.open = io.open = self._open
        fsync = os.fsync

        def counted_fsync(file) -> None:
            number = file if isinstance(file, int) else file.fileno()
            self._write(os.readlink(f"/proc/self/fd/{number}"))
            fsync(file)

        os.fsync = counted_fsync

    def _audit(self, event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & WRITING:
                self._write(path)
        elif event == "os.mkdir" and not os.path.isdir(arguments[0]):
            self._write(arguments[0])
        elif event == "os.rename":  # os.replace too
            self._write(arguments[1])

    def _write(self, path: object) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return  # a descriptor: its file was counted when it was opened
        if not os.path.abspath(os.fsdecode(path)).startswith(self.folder):
            return
        self.count += 1
        if self.count == self.nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fsdecode(path))

    def _open(
        self,
        file,
        mode="r",
        buffering=-1,
        encoding=None,
        errors=None,
        newline=None,
        closefd=True,
        opener=None,
        _plain=io.open,
    ):
        """`open`, with files for writing whose every handed-over block is counted."""
        if not set(mode) & set("wax+") or isinstance(file, int):
            return _plain(file, mode, buffering, encoding, errors, newline, closefd, opener)
        disk = self

        class Counted(io.FileIO):
            def write(self, data, /):
                disk._write(os.path.abspath(os.fspath(self.name)))
                return super().write(data)

        raw = Counted(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        text = io.TextIOWrapper(buffered, encoding, errors, newline, line_buffering=buffering == 1)
        text.mode = mode
        return text


def main() -> None:
    """Run a module whose n-th write fails."""
    nth, folder, count, module, *arguments = sys.argv[1:]
    disk = FullDisk(int(nth), Path(folder))
    report = os.open(count, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    owner = os.getpid()

    def tell() -> None:
        if os.getpid() == owner:
            os.write(report, str(disk.count).encode())

    atexit.register(tell)
    disk.install()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
