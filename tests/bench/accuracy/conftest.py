"""A stored cell that several tests damage."""

import numpy as np
import pytest

from tests.support.cells import measure


@pytest.fixture
def stored(net, photos, tmp_path):
    """A finished cell: its file, its rows, and a function that measures again.

    The function returns what was measured, and the lines on stderr about the cells.
    """
    cells = tmp_path / "cells"
    first = measure([net], photos, cells)
    (file,) = cells.glob("*.npy")
    rows = np.load(file)

    def again(capsys):
        capsys.readouterr()
        after = measure([net], photos, cells)
        lines = [line for line in capsys.readouterr().err.splitlines() if str(cells) in line]
        np.testing.assert_allclose(np.load(file)["posterior"], rows["posterior"], atol=1e-6)
        errors = [s.record.top1_error_pct for s in after.scored]
        assert errors == [s.record.top1_error_pct for s in first.scored]
        return after.measured, lines

    return file, rows, again
