"""Export, bench, predict and features under faults: one sentence, nothing half written.

A part of tests/support/fault_cases.py, which runs all of them and writes a table.
"""

import sys

import pytest

from tests.support.fault_cases import Place, full_disk, killed, limits, together

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc"),
]
NAMES = ["export", "bench", "predict", "features"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("faults"))
    yield place
    place.commands.close()


def in_order(rows):
    rows = list(rows)
    assert rows and [row for row in rows if row.left] == []
    return rows


@pytest.mark.parametrize(("name", "step"), list(zip(NAMES, (53, 61, 13, 19), strict=True)))
def test_a_full_disk(name, step, place):
    rows = in_order(full_disk(place, name, step))
    assert any("No space left on device" in row.end for row in rows)


@pytest.mark.parametrize("name", ["export", "bench", "features"])
def test_killed_at_random_moments(name, place):
    assert in_order(killed(place, name, 2, seed=1))[-1].end == "0"


def test_too_few_descriptors(place):
    in_order(limits(place, "bench", {"RLIMIT_NOFILE": [24]}))
    in_order(limits(place, "export", {"RLIMIT_NOFILE": [24]}))


def test_two_exports_in_one_folder(place):
    assert [row.end for row in in_order(together(place, "export"))] == ["0", "0"]
