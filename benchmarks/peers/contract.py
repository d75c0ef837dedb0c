"""Defines what every peer script takes and prints, so that their rows fit into one table."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import click
from memory import peak_mib


@dataclass(frozen=True)
class Task:
    """One evaluation.

    Attributes:
        model: A checkpoint of ours (.pt) or a file of vgg-export (.onnx).
        data: Folder with CLASS/*. File names are numbers of equal length, so that all ways of
            sorting give the same order.
        view: "crop", the centre crop at Q; "dense", the whole image at Q; "net", random pixels of
            the crop's size, one image per call.
        side: Q, pixels.
        batch: Largest batch.
        threads: Of the runtime.
        calls: Number of calls in the view "net".
        precision: "fp32" or "bf16", for runtimes that choose it when they load a file.
    """

    model: Path
    data: Path
    view: str
    side: int
    batch: int
    threads: int
    calls: int
    precision: str


class Measured(NamedTuple):
    """Result of an evaluation.

    Attributes:
        images: Number of images.
        seconds: From opening the first file to the last score, without imports and loading the net.
        correct: Images with the right best class; None for random pixels.
        predictions: Best class of every image, as an index into the net's classes.
        peak_mib: Peak memory of another process that did the work; None if it was this one.
    """

    images: int
    seconds: float
    correct: int | None = None
    predictions: list[int] = []
    peak_mib: float | None = None


class Skipped(Exception):
    """Why a peer cannot be measured here, and what to do."""


@dataclass(frozen=True)
class Report:
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
    peer: str, package: str, views: tuple[str, ...], evaluate: Callable[[Task], Measured]
) -> click.Command:
    """The command of one peer script.

    Args:
        peer: Its name.
        package: Distribution that gives the version; without it the peer is skipped.
        views: Views that it can measure; the first is the default.
        evaluate: Runs the evaluation.
    """

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
        print(json.dumps(asdict(report(peer, package, evaluate, Task(**options)))))

    return main


def report(peer: str, package: str, evaluate: Callable[[Task], Measured], task: Task) -> Report:
    """Run an evaluation; one that cannot run here is reported as skipped."""
    try:
        measured = evaluate_installed(package, evaluate, task)
    except Skipped as reason:
        return Report(peer, skipped=str(reason))
    error = None
    if measured.correct is not None:
        error = 100 * (1 - measured.correct / measured.images)
    return Report(
        peer,
        version(package),
        images=measured.images,
        seconds=measured.seconds,
        images_per_s=measured.images / measured.seconds,
        top1_error_pct=error,
        peak_mib=measured.peak_mib or peak_mib(),
        predictions=measured.predictions,
    )


def evaluate_installed(package: str, evaluate: Callable[[Task], Measured], task: Task) -> Measured:
    """Run an evaluation.

    Raises:
        Skipped: If the package is not installed.
    """
    try:
        version(package)
    except PackageNotFoundError:
        raise Skipped(f"{package} is not installed: pip install {package}") from None
    return evaluate(task)


def time_calls(call: Callable[[], object], calls: int) -> Measured:
    """Seconds of some calls with one image each, after two warm-up calls."""
    for _ in range(2):
        call()
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return Measured(calls, time.perf_counter() - start)
