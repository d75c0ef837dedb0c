"""Writes docs/tables.md from the schemas in the code: python docs/tables.py."""

from pathlib import Path

from bench.report.schema import OF_BENCH, OF_PREDICT
from export.schema import OF_EXPORT
from train.record.schema import OF_TRAIN
from vgg_deploy.table_schema import markdown

HEAD = """# Tables

Every CSV file and its columns. The end of a name is the unit: `_pct` per cent, `_ms` milliseconds,
`_px` pixels. An empty cell is a value that was not measured. `python docs/tables.py` writes this
page.

"""


def page() -> str:
    """The text of tables.md."""
    chapters = [
        markdown("vgg-bench", OF_BENCH),
        markdown("vgg-predict", OF_PREDICT),
        markdown("vgg-train", OF_TRAIN),
        markdown("vgg-export", OF_EXPORT),
    ]
    return HEAD + "\n".join(chapters)


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(page(), encoding="utf-8")
