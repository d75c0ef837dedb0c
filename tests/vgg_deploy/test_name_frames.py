"""Tables of names that are not UTF-8. Oracle: pandas itself, with names that are."""

import os

import numpy as np
import pandas as pd

from vgg_deploy.name_frames import named_frame

BROKEN = os.fsdecode(b"l\xe9")


def test_tables_of_usual_names_are_those_of_pandas():
    columns = {
        "model": "A",
        "class": ["disc", None],
        "ms": np.array([1.5, 2], np.float32),
        "count": [1, None],
        "right": [True, False],
        "files": [["a"], []],
    }
    rows = [{"model": "A", "n": 1}, {"model": None, "n": 2}]
    for content in (columns, rows, {"ms": np.empty(0)}, []):
        pd.testing.assert_frame_equal(named_frame(content), pd.DataFrame(content))


def test_names_that_are_not_utf8_stay():
    table = named_frame({"model": BROKEN, "class": [BROKEN, "disc"], "n": [1, 2]})
    assert table.model.tolist() == [BROKEN] * 2 and table["class"][0] == BROKEN
    assert pd.concat([table, table]).n.dtype == np.int64
