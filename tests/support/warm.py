"""Starts real training processes without 3 s of imports each.

A warm process has PyTorch loaded and forks them.
"""

import gc
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Training(NamedTuple):
    """A process of its own group that runs `python -m train`."""

    warm: "Warm"
    pid: int
    log: Path

    def send(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def send_group(self, signum: int) -> None:
        os.killpg(self.pid, signum)

    def wait(self, seconds: float = 60) -> int:
        """Wait for the exit code, or minus the signal; 999 if it takes longer than this."""
        self.warm.running.discard(self.pid)
        return self.warm.ask({"wait": self.pid, "seconds": seconds})

    def alive(self) -> bool:
        """Whether it still runs. A process that ended is kept until `wait`."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"

    def output(self) -> str:
        """Its output so far on one line, with single spaces."""
        return " ".join(self.log.read_text().split())


class Warm:
    """Starts the warm process and sends it requests. Close it at the end."""

    def __init__(self):
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        self.count, self.running = 0, set()

    def ask(self, request: dict) -> int:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def train(self, here: Path, *args, file_bytes: int = -1, **env: str) -> Training:
        """Start `python -m train`.

        Args:
            here: Its working folder.
            args: Its words.
            file_bytes: The longest file that it may write; -1 for any.
            env: Additional environment variables.
        """
        self.count += 1
        log = here / f"{self.count}.log"
        log.touch()
        order = {
            "args": [str(a) for a in args],
            "here": str(here),
            "log": str(log),
            "env": {**os.environ, **env},
            "file_bytes": file_bytes,
        }
        training = Training(self, self.ask(order), log)
        self.running.add(training.pid)
        return training

    def close(self) -> None:
        for pid in self.running:  # of tests that failed
            os.killpg(pid, signal.SIGKILL)
        # a process that was forked meanwhile may keep the pipe open, so its end is no signal
        self.process.stdin.write(json.dumps({"end": True}) + "\n")
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


def until(condition, seconds: float = 60) -> None:
    """Wait until a condition is true, which may last for milliseconds only."""
    end = time.monotonic() + seconds
    while not condition():
        time.sleep(0.0002)
        assert time.monotonic() < end, "it did not happen"


def _serve() -> None:
    """Answer requests from standard input until one of them ends it."""
    import train.command  # noqa: F401
    from train.__main__ import main

    gc.freeze()  # or every child copies all of it when it collects
    for line in sys.stdin:
        request = json.loads(line)
        if "end" in request:
            return
        if "wait" in request:
            print(_wait(request["wait"], request["seconds"]), flush=True)
            continue
        pid = os.fork()
        if not pid:
            os.setsid()
            os.chdir(request["here"])
            os.environ.update(request["env"])
            log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for descriptor, file in enumerate((os.open(os.devnull, os.O_RDONLY), log, log)):
                os.dup2(file, descriptor)
            limit = request["file_bytes"]
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            main(request["args"], prog_name="python -m train")
        print(pid, flush=True)


def _wait(pid: int, seconds: float) -> int:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return 999  # no exit code: it took too long


if __name__ == "__main__":
    _serve()
