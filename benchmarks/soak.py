"""Whether training, bench and export use more of the machine the longer they run.

    python benchmarks/soak.py --minutes 60

Three processes run side by side for the whole time, each the real command: one training of many
epochs, benches of the same net one after another in one process, each with new cells, and exports
one after another in one process. Every few seconds this script reads from /proc what each of them
and its children hold. A leak shows as a slope: values after the warm-up are averaged in ten blocks,
and a straight line through the blocks gives a rate per hour with a 95 % interval.

Linux only. Writes soak.csv (samples), soak.md (slopes) and soak.png.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import pandas as pd
from models import random_weights
from result_tables import environment_block, markdown_table, write_csv
from scipy import stats

from vgg_deploy.data.built_in import built_in
from vgg_deploy.files import whole_file, write_text
from vgg_deploy.machine import available_cores
from vgg_deploy.net.spec import NetSpec, Preprocessing
from vgg_deploy.palette import colour

WARM_UP = 0.2  # of the time, before the slopes begin
BLOCKS = 10
PATIENCE_S = 60.0  # between SIGTERM and SIGKILL
MIB = 2**20
MEASURED = {
    "memory_mib": "memory (PSS), MiB",
    "descriptors": "open files",
    "processes": "processes",
    "shared_mib": "shared memory, MiB",
    "temporary_files": "temporary files",
}
LOOP = """
import sys, time
from pathlib import Path
from shutil import rmtree
from {package}.cli import {command} as command
end, count, cells = time.time() + float(sys.argv[1]), 0, Path(sys.argv[2])
while time.time() < end:
    command.main(sys.argv[3:], standalone_mode=False)
    rmtree(cells, ignore_errors=True)
    count += 1
    print("finished", count, flush=True)
"""


@dataclass(frozen=True)
class Sample:
    """What one command and its children hold at one moment; fields are columns of the CSV."""

    command: str
    second: float
    memory_mib: float
    descriptors: int
    processes: int
    shared_mib: float
    temporary_files: int


@dataclass(frozen=True)
class Slope:
    """How one quantity of one command grows."""

    command: str
    quantity: str
    first: float
    last: float
    per_hour: float
    low: float
    high: float


def children_of(process: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield process
    try:
        lists = list(Path(f"/proc/{process}/task").glob("*/children"))
        found = [int(child) for path in lists for child in path.read_text().split()]
    except OSError:  # it has ended
        return
    for child in found:
        yield from children_of(child)


def held_by(command: str, second: float, process: int, folder: Path) -> Sample:
    """Read from /proc what a command holds now.

    Args:
        command: Its name.
        second: Since the start.
        process: Its first process.
        folder: Where its temporary files lie.
    """
    memory_kib = shared_kib = descriptors = processes = 0
    for each in children_of(process):
        try:
            rollup = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()[1:]
            descriptors += len(os.listdir(f"/proc/{each}/fd"))
        except OSError:
            continue
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in rollup}
        memory_kib += sizes["Pss"]
        shared_kib += sizes["Pss_Shmem"]
        processes += 1
    files = sum(len(names) for _, _, names in os.walk(folder))
    return Sample(
        command, second, memory_kib / 1024, descriptors, processes, shared_kib / 1024, files
    )


def slope_of(samples: pd.DataFrame, command: str, quantity: str) -> Slope:
    """The straight line through averages of blocks of time, after the warm-up.

    Args:
        samples: Of one command.
        command: Its name.
        quantity: One of MEASURED.
    """
    last = samples.second.max()
    rest = samples[samples.second >= WARM_UP * last]
    blocks = [rest.iloc[places] for places in np.array_split(np.arange(len(rest)), BLOCKS)]
    hours = np.array([block.second.mean() for block in blocks]) / 3600
    values = np.array([block[quantity].mean() for block in blocks])
    if np.ptp(values) == 0:  # a line through equal values has no error that linregress could give
        return Slope(command, quantity, values[0], values[-1], 0.0, 0.0, 0.0)
    line = stats.linregress(hours, values)
    half = stats.t.ppf(0.975, BLOCKS - 2) * line.stderr
    return Slope(
        command, quantity, values[0], values[-1], line.slope, line.slope - half, line.slope + half
    )


def commands_of(work: Path, seconds: float) -> dict[str, list[str]]:
    """The three commands by name.

    Args:
        work: Folder for their files.
        seconds: How long the loops run.
    """
    images = built_in("val", 1000)
    spec = NetSpec("A", images.classes, width=1 / 32, crop=64, preprocessing=Preprocessing())
    weights = random_weights(spec, work)
    loop = [sys.executable, "-c"]
    return {
        "train": [
            *(sys.executable, "-m", "train", "--arch", "A", "--width", "0.03125", "--crop", "64"),
            *("--side", "64:96", "--epochs", "100000", "--lr-drops", "99999", "--workers", "2"),
            *("--threads", "1", "--out", str(work / "run")),
        ],
        "bench": [
            *(*loop, LOOP.format(package="bench", command="main"), str(seconds)),
            *(str(work / "cells"), str(weights), "--measure", "accuracy", "--threads", "1"),
            *("--scales", "64,80,96,112,128", "--protocols", "dense,multicrop"),
            *("--cells", str(work / "cells"), "--out", str(work / "results")),
        ],
        "export": [
            *(*loop, LOOP.format(package="export", command="main"), str(seconds)),
            *(str(work / "none"), str(weights), "--onnx", "--precision", "fp32,fp16,int8"),
            *("--calibration-images", "16", "--threads", "1", "--out", str(work / "exported")),
        ],
    }


def started(command: list[str], name: str, work: Path) -> subprocess.Popen:
    """Start a command with a folder of its own for temporary files, and its log beside it."""
    temporary = work / f"tmp-{name}"
    temporary.mkdir(parents=True, exist_ok=True)
    root = Path(__file__).parent.parent
    paths = [str(root), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "TMPDIR": str(temporary),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OMP_NUM_THREADS": "1",
    }
    with (work / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            cwd=work,
            start_new_session=True,
        )


def sample_all(
    running: dict[str, subprocess.Popen], work: Path, seconds: float, every_s: float
) -> list[Sample]:
    """Sample the commands until the time is over.

    Raises:
        click.ClickException: If one of them ends before.
    """
    samples = []
    start = time.monotonic()
    while (second := time.monotonic() - start) < seconds:
        for name, process in running.items():
            if process.poll() is not None:
                raise click.ClickException(
                    f"{name} ended with {process.returncode} after {second:.0f} s; "
                    f"see {work / name}.log"
                )
            samples.append(held_by(name, second, process.pid, work / f"tmp-{name}"))
        time.sleep(every_s)
    return samples


def end(process: subprocess.Popen) -> int:
    """End a command as a user would, and give its exit code."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def draw(samples: pd.DataFrame, path: Path) -> None:
    """A row of plots per quantity, a line per command."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(MEASURED), 1, figsize=(8, 9), sharex=True)
    for axis, (quantity, label) in zip(axes, MEASURED.items(), strict=True):
        for i, (name, one) in enumerate(samples.groupby("command")):
            axis.plot(one.second / 60, one[quantity], color=colour(i), label=name, linewidth=1)
        axis.set_ylabel(label, fontsize=8)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].legend(ncols=3, fontsize=8, loc="lower right")
    axes[-1].set_xlabel("minutes")
    figure.tight_layout()
    with whole_file(path) as partial:
        figure.savefig(partial, format="png", dpi=110)
    plt.close(figure)


def text_of(slopes: list[Slope], facts: list[str]) -> str:
    """The Markdown page."""
    rows = [
        [
            slope.command,
            MEASURED[slope.quantity],
            f"{slope.first:.1f}",
            f"{slope.last:.1f}",
            f"{slope.per_hour:+.2f}",
            f"{slope.low:+.2f} to {slope.high:+.2f}",
        ]
        for slope in slopes
    ]
    head = ["command", "quantity", "first block", "last block", "per hour", "95 %"]
    return "\n".join(
        ["# Soak\n", *facts, "", markdown_table(head, rows), "\n![](soak.png)\n",
         environment_block(available_cores())]
    )  # fmt: skip


@click.command(context_settings={"show_default": True})
@click.option("--minutes", default=60.0, help="How long.")
@click.option("--every", default=10.0, help="Seconds between samples.")
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(minutes: float, every: float, out: Path) -> None:
    """Write soak.csv, soak.md and soak.png."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        seconds = 60 * minutes
        # the loops must not end before the last sample
        commands = commands_of(work, 10 * seconds)
        running = {name: started(command, name, work) for name, command in commands.items()}
        try:
            samples = pd.DataFrame(map(asdict, sample_all(running, work, seconds, every)))
        finally:
            codes = {name: end(process) for name, process in running.items()}
        logs = {name: (work / f"{name}.log").read_text() for name in commands}
        left = sorted(str(path.relative_to(work)) for path in work.glob("tmp-*/**/*"))
        epochs = len(pd.read_csv(work / "run" / "metrics.csv"))
    finished = {name: logs[name].count("finished ") for name in ("bench", "export")}
    write_csv(samples, out / "soak.csv")
    draw(samples, out / "soak.png")
    slopes = [
        slope_of(one, name, quantity)
        for name, one in samples.groupby("command")
        for quantity in MEASURED
    ]
    facts = [
        f"{minutes:.0f} minutes: a training of {epochs} epochs, {finished['bench']} benches of "
        f"1,000 images with new cells, {finished['export']} exports in three precisions. "
        f"At the end the training got SIGTERM and ended with {codes['train']}.",
        f"Temporary files left at the end: {', '.join(left) or 'none'}.",
    ]
    write_text(out / "soak.md", text_of(slopes, facts))
    print((out / "soak.md").read_text())


if __name__ == "__main__":
    main()
