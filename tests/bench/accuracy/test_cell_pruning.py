"""Removing cells: which, how much, and nothing else."""

import os
import time

import numpy as np
import pytest

from bench.accuracy.cell_pruning import Bound, kept_cells, prune, to_remove
from bench.cli import main as vgg_bench
from tests.support.cells import measure
from tests.support.run import run

DAY = 86400
NOW = time.time()


@pytest.fixture
def cells(here, net, photos):
    """Two cells of one net, at Q 48 and 64; the first was used 40 days ago."""
    folder = here / "cells"
    measure([net], photos, folder, sides=(48,))
    measure([net], photos, folder, sides=(64,))
    for path in folder.glob("*Q48*"):
        os.utime(path, (NOW - 40 * DAY, NOW - 40 * DAY))
    (folder / "notes.txt").write_text("mine")
    (folder / "other.npy").write_bytes(b"mine")
    return folder


def sizes(folder) -> dict[str, int]:
    """Bytes by Q; oracle: the file system."""
    return {q: sum(path.stat().st_size for path in folder.glob(f"*-{q}-*")) for q in ("Q48", "Q64")}


def test_old_cells_are_removed_and_nothing_else(cells):
    size = sizes(cells)
    assert [cell.size for cell in kept_cells(cells)] == [size["Q48"], size["Q64"]]
    dry = run(vgg_bench, "--prune", "30d", "--dry-run", "--cells", cells)
    before, after = f"{size['Q48'] / 1e3:.1f} kB", f"{size['Q64'] / 1e3:.1f} kB"
    assert dry == f"{cells}: would remove 1 cell, {before}; 1 cell, {after}, would stay"
    assert sizes(cells) == size
    output = run(vgg_bench, "--prune", "30d", "--cells", cells)
    assert output == f"{cells}: removed 1 cell, {before}; 1 cell, {after}, stay"
    assert sizes(cells) == {"Q48": 0, "Q64": size["Q64"]}
    left = {path.name for path in cells.iterdir() if "-Q64-" not in path.name}
    assert left <= {"notes.txt", "other.npy", ".lock"} and "notes.txt" in left
    assert "removed 0 cells" in run(vgg_bench, "--prune", "41d", "--cells", cells)


def test_a_run_is_a_use(cells, net, photos):
    measure([net], photos, cells, sides=(48,))
    assert "removed 0 cells" in prune(cells, [Bound(days=30)], dry_run=False)


def test_the_least_recently_used_go_beyond_a_size(cells):
    size = sizes(cells)
    assert "removed 0 cells" in prune(cells, [Bound(size=sum(size.values()))], False)
    assert "removed 1 cell" in prune(cells, [Bound(size=sum(size.values()) - 1)], False)
    assert sizes(cells) == {"Q48": 0, "Q64": size["Q64"]}
    assert "0 cells, 0 B, stay" in run(vgg_bench, "--prune", "0kB", "--cells", cells)


def test_any_choice_agrees_with_a_naive_one(tmp_path):
    """Oracle: cells by age, dropped one after another until every bound holds."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        folder = tmp_path / str(rng.integers(10**9))
        folder.mkdir()
        for i in range(8):
            path = folder / f"torch-fp32-Q{i}-dense-{i:020x}.npy"
            path.write_bytes(b"x" * int(rng.integers(1, 100)))
            used = NOW - float(rng.uniform(0, 60)) * DAY
            os.utime(path, (used, used))
        bounds = [Bound(days=float(rng.uniform(0, 60))), Bound(size=int(rng.integers(0, 500)))]
        cells = kept_cells(folder)
        expected = [cell for cell in cells if NOW - cell.used > bounds[0].days * DAY]
        stay = [cell for cell in cells if cell not in expected]
        while sum(cell.size for cell in stay) > bounds[1].size:
            expected.append(stay.pop(0))
        assert to_remove(cells, bounds, NOW) == sorted(expected, key=lambda cell: cell.used)


def test_the_size_stands_at_the_end_of_a_run(here, net, photos):
    words = ("--scales", "48", "--measure", "accuracy", "--no-flips", "--data", photos)
    output = run(vgg_bench, net, *words, "--threads", "1")
    (cell,) = kept_cells(here / "cells")
    assert f"Stored scores in cells: 1 cell, {cell.size / 1e3:.1f} kB" in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--prune", "30"), "'30' is neither a number of days nor a size; write 30d or 5GB"),
        (("--prune", "-1d"), "write 30d or 5GB"),
        (("--dry-run",), "--dry-run belongs to --prune"),
        (("--prune", "30d", "A.pt"), "--prune measures nothing"),
        (("--prune", "30d", "--cells", "none"), "none: no such folder"),
    ],
)
def test_refused(here, words, message):
    assert message in run(vgg_bench, *words, code=2)
