"""Tables of names that are not UTF-8. Oracle: pandas itself, with names that are."""

import os

import numpy as np
import pandas as pd

from vgg_deploy.name_frames import named_frame

BROKEN = os.fsdecode(b"l\xe9")


def test_numbers_keep_the_types_that_pandas_gives_them():
    columns = {
        "model": "A",
        "class": ["disc", None],
        "ms": np.array([1.5, 2], np.float32),
        "count": [1, None],
        "right": [True, False],
        "files": [["a"], []],
    }
    rows = [{"model": "A", "n": 1}, {"model": None, "n": 2}]
    for content in (columns, rows, {"model": "A", "ms": np.empty(0)}, []):
        table, usual = named_frame(content), pd.DataFrame(content)
        numbers = [name for name in usual if name not in ("model", "class")]
        pd.testing.assert_frame_equal(table[numbers], usual[numbers])
        pd.testing.assert_frame_equal(table, usual, check_dtype=False)


def test_names_that_are_not_utf8_stay():
    table = named_frame({"model": BROKEN, "class": [BROKEN, "disc"], "n": [1, 2]})
    assert table.model.tolist() == [BROKEN] * 2 and table["class"][0] == BROKEN
    assert pd.concat([table, table]).n.dtype == np.int64
