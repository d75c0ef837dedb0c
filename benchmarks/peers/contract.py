"""What every peer script is given and what it tells, so that their rows can stand in one table."""

import json
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import click

VIEWS = ("crop", "dense", "net")


@dataclass(frozen=True)
class Task:
    """One evaluation."""

    model: Path  # a checkpoint of ours (.pt) or a file of vgg-export (.onnx)
    data: Path  # CLASS/*, numbered file names of equal length, so that every way of sorting gives one order
    view: str  # "crop": the centre crop at Q; "dense": the whole image at Q; "net": random pixels of the crop's size, one picture a call
    side: int  # Q, pixels
    batch: int  # most pictures a call
    threads: int
    calls: int  # of the view "net"
    precision: str  # "fp32" or "bf16", for runtimes that choose it when a file is loaded


class Found(NamedTuple):
    """What an evaluation comes to."""

    images: int
    seconds: (
        float  # from the first file opened to the last score, without imports and loading the net
    )
    right: int | None = None  # whose best class is theirs; None: random pixels
    predictions: list[int] = []  # best class of every image, position among the net's classes
    peak_mib: float | None = None  # of another process that did the work; None: it was this one


class Skipped(Exception):
    """Why a peer cannot be measured here, and what to do."""


@dataclass(frozen=True)
class Told:
    """The line of JSON that a peer script prints last."""

    peer: str
    version: str = ""
    images: int = 0
    seconds: float = 0.0
    images_per_s: float = 0.0
    top1_error_pct: float | None = None
    peak_mib: float = 0.0  # of the process that runs the net, without loader processes
    predictions: list[int] = field(default_factory=list)
    skipped: str = ""  # why there is no measurement


def peer_command(
    peer: str, package: str, views: tuple[str, ...], evaluate: Callable[[Task], Found]
) -> click.Command:
    """The command of one peer script. Args: package, whose version is told, and without which the peer is skipped."""

    @click.command(context_settings={"show_default": True})
    @click.option(
        "--model",
        required=True,
        type=click.Path(exists=True, path_type=Path),
        help="Checkpoint (.pt) or exported file (.onnx).",
    )
    @click.option(
        "--data",
        required=True,
        type=click.Path(exists=True, path_type=Path),
        help="Folder of class folders with numbered files.",
    )
    @click.option("--view", default=views[0], type=click.Choice(views))
    @click.option("--side", default=256, help="Q, pixels.")
    @click.option("--batch", default=16)
    @click.option("--threads", default=2)
    @click.option("--calls", default=20, help="Of the view net.")
    @click.option("--precision", default="fp32", type=click.Choice(("fp32", "bf16")))
    def main(**options):
        try:
            found = evaluated(package, evaluate, Task(**options))
            error = None if found.right is None else 100 * (1 - found.right / found.images)
            speed, peak = found.images / found.seconds, found.peak_mib or peak_mib()
            told = Told(
                peer,
                version(package),
                found.images,
                found.seconds,
                speed,
                error,
                peak,
                found.predictions,
            )
        except Skipped as reason:
            told = Told(peer, skipped=str(reason))
        print(json.dumps(asdict(told)))

    return main


def evaluated(package: str, evaluate: Callable[[Task], Found], task: Task) -> Found:
    """Raises: Skipped if the package is not installed."""
    try:
        version(package)
    except PackageNotFoundError:
        raise Skipped(f"{package} is not installed: pip install {package}") from None
    return evaluate(task)


def peak_mib() -> float:
    """The most memory that this process has had resident, in MiB."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    # unlike getrusage's, this peak begins anew with the program and not with the process that started it
    return (
        next(
            int(line.split()[1])
            for line in status.read_text().splitlines()
            if line.startswith("VmHWM")
        )
        / 1024
    )


def time_calls(call: Callable[[], object], calls: int) -> Found:
    """Seconds of so many calls with one picture each, two before them uncounted."""
    for _ in range(2):
        call()
    begun = time.perf_counter()
    for _ in range(calls):
        call()
    return Found(calls, time.perf_counter() - begun)
