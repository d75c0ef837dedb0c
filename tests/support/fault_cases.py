"""Faults under export, bench, predict and features, and how each run ends.

    python -m tests.support.fault_cases --out benchmarks/results

runs all of them and writes faults.csv and faults.md. The suite runs a part,
tests/test_faults_of_the_machine.py.
A run is in order if it succeeds, or ends with one sentence; if no temporary file is left, except by
SIGKILL until the next run; and if every file with a final name is whole. Linux only.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

from tests.support.faulty_process import ROOT, Commands, Ended, half_written, remains
from tests.support.nets import CLASSES, photo_of, save_net, thin_net
from tests.support.warm import until

MIB = 2**20


class Row(NamedTuple):
    """One run under a fault.

    Attributes:
        command: Its name in `jobs`.
        fault: What was done to it.
        end: Its exit code and sentence.
        left: What is not in order; empty if everything is.
    """

    command: str
    fault: str
    end: str
    left: str


class Place:
    """A folder with nets and photos, the commands on them, and a server that starts them."""

    def __init__(self, root: Path):
        self.root, rng = root, np.random.default_rng(7)
        save_net(thin_net("A"), root / "A.pt")
        shutil.copy(root / "A.pt", root / "copy.pt")  # which the gate lets pass
        for split in ("train", "val"):
            for name in CLASSES:
                (root / "photos" / split / name).mkdir(parents=True)
                for i in range(3):
                    photo_of(name, rng).save(root / "photos" / split / name / f"{i}.png")
        net, photos = root / "A.pt", root / "photos"
        own = ("--threads", 2)
        calibrated = ("--calibration", photos, "--calibration-images", 8)
        self.jobs: dict[str, tuple] = {
            "export": (
                *("export", net, "--onnx", "--precision", "fp32,int8", *calibrated, *own),
                *("--triton", "models"),
            ),
            "export --external-data --ncnn": (
                *("export", net, "--onnx", "--external-data", "--ncnn", "--triton", "models", *own),
            ),
            "bench": (
                *("bench", net, root / "copy.pt", "--data", photos, "--scales", "32", *own),
                *("--protocols", "centre", "--measure", "accuracy", "--max-top1-drop", "100"),
            ),
            "predict": ("predict", net, photos / "val", "--out", "predicted.csv", *own),
            "features": ("features", net, photos, "--scales", "32", "--shard", "6", *own),
        }
        (root / "logs").mkdir()
        self.commands, self.count = Commands(root / "logs"), 0

    def here(self, like: Path | None = None) -> Path:
        """A new working folder, empty or a copy of another."""
        self.count += 1
        folder = self.root / f"here{self.count}"
        if like:
            shutil.copytree(like, folder)
        else:
            folder.mkdir()
        return folder


def row(name: str, fault: str, ended: Ended, here: Path) -> Row:
    """Judge a run."""
    start = ended.output.rfind("Error: ")
    sentence = ended.output[start:][:300] if ended.code else ""
    left = [ended.fault, *remains(here), *half_written(here)]
    return Row(name, fault, f"{ended.code} {sentence}".strip(), "; ".join(filter(None, left)))


def full_disk(place: Place, name: str, step: int = 1) -> Iterator[Row]:
    """The n-th write fails, for every `step`-th n, in an empty folder and over older files."""
    base = place.here()
    writes = place.commands.run(base, *place.jobs[name], nth=0).writes
    for like in (None, base):
        for nth in range(1, writes + 1, step):
            here = place.here(like)
            ended = place.commands.run(here, *place.jobs[name], nth=nth)
            where = "over older files" if like else "in an empty folder"
            yield row(name, f"disk full at write {nth} of {writes}, {where}", ended, here)
            shutil.rmtree(here)


def killed(place: Place, name: str, times: int, seed: int) -> Iterator[Row]:
    """SIGKILL at random moments; the same command then finishes, and nothing is left."""
    rng, base = random.Random(seed), place.here()
    seconds = place.commands.run(base, *place.jobs[name]).seconds
    here = place.here()
    for _ in range(times):
        running = place.commands.start(here, *place.jobs[name])
        at = rng.uniform(0, seconds)
        time.sleep(at)
        os.kill(running.pid, signal.SIGKILL)
        ended = running.wait()
        until(lambda session=running.pid: not in_session(session), 10)
        whole = half_written(here)
        yield Row(name, f"SIGKILL after {at:.2f} s", str(ended.code), "; ".join(whole))
    yield row(
        name, "the same command afterwards", place.commands.run(here, *place.jobs[name]), here
    )


def in_session(session: int) -> list[int]:
    """Processes of a session that run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def limits(place: Place, name: str, values: dict[str, list[int]]) -> Iterator[Row]:
    """Too few descriptors, or too little memory."""
    for limit, numbers in values.items():
        for number in numbers:
            here = place.here()
            ended = place.commands.run(here, *place.jobs[name], limits=[(limit, number)])
            yield row(name, f"{limit} {number}", ended, here)


def decoder(place: Place, signum: signal.Signals) -> Row:
    """A decoding process of bench is killed or stopped."""
    here = place.here()
    many = place.root / "many" / "val" / CLASSES[0]
    if not many.exists():
        many.mkdir(parents=True)
        for other in CLASSES[1:]:
            (many.parent / other).mkdir()
            shutil.copy(place.root / "photos" / "val" / other / "0.png", many.parent / other)
        image = photo_of(CLASSES[0], np.random.default_rng(0)).resize((2000, 2000))
        image.save(many / "0.png")
        for i in range(1, 300):
            os.symlink("0.png", many / f"{i}.png")
    given = ["--data", place.root / "many", "--scales", "32", "--protocols", "centre"]
    given += ["--measure", "accuracy", "--threads", 2]
    running = place.commands.start(here, "bench", place.root / "A.pt", *given)
    found: list[int] = []
    until(lambda: found.extend(running.children()) or found or not in_session(running.pid), 60)
    os.kill(found[-1], signum)
    return row("bench", f"{signum.name} to a decoder", running.wait(), here)


def together(place: Place, name: str) -> Iterator[Row]:
    """Two of the same command in one folder."""
    here = place.here()
    both = [place.commands.start(here, *place.jobs[name]) for _ in range(2)]
    ended = [running.wait() for running in both]
    for number, end in enumerate(ended, 1):
        yield row(name, f"two in one folder, number {number}", end, here)


def environments(place: Place, name: str) -> Iterator[Row]:
    """A real process with locale C, and with a HOME that cannot be written."""
    command, *args = place.jobs[name]
    module = f"bench.{command}.cli" if command in ("predict", "features") else command
    code = f"from {module}.cli import main" if module == command else f"from {module} import main"
    changes = {
        "locale C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        "HOME cannot be written": {"HOME": "/proc", "XDG_CACHE_HOME": ""},
        "clock goes backwards": {},
    }
    for fault, env in changes.items():
        here = place.here()
        start = "import time; t = iter(range(10**9, 0, -1)); time.time = lambda: float(next(t)); "
        lines = f"{start if fault.startswith('clock') else ''}{code}; main()"
        keep = {k: v for k, v in os.environ.items() if k not in ("VGG_DEPLOY_CACHE",)}
        run = subprocess.run(
            [sys.executable, "-c", lines, *map(str, args)],
            cwd=here,
            env={**keep, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **env},
            capture_output=True,
            timeout=300,
        )
        text = " ".join((run.stdout + run.stderr).decode(errors="replace").split())
        yield row(name, fault, Ended(run.returncode, text, 0, 0.0), here)


DESCRIPTORS = [16, 24, 32, 48, 64]
MEMORY = [n * MIB for n in (4600, 4800, 5200, 6000)]  # of addresses; libraries alone take 4.5 GB


def everything(place: Place, kills: int) -> Iterator[Row]:
    """All faults under all commands."""
    for number, name in enumerate(place.jobs):
        yield from full_disk(place, name)
        if name != "predict":
            yield from killed(place, name, kills, number)
        yield from limits(place, name, {"RLIMIT_NOFILE": DESCRIPTORS, "RLIMIT_AS": MEMORY})
        yield from together(place, name)
        yield from environments(place, name)
    for signum in (signal.SIGKILL, signal.SIGSTOP):
        yield decoder(place, signum)


def write_tables(rows: list[Row], out: Path) -> None:
    """Write faults.csv with all rows, and faults.md with counts and what is not in order."""
    import pandas as pd

    frame = pd.DataFrame(rows)
    frame.to_csv(out / "faults.csv", index=False)
    frame["kind"] = frame.fault.str.replace(r"\d+(\.\d+)?", "N", regex=True)
    frame["code"] = frame.end.str.split().str[0]
    lines = ["# Faults and ends", "", "`python -m tests.support.fault_cases`: thin nets.", ""]
    lines += [
        "| command | fault | runs | exit codes | not in order |",
        "| --- | --- | --- | --- | --- |",
    ]
    for (name, kind), group in frame.groupby(["command", "kind"], sort=False):
        codes = ", ".join(f"{code} ({n})" for code, n in group.code.value_counts().items())
        lines.append(f"| {name} | {kind} | {len(group)} | {codes} | {(group.left != '').sum()} |")
    bad = frame[frame.left != ""]
    lines += ["", f"{len(frame)} runs, {len(bad)} not in order.", ""]
    lines += [f"- {r.command}, {r.fault}: {r.end} Left: {r.left}" for r in bad.itertuples()]
    (out / "faults.md").write_text("\n".join(lines).rstrip() + "\n")


@click.command()
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
@click.option("--kills", default=20, help="SIGKILLs per command.")
def main(out: Path, kills: int) -> None:
    """Run all faults and write the tables."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        place = Place(Path(name))
        try:
            for found in everything(place, kills):
                rows.append(found)
                click.echo(" | ".join(found)[:240])
                write_tables(rows, out)
        finally:
            place.commands.close()


if __name__ == "__main__":
    main()
