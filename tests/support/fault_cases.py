"""Faults of the machine under every command, and how each run ends.

    python -m tests.support.fault_cases --out benchmarks/results

runs all of them and writes faults.csv and faults.md. The suite runs a part,
tests/test_faults_of_the_machine.py. Linux only; a small /dev/shm needs root.
"""

import queue
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import click

from tests.support import fault_kinds as kinds
from tests.support.fault_place import Place, Row

NAMES = (
    "train",
    "train --freeze-features",
    "train.pack",
    "export",
    "export --external-data --ncnn",
    "bench",
    "predict",
    "features",
)
SLICES = 4  # of the longest loops, so that they run beside each other
Case = Callable[[Place], Iterable[Row]]


def one(case: Callable[..., Row], signum: signal.Signals) -> Case:
    """A case of one row."""

    def only(place: Place) -> Iterable[Row]:
        yield case(place, signum)

    return only


def all_cases(kills: int, writes: int) -> list[Case]:
    """All faults under all commands; what waits longest comes first.

    Args:
        kills: SIGKILLs per command.
        writes: Every how many-th write fails.
    """
    cases: list[Case] = [one(kinds.decoder, signal.SIGSTOP)]
    for signum in (signal.SIGKILL, signal.SIGSTOP):
        cases += [one(kinds.rank, signum), partial(kinds.loader, signum=signum)]
    cases.append(one(kinds.decoder, signal.SIGKILL))
    cases += [partial(kinds.shared_memory, size=size) for size in ("2m", "64m")]
    numbered = list(enumerate(NAMES))
    cases += [partial(kinds.together, name=name) for name in NAMES]
    for number, name in numbered:
        if name in ("train", "export", "bench"):
            cases.append(partial(kinds.killed, name=name, times=kills, seed=number))
    cases += [partial(kinds.signals, name=name, seed=number) for number, name in numbered]
    cases += [partial(kinds.limits, name=name) for name in NAMES]
    cases += [partial(kinds.from_the_future, name=name) for name in NAMES]
    cases += [partial(kinds.environments, name=name) for name in NAMES]
    for name in NAMES:
        cases += [
            partial(kinds.full_disk, name=name, step=SLICES * writes, first=1 + writes * first)
            for first in range(SLICES)
        ]
    return cases


def run_all(
    cases: list[Case], root: Path, jobs: int, seconds: float, on_row: Callable[[Row], None]
) -> int:
    """Run cases beside each other, each in a place that no other uses.

    Args:
        cases: In the order in which they begin.
        root: Of the places.
        jobs: How many cases at a time.
        seconds: After which none begins, and loops end.
        on_row: Gets every row.

    Returns:
        How many cases were not run to their end.
    """
    end, cut = time.monotonic() + seconds, 0
    places: queue.Queue[Place] = queue.Queue()
    for number in range(jobs):
        places.put(Place(root / f"place{number}"))
    lock = threading.Lock()

    def run(case: Case) -> None:
        nonlocal cut
        place = places.get()
        try:
            rows = iter(case(place))
            while time.monotonic() < end:
                try:
                    found = next(rows)
                except StopIteration:
                    return
                except AssertionError as error:  # this machine was too slow for the case
                    found = Row("", repr(case)[:80], 0, "", f"could not be tried: {error}", "")
                with lock:
                    on_row(found)
            cut += 1
        finally:
            places.put(place)

    try:
        with ThreadPoolExecutor(jobs) as pool:
            for future in [pool.submit(run, case) for case in cases]:
                future.result()
    finally:
        while not places.empty():
            places.get().commands.close()
    return cut


def write_tables(rows: list[Row], out: Path, seconds: float, cut: int) -> None:
    """Write faults.csv with all rows, and faults.md with one row per command and kind."""
    import pandas as pd

    rows = sorted(rows, key=lambda r: next((i for i, n in enumerate(NAMES) if n == r.command), 99))
    frame = pd.DataFrame(rows, columns=Row._fields).fillna("")
    for column in ("said", "left", "way_on"):
        frame[column] = frame[column].map(_without_places)
    frame.to_csv(out / "faults.csv", index=False)
    frame["kind"] = frame.fault.str.replace(r"(write |of |after )\d+(\.\d+)?", r"\1N", regex=True)
    frame["kind"] = frame.kind.str.replace(r"^ulimit -([nv]).*", r"ulimit -\1", regex=True)
    bad = frame[frame.left != ""]
    lines = [
        "# Faults and ends",
        "",
        "`python -m tests.support.fault_cases` on two cores of an AMD EPYC (AVX-512 with VNNI), "
        f"shared with other work; {seconds / 60:.0f} minutes. Thin nets, small photos. All runs "
        "are in [faults.csv](faults.csv).",
        "",
        "A run is in order if it succeeds, or ends with one sentence that says a way on; if it "
        "leaves no temporary file, except by SIGKILL until the next start; and if every file with "
        "a final name is whole. After SIGKILL and signals the command is started again; its "
        "results are compared with an undisturbed run's. Exit codes below 0 are signals.",
        "",
        f"{len(frame)} runs, {len(bad)} not in order."
        + (f" {cut} loops were cut off or left out when the time was over." if cut else ""),
        "",
        "| command | fault | runs | ends (an example) | exit codes | left behind | way on |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (name, kind), group in frame.groupby(["command", "kind"], sort=False):
        codes = ", ".join(f"{code} ({n})" for code, n in group.code.value_counts().items())
        said = next((s for s in group.said if s), "nothing to say")
        way = next((w for w in group.way_on if w), "none needed")
        wrong = (group.left != "").sum()
        left = f"not in order: {wrong}" if wrong else "nothing"
        cells = [name, kind, str(len(group)), said[:230], codes, left, way[:120]]
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    if len(bad):
        lines += ["", "## Not in order", ""]
        lines += [
            f"- {r.command}, {r.fault}: {r.code} {r.said} Left: {r.left}" for r in bad.itertuples()
        ]
    (out / "faults.md").write_text("\n".join(lines).rstrip() + "\n")


def _without_places(text: str) -> str:
    """Names of temporary folders as they would be at a user's."""
    import re

    return re.sub(r"/\S*/(place\d+/(here\d+/)?|(?=site-packages/))", "", text)


@click.command()
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
@click.option("--kills", default=20, help="SIGKILLs per command.")
@click.option("--writes", default=1, help="Every how many-th write finds the disk full.")
@click.option("--jobs", default=3, help="Cases that run at the same time.")
@click.option("--minutes", default=60.0, help="After which no case begins, and loops end.")
@click.option("--only", default="", help="Cases whose description contains this.")
def main(out: Path, kills: int, writes: int, jobs: int, minutes: float, only: str) -> None:
    """Run all faults and write the tables."""
    rows: list[Row] = []
    start = time.monotonic()

    def keep(found: Row) -> None:
        rows.append(found)
        click.echo(" | ".join(map(str, found))[:600])

    cases = [case for case in all_cases(kills, writes) if only in repr(case)]
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # where flushing costs no time
    with tempfile.TemporaryDirectory(dir=memory) as name:
        cut = run_all(cases, Path(name), jobs, 60 * minutes, keep)
        write_tables(rows, out, time.monotonic() - start, cut)


if __name__ == "__main__":
    main()
