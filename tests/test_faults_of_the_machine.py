"""Commands under faults of the machine: one sentence, a way on, nothing half written.

A part of tests/support/fault_cases.py, which runs all of them and writes a table.
"""

import signal
import sys

import pytest

from tests.support.fault_kinds import full_disk, killed, limits, loader, signals, together
from tests.support.fault_place import Place

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc"),
]
STEPS = {"train": 67, "train.pack": 23, "export": 61, "bench": 67, "predict": 13, "features": 19}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("faults") / "place")
    yield place
    place.commands.close()


def in_order(rows):
    rows = list(rows)
    assert rows and [row for row in rows if row.left] == []
    return rows


@pytest.mark.parametrize("name", STEPS)
def test_a_full_disk(name, place):
    rows = in_order(full_disk(place, name, STEPS[name], first=6))
    assert any("No space left on device" in row.said for row in rows)


@pytest.mark.parametrize("name", ["train", "export", "bench", "features"])
def test_killed_at_random_moments(name, place):
    """Oracle: the results of a run that nobody killed."""
    rows = in_order(killed(place, name, 2, seed=1, each=2))
    assert (rows[-1].fault, rows[-1].code) == ("the next start after SIGKILL", 0)


def test_signals_at_a_random_moment(place):
    """Oracle: the results of a run that nobody stopped."""
    in_order(signals(place, "train", seed=3, times=1))


def test_too_few_descriptors_and_too_little_memory(place):
    in_order(limits(place, "bench", (24,), (20,)))
    in_order(limits(place, "export", (24,), ()))


def test_two_exports_in_one_folder(place):
    assert [row.code for row in in_order(together(place, "export"))] == [0, 0]


def test_a_loader_process_that_is_killed(place):
    rows = in_order(loader(place, signal.SIGKILL))
    assert [row.code for row in rows] == [1, 143]
