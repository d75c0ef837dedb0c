"""Rows of cells: a checksum finds what was damaged, moved, edited or lost."""

import binascii
import hashlib
import json
import shutil
import time

import numpy as np
import pytest

from bench.accuracy.cell_rows import row_states
from bench.accuracy.cell_store import CellSize, open_cell
from tests.support.cells import IDENTITY, measure
from tests.support.nets import save_net, thin_net


def test_a_row_is_its_posterior_its_consistency_and_their_crc(stored):
    """Oracle: binascii's CRC over the bytes, written out from the description in the module."""
    file, rows, _ = stored
    manifest = json.loads(file.with_suffix(".json").read_text())
    for name in ("finished", "seconds", "timed", "machine", "times_crc32"):
        del manifest[name]
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    for i, row in enumerate(rows):
        covered = (
            digest.encode()
            + i.to_bytes(8, "little")
            + row["posterior"].tobytes()
            + row["consistency"].tobytes()
        )
        assert binascii.crc32(covered) == row["crc32"]
        assert row["posterior"].sum() == pytest.approx(1, abs=1e-6)
        assert 0 <= row["consistency"] < 1e-6


@pytest.mark.slow
def test_a_flipped_bit_anywhere_in_a_row_is_found(stored, capsys):
    file, rows, again = stored
    whole, rng = file.read_bytes(), np.random.default_rng(0)
    start = len(whole) - rows.nbytes
    for at in rng.integers(start, len(whole), 8):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << int(rng.integers(0, 8))
        file.write_bytes(flipped)
        measured, lines = again(capsys)
        assert measured.scored == 1 and measured.reused == 23
        assert lines == [f"{file}: 1 row was damaged; computed again"]
    measured, lines = again(capsys)
    assert measured.scored == 0 and not lines


def labels_as_posteriors(rows):
    rows["posterior"] = np.eye(4, dtype=np.float32)[np.arange(24) // 6]


def rolled_classes(rows):
    rows["posterior"] = np.roll(rows["posterior"], 1, axis=1)


def rolled_rows(rows):
    rows[:] = np.roll(rows, 1)


def sorted_rows(rows):
    rows[:] = rows[np.argsort(rows["posterior"][:, 0], kind="stable")]


def doubled(rows):
    rows["posterior"] *= 2


def consistent_by_hand(rows):
    rows["consistency"] = 1e-3


def empty(rows):
    rows[5:9] = 0


@pytest.mark.parametrize(
    "change",
    [
        labels_as_posteriors,
        rolled_classes,
        rolled_rows,
        sorted_rows,
        doubled,
        consistent_by_hand,
        empty,
    ],
)
@pytest.mark.slow
def test_rows_that_were_moved_edited_or_lost_are_computed_again(stored, capsys, change):
    file, rows, again = stored
    edited = rows.copy()
    change(edited)
    number = int((edited != rows).sum())
    np.save(file, edited)
    measured, lines = again(capsys)
    assert number > 0 and measured.scored == number
    assert lines == [f"{file}: {number} rows were damaged; computed again"]


def test_rows_of_another_cell_are_computed_again(net, photos, tmp_path, capsys):
    """A cell of another net, copied to the name of this net's cell beside its manifest."""
    cells = tmp_path / "cells"
    measure([net], photos, cells)
    (file,) = cells.glob("*.npy")
    foreign = measure(
        [save_net(thin_net("A", seed=3), tmp_path / "other.pt")], photos, tmp_path / "others"
    )
    (cell,) = foreign.measured.cells.values()
    shutil.copy(cell.path, file)
    assert measure([net], photos, cells).measured.scored == 24
    assert f"{file}: 24 rows were damaged; computed again" in capsys.readouterr().err


def test_checking_50000_rows_of_1000_classes_is_quick(tmp_path):
    """Bounded by processor time, which other programs do not lengthen; it takes about a second."""
    cell = open_cell(tmp_path, IDENTITY, CellSize(50_000, 1000, "float32"), 1)
    started = time.process_time()
    states = row_states(cell.rows, cell.identity)
    spent = time.process_time() - started
    assert not states.finished.any() and not states.damaged.any() and spent < 4
