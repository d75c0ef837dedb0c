"""Damaged files of all kinds: read soundly, or refused with one line.

Oracle: the outcome of each case is one of two, whatever the file; see `run_many`. Accepted
files are compared with the files that they were made from.
"""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import run_many
from tests.fuzz.readers import READERS

ROOT = Path(__file__).parents[2]
PEAK_MB = 600  # above the process; JSON and lists of up to 256 MiB are read whole
SLOWEST_S = 10


def counts(tmp_path, cases: int, seed: int) -> list[dict[str, str]]:
    """Run the script as a command, and check what every row must have."""
    table = tmp_path / "counts.csv"
    command = [sys.executable, "-m", "tests.fuzz.run_many", "--cases", str(cases)]
    ended = subprocess.run(
        [*command, "--seed", str(seed), "--out", str(table)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert [int(row[fault]) for fault in run_many.FAULTS] == [0, 0, 0, 0]
        assert int(row["accepted"]) + int(row["refused"]) == int(row["cases"]) > 0
        assert int(row["peak_mb"]) < PEAK_MB and float(row["slowest_s"]) < SLOWEST_S
    return rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cases", "seed"), [(500, 0), pytest.param(2000, 1, marks=pytest.mark.nightly)]
)
def test_every_reader_survives(tmp_path, cases, seed):
    rows = counts(tmp_path, cases, seed)
    assert len(rows) == len(READERS) >= 27
    assert sum(int(row["cases"]) for row in rows) > 0.95 * cases
