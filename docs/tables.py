"""Writes docs/tables.md from the schemas in the code: python docs/tables.py."""

from pathlib import Path

from bench.report.schema import OF_BENCH, OF_BOXES, OF_FEATURES, OF_PREDICT
from export.schema import OF_EXPORT
from train.record.schema import OF_TRAIN
from train.transfer.schema import OF_TRANSFER
from vgg_deploy.table_schema import markdown

HEAD = """# Tables

Every CSV file and its columns. The end of a name is the unit: `_pct` per cent, `_ms` milliseconds,
`_px` pixels. An empty cell is a value that was not measured. `python docs/tables.py` writes this
page.

Names come from files and may hold anything. In the CSV files of vgg-bench, vgg-predict,
vgg-features and train.transfer a name stands as a JSON string where it would begin a formula in a
spreadsheet (`=`, `+`, `-`, `@`), begins with a quotation mark, or holds control characters, broken
Unicode or marks of a CI server's commands.
`pandas.read_csv(FILE, keep_default_na=False)` reads such a cell as that string, `"=1+1"` with its
quotation marks, and `json.loads` of every cell that begins with one gives the name back.

"""


def page() -> str:
    """The text of tables.md."""
    chapters = [
        markdown("vgg-bench", OF_BENCH),
        markdown("vgg-predict", (*OF_PREDICT, *OF_BOXES)),
        markdown("vgg-features", OF_FEATURES),
        markdown("vgg-train", OF_TRAIN),
        markdown("train.transfer", OF_TRANSFER),
        markdown("vgg-export", OF_EXPORT),
    ]
    return HEAD + "\n".join(chapters)


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(page(), encoding="utf-8")
