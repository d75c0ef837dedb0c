"""Writes predictions one by one, as a table for people, CSV, JSON lines or Parquet."""

import csv
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from rich.cells import cell_len, set_cell_size

from vgg_deploy.errors import InputError
from vgg_deploy.files import whole_file
from vgg_deploy.predict.predictions import COLUMNS, Prediction
from vgg_deploy.printable import csv_text, json_text, printable

Write = Callable[[Prediction], None]

IMAGE_CELLS, CLASS_CELLS, POSTERIOR_CELLS = 36, 31, 9  # of a terminal; 80 with the gaps
GAP = "  "
ROWS = 10_000  # of a row group of Parquet


@contextmanager
def writer(form: str, out: Path | None) -> Iterator[Write]:
    """Open the output.

    Args:
        form: "table", "csv", "jsonl" or "parquet".
        out: A file, which gets its name when the block has ended; None for standard output.

    Yields:
        A function that writes one prediction.

    Raises:
        InputError: If the file cannot be written, or pyarrow is missing.
    """
    if form == "parquet":
        check_parquet()
        assert out is not None  # the options say so
        with whole_file(out) as partial, _parquet(partial) as write:
            yield write
        return
    if out is None:
        yield _text_writer(form, sys.stdout)
        return
    with (
        whole_file(out) as partial,
        open(partial, "w", encoding="utf-8", newline="") as file,
    ):
        yield _text_writer(form, file)


def check_parquet() -> None:
    """Refuse Parquet where its package is missing.

    Raises:
        InputError: If pyarrow is not installed.
    """
    if find_spec("pyarrow") is None:
        raise InputError(
            "Parquet needs the package pyarrow, which is not installed; "
            "run pip install pyarrow, or use another --format"
        )


def _text_writer(form: str, file: IO[str]) -> Write:
    if form == "csv":
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["image", *COLUMNS])
        return lambda one: rows.writerows(
            [csv_text(one.image), r.rank, csv_text(r.id), csv_text(r.name), f"{r.posterior:.10g}"]
            for r in one.best
        )
    if form == "jsonl":
        return lambda one: print(json_text(_document(one)), file=file, flush=True)
    print(_line("image", "class", "posterior"), file=file)
    return lambda one: print("\n".join(_lines(one)), file=file, flush=True)


def _document(one: Prediction) -> dict[str, Any]:
    """One line of JSON lines."""
    best = [dict(zip(COLUMNS, ranked, strict=True)) for ranked in one.best]
    return {"image": one.image, "best": best}


def _lines(one: Prediction) -> Iterator[str]:
    """The lines of the table of one image; the first has its name."""
    for ranked in one.best:
        image = printable(one.image) if ranked.rank == 1 else ""
        known = ranked.name if ranked.name == ranked.id else f"{ranked.name} ({ranked.id})"
        yield _line(image, printable(known), f"{100 * ranked.posterior:.2f} %")


def _line(image: str, known: str, posterior: str) -> str:
    """One line of 80 columns. Of a long path the end is shown, of a long name the start."""
    while cell_len(image) > IMAGE_CELLS:
        image = "…" + image[2:]
    if cell_len(known) > CLASS_CELLS:
        known = set_cell_size(known, CLASS_CELLS - 1) + "…"
    cells = set_cell_size(image, IMAGE_CELLS), set_cell_size(known, CLASS_CELLS)
    return GAP.join((*cells, posterior.rjust(POSTERIOR_CELLS)))


@contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    """Write row groups as they fill, so that memory does not grow with the number of images."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    types = (pa.string(), pa.int64(), pa.string(), pa.string(), pa.float64())
    schema = pa.schema(list(zip(("image", *COLUMNS), types, strict=True)))
    rows: list[dict[str, Any]] = []
    with ParquetWriter(path, schema) as file:

        def flush() -> None:
            if rows:
                file.write_table(pa.Table.from_pylist(rows, schema))
                rows.clear()

        def write(one: Prediction) -> None:
            image = one.image.encode("utf-8", "backslashreplace").decode()  # for Parquet
            for ranked in one.best:
                rows.append({"image": image, **dict(zip(COLUMNS, ranked, strict=True))})
            if len(rows) >= ROWS:
                flush()

        yield write
        flush()
