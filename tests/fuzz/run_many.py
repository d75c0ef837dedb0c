"""Reads many damaged files with every reader, and prints what came of it.

    python -m tests.fuzz.run_many --cases 50000 --seed 1 --out counts.csv

Each reader runs in a process of its own with a limit on its memory, so that neither a crash nor an
endless call ends the others. The columns: accepted and refused are the two right outcomes. A
traceback is any other exception, also an error of more than one line. Silent are accepted files
whose content differs although it has checksums, and results that are not sound.
"""

import argparse
import contextlib
import csv
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

CASE_S = 10.0  # longest time of one case
MEMORY = 2 * 2**30  # bytes of address space beyond what the process has after its first case
COLUMNS = (
    "reader", "cases", "accepted", "refused", "tracebacks", "hangs", "crashes", "silent",
    "peak_mb", "slowest_s", "seconds",
)  # fmt: skip
FAULTS = ("tracebacks", "hangs", "crashes", "silent")


class Hang(BaseException):
    """A case took too long."""


def fuzz(name: str, cases: int, seed: int) -> dict[str, Any]:
    """Run the cases of one reader in this process.

    Args:
        name: A key of READERS.
        cases: How many.
        seed: Of the mutations.

    Returns:
        The counts, and an example of every kind of fault.
    """
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from hypothesis import strategies as st

    from tests.fuzz.mutations import Mutation, mutations
    from tests.fuzz.reader import Victim
    from tests.fuzz.readers import READERS

    reader = READERS[name]
    place = Path(tempfile.mkdtemp(prefix="vgg-fuzz-"))
    valid, damaged = place / "valid", place / "d"
    valid.mkdir()
    victims = reader.make(valid)
    shutil.copytree(valid, damaged)
    expected = reader.read(damaged)
    shutil.rmtree(damaged)
    counts: Counter[str] = Counter()
    faults: dict[str, str] = {}
    slowest = 0.0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _limit_memory()

    def overdue(signum: int, frame: object) -> None:
        raise Hang

    signal.signal(signal.SIGALRM, overdue)
    drawn = st.sampled_from(victims).flatmap(
        lambda victim: st.tuples(st.just(victim), mutations(victim.kind))
    )

    @seeded(seed)
    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(drawn)
    def case(one: tuple[Victim, Mutation]) -> None:
        nonlocal slowest
        victim, mutation = one
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(valid, damaged, dirs_exist_ok=True)
        mutation.apply(damaged / victim.name, victim.seal)
        start = time.monotonic()
        outcome, example = _outcome(reader.read, damaged, expected, victim, mutation)
        slowest = max(slowest, time.monotonic() - start)
        shutil.rmtree(damaged, ignore_errors=True)
        counts[outcome] += 1
        if outcome in FAULTS:
            faults.setdefault(f"{outcome}: {example}", f"{victim.name} {str(mutation)[:300]}")

    case()
    shutil.rmtree(place)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"counts": counts, "faults": faults, "peak_mb": peak, "slowest_s": slowest}


def _outcome(read: Any, folder: Path, expected: object, victim: Any, mutation: Any) -> Any:
    """Read a damaged folder; return the kind of outcome and, for a fault, where it was."""
    from vgg_deploy.errors import VGGDeployError

    signal.setitimer(signal.ITIMER_REAL, CASE_S)
    try:
        with contextlib.redirect_stderr(None), contextlib.redirect_stdout(None):
            found = read(folder)
        if victim.exact and mutation.kind == "bytes" and found != expected:
            return "silent", "differs from the file that it was made from"
        return "accepted", ""
    except VGGDeployError as error:
        if len(error.message.splitlines()) > 1:
            return "tracebacks", f"several lines: {error.message!r:.300}"
        return "refused", ""
    except Hang:
        return "hangs", _where()
    except AssertionError:
        return "silent", _where()
    except Exception:
        return "tracebacks", _where()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _where() -> str:
    """The exception that is handled and the last lines of ours that it passed."""
    kind, error, trace = sys.exc_info()
    ours = [
        f"{Path(frame.filename).name}:{frame.lineno}"
        for frame in traceback.extract_tb(trace)
        if "site-packages" not in frame.filename and "/lib/python" not in frame.filename
    ]
    return f"{kind.__name__ if kind else ''} {error!s:.100} at {' < '.join(ours[::-1][:3])}"


def _limit_memory() -> None:
    """Let allocations fail beyond MEMORY, so that they are seen and hurt nobody."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


def run_reader(name: str, cases: int, seed: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Run one reader in a forked process.

    Returns:
        Its row of the table, and examples of faults by their kind.
    """
    start = time.monotonic()
    limit = 60 + cases * 2
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        child = os.fork()
        if child == 0:
            code = 1
            try:
                report.write_text(json.dumps(fuzz(name, cases, seed)))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        status, ended = 0, False
        while not ended and time.monotonic() < start + limit:
            ended_id, status = os.waitpid(child, os.WNOHANG)
            ended = ended_id == child
            time.sleep(0.02)
        if not ended:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        row: dict[str, Any] = dict.fromkeys(COLUMNS, 0)
        row |= {"reader": name, "seconds": round(time.monotonic() - start, 1)}
        if not report.exists() or status:
            row["hangs" if not ended else "crashes"] = 1
            return row, {f"the process ended with status {status}": "see above"}
        found = json.loads(report.read_text())
    row |= found["counts"]
    row["cases"] = sum(found["counts"].values())
    row["peak_mb"], row["slowest_s"] = round(found["peak_mb"]), round(found["slowest_s"], 2)
    return row, found["faults"]


def main(arguments: list[str] | None = None) -> int:
    """Run all readers, print the table and the faults.

    Returns:
        1 if there was a fault.
    """
    from tests.fuzz.readers import READERS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=50_000, help="over all readers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", default=",".join(READERS), help="names with commas")
    parser.add_argument("--out", type=Path, help="CSV")
    chosen = parser.parse_args(arguments)
    names = chosen.readers.split(",")
    rows, faults = [], {}
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for name in names:
        row, found = run_reader(name, chosen.cases // len(names), chosen.seed)
        rows.append(row)
        faults |= {f"{name}: {fault}": example for fault, example in found.items()}
        print(f"| {' | '.join(str(row[column]) for column in COLUMNS)} |", flush=True)
    if chosen.out:
        with open(chosen.out, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
    for fault, example in faults.items():
        print(f"\n{fault}\n    {example}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
