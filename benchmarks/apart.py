"""Steps in a process of its own, which a benchmark asks for one turn after another."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

MIB_OF_KIB = 1024


class Turn(NamedTuple):
    """What some steps took.

    Attributes:
        seconds: Per step.
        loss: Of the last one.
    """

    seconds: float
    loss: float


class Apart:
    """A process that steps when it is asked to, and waits in between."""

    def __init__(self, command: list[str], sources: Path | None, environment: dict[str, str]):
        """Start it.

        Args:
            command: A program that calls `served`.
            sources: Where the packages lie that it imports; None for this process's.
            environment: Variables that it has besides this process's own.
        """
        first = [str(sources.resolve())] if sources else []
        path = os.pathsep.join([*first, *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": path, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def step(self, calls: int) -> Turn:
        """Step, and wait for the end.

        Args:
            calls: Number of steps.

        Raises:
            RuntimeError: The process has ended.
        """
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{calls}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process ended with {self.process.wait()}")
        return Turn(*json.loads(line))

    def peak_mib(self) -> float:
        """The most resident memory that the process has had, on Linux."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.partition("VmHWM:")[2].split()[0]) / MIB_OF_KIB

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def served(step: Callable[[], torch.Tensor]) -> None:
    """Answer `Apart.step` until its end.

    Args:
        step: One update; returns its mean loss.
    """
    for line in sys.stdin:
        calls = int(line)
        start = time.perf_counter()
        for _ in range(calls):
            loss = step().item()
        seconds = (time.perf_counter() - start) / calls
        print(json.dumps([seconds, loss]), flush=True)
