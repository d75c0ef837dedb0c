"""Tables of names that need not be valid Unicode."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from vgg_deploy.json_files import is_text


def named_frame(
    content: Mapping[str, Any] | Sequence[Any], columns: list[str] | None = None
) -> pd.DataFrame:
    """A table as pandas makes it, but with Python's own strings where one is not UTF-8.

    pandas else hands them to pyarrow where that is installed, which refuses such file names.

    Args:
        content: As of `pandas.DataFrame`: columns by name, or a list of rows.
        columns: Names of the columns of rows.
    """
    table = pd.DataFrame(content, columns=columns, dtype=object)
    given = content if isinstance(content, Mapping) else {}
    others = {
        name: pd.Series(
            column.tolist(), index=table.index, dtype=getattr(given.get(name), "dtype", None)
        )
        for name, column in table.items()
        if not any(isinstance(cell, str) and not is_text(cell) for cell in column)
    }
    return table.assign(**others)
