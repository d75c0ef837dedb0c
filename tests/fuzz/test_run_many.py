"""The fuzzer sees every kind of fault; a reader without faults would prove nothing otherwise."""

import os
import time
from pathlib import Path

import pytest

from tests.fuzz import readers, run_many
from tests.fuzz.mutations import Json, Other
from tests.fuzz.reader import Reader, Victim


def make(folder: Path) -> tuple[Victim, ...]:
    (folder / "x").write_text("valid")
    return (Victim("x", "text", exact=True),)


def valid(folder: Path) -> bool:
    path = folder / "x"
    return path.is_file() and path.stat().st_size < 2**20 and path.read_bytes() == b"valid"


def raises(folder: Path) -> str:
    if not valid(folder):
        raise KeyError("x")
    return "valid"


def takes_everything(folder: Path) -> str:
    return "valid" if valid(folder) else "another"


def crashes(folder: Path) -> str:
    if not valid(folder):
        os.abort()
    return "valid"


def waits(folder: Path) -> str:
    if not valid(folder):
        time.sleep(100)
    return "valid"


@pytest.mark.parametrize(
    ("read", "fault"),
    [
        (raises, "tracebacks"),
        (takes_everything, "silent"),
        (crashes, "crashes"),
        (waits, "hangs"),
    ],
)
def test_every_fault_is_counted(monkeypatch, read, fault):
    monkeypatch.setitem(readers.READERS, "faulty", Reader("faulty", make, read))
    monkeypatch.setattr(run_many, "CASE_S", 0.1)
    row, faults = run_many.run_reader("faulty", 10, seed=0)
    assert row[fault] > 0 and faults
    assert [row[other] for other in run_many.FAULTS if other != fault] == [0, 0, 0]
    if fault != "crashes":  # which end the process; every other case is counted by itself
        assert row["cases"] > 1


def test_json_is_changed_at_a_place():
    changed = Json((1, 0), "new", "replace", "").changed('{"a": 1, "b": [2, 3]}')
    assert changed == '{"a": 1, "b": ["new", 3]}'
    assert Json((0,), 0, "raw", "NaN").changed('{"a": 1}') == '{"a": NaN}'


def test_other_kinds_of_files_take_the_place(tmp_path):
    path = tmp_path / "x"
    for what in ("pipe", "folder", "device", "socket", "huge"):
        path.write_text("valid")
        Other(what).apply(path, None)
        assert not valid(tmp_path)
        path.rmdir() if path.is_dir() else path.unlink()
