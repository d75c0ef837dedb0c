"""Runs the project's commands under faults, each in a process of its own without 5 s of imports.

A server process has everything imported and forks the commands. `Ends` judges what is left.
"""

import csv
import json
import multiprocessing.util
import os
import resource
import signal
import subprocess
import sys
import tarfile
import time
import traceback
from pathlib import Path
from typing import NamedTuple, NoReturn

ROOT = Path(__file__).parents[2]
REMAINS = (".partial", ".twin.", ".check.onnx", ".older", ".vgg-bench-2")
TOO_LONG = 999  # no exit code: it took too long


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
        code: Its exit code, or minus the signal.
        output: On one line.
        writes: How many it made, if they were counted.
        seconds: From fork to end.
    """

    code: int
    output: str
    writes: int
    seconds: float

    @property
    def fault(self) -> str:
        """What is wrong with this end; empty if it is in order."""
        if self.code == TOO_LONG:
            return "took too long"
        if "Traceback" in self.output:
            return "traceback"
        if self.code == 70:
            return "a fault of the program"
        if self.code > 0 and self.output.count("Error: ") != 1:
            return "no sentence" if "Error: " not in self.output else "several errors"
        return ""


class Running(NamedTuple):
    """A command that runs."""

    server: "Commands"
    pid: int
    log: Path
    start: float

    def children(self) -> list[int]:
        """Its forked worker processes. Other programs that it starts are none."""

        def words(pid: int | str) -> bytes:
            return Path(f"/proc/{pid}/cmdline").read_bytes()

        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(path.read_text().rpartition(")")[2].split()[1])
                if parent == self.pid and words(path.parent.name) == words(self.pid):
                    found.append(int(path.parent.name))
            except OSError:  # it ended meanwhile
                continue
        return sorted(found)

    def wait(self, seconds: float = 120) -> Ended:
        """Wait for its end; it is killed if that takes longer than this."""
        code = self.server.ask({"wait": self.pid, "seconds": seconds})
        text = " ".join(self.log.read_text(errors="replace").split())
        counted = self.log.with_suffix(".count")
        writes = int(counted.read_text() or 0) if counted.exists() else 0
        return Ended(code, text, writes, time.monotonic() - self.start)


class Commands:
    """Starts the server, and commands by it. Close it at the end."""

    def __init__(self, logs: Path):
        self.logs, self.count = logs, 0
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )

    def ask(self, request: dict) -> int:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(self, here: Path, command: str, *args, nth=None, limits=(), **env: str) -> Running:
        """Start a command.

        Args:
            here: Its working folder.
            command: "train", "pack", "export", "bench", "predict" or "features".
            args: Its words.
            nth: The write below `here` that fails; 0 only counts them, None does not.
            limits: Pairs of a name such as "RLIMIT_NOFILE" and its value.
            env: Additional environment variables.
        """
        self.count += 1
        log = self.logs / f"{self.count}.log"
        log.touch()
        order = {
            "command": command,
            "args": [str(a) for a in args],
            "here": str(here),
            "log": str(log),
            "nth": nth,
            "limits": limits,
            "env": env,
        }
        start = time.monotonic()
        return Running(self, self.ask(order), log, start)

    def run(self, here: Path, command: str, *args, **how) -> Ended:
        """Start a command and wait for its end."""
        return self.start(here, command, *args, **how).wait()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


def remains(folder: Path) -> list[str]:
    """Temporary files below a folder."""
    names = (str(path.relative_to(folder)) for path in folder.rglob("*"))
    # scores of a cell that is not finished are kept on purpose
    names = (name for name in names if not name.endswith(".partial.npy"))
    return sorted(name for name in names if any(part in name for part in REMAINS))


def half_written(folder: Path) -> list[str]:
    """Files below a folder that have final names, and are not whole.

    Exports are compared with their manifests and read by onnx, lists with the files that they name,
    features with their checksums.
    """
    import numpy as np
    import onnx

    from vgg_deploy.exported.metadata import check_manifest
    from vgg_deploy.exported.ncnn_files import find_ncnn
    from vgg_deploy.features.folder import open_features
    from vgg_deploy.net.checkpoint import load_checkpoint

    found = []
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not path.is_file():
            continue
        try:
            if path.suffix == ".json":
                content = json.loads(path.read_text())
                if path.name == "features.json":
                    open_features(path.parent)
                elif path.name == "export.json":
                    for row in content:
                        file = path.parent / row["file"]
                        find_ncnn(file) if file.suffix == ".param" else check_manifest(file)
                        file.stat()
            elif path.suffix == ".onnx":
                check_manifest(path)
                onnx.checker.check_model(str(path))
            elif path.suffix == ".pt":
                load_checkpoint(path)
            elif path.suffix == ".tar":
                with tarfile.open(path) as tar:
                    assert all(tar.extractfile(member).read() for member in tar)
            elif path.suffix == ".csv":
                lines = list(csv.reader(path.read_text().splitlines()))
                assert lines and len({len(line) for line in lines}) == 1
            elif path.suffix == ".npy" and ".partial" not in path.name:
                np.load(path)
            elif path.name == "config.pbtxt":
                names = {file.name for file in path.parent.iterdir()}
                assert names == {"1", "config.pbtxt", "labels.txt"}
                assert (path.parent / "1" / "model.onnx").is_file()
            elif path.name == "report.html":
                assert path.read_text().rstrip().endswith("</html>")
        except Exception as error:  # of onnx, of JSON, of ours: whatever it is, it is reported
            found.append(f"{path.relative_to(folder)}: {type(error).__name__} {error}")
    return found


def _serve() -> None:
    """Answer requests from standard input until it ends."""
    import gc

    import onnxruntime  # noqa: F401

    import bench.cli
    import bench.command
    import bench.features.cli
    import bench.features.command
    import bench.predict.cli
    import bench.predict.command  # noqa: F401
    import export.cli
    import export.release  # noqa: F401
    import export.write_ncnn  # noqa: F401
    import train.command
    import train.pack
    import train.record.curves
    import vgg_deploy.data.downloads
    import vgg_deploy.data.shard_writer  # noqa: F401
    from tests.support.nth_write import FullDisk
    from train.__main__ import main as train_main

    mains = {
        "export": export.cli.main,
        "bench": bench.cli.main,
        "predict": bench.predict.cli.main,
        "features": bench.features.cli.main,
        "train": train_main,
        "pack": train.pack.main,
    }
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            print(_wait(request["wait"], request["seconds"]), flush=True)
            continue
        pid = os.fork()
        if pid:
            print(pid, flush=True)
            continue
        os.setsid()
        os.chdir(request["here"])
        os.environ.update(request["env"])
        log = os.open(request["log"], os.O_WRONLY | os.O_TRUNC)
        counted = os.open(Path(request["log"]).with_suffix(".count"), os.O_WRONLY | os.O_CREAT)
        for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), log, log)):
            os.dup2(file, number)
        for name, value in request["limits"]:
            resource.setrlimit(getattr(resource, name), (value, value))
        disk = FullDisk(request["nth"] or 0, Path(request["here"]))
        if request["nth"] is not None:
            disk.install()
        _end_with(mains[request["command"]], request, disk, counted)


def _end_with(main, request: dict, disk, counted: int) -> NoReturn:
    """Run a command, and end this process as Python would, without what libraries do at exit.

    Their threads are not in a fork, and some libraries wait for them.
    """
    owner, code = os.getpid(), 0
    try:
        main(request["args"], prog_name=f"vgg-{request['command']}")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    if os.getpid() == owner:
        os.write(counted, str(disk.count).encode())
    multiprocessing.util._exit_function()  # ends worker processes
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _wait(pid: int, seconds: float) -> int:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return TOO_LONG


if __name__ == "__main__":
    _serve()
