"""Shows files, memory, and the comparison with an earlier run; saves each as CSV."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from bench.earlier.comparison import Against
from bench.earlier.rows import AgainstRow
from bench.memory.measure import Memory, MemoryRow
from bench.models.files import ModelFile
from bench.report.sections import Section
from bench.report.table_texts import bounds, number
from bench.report.tables import Texts, frame, show, write_frame
from vgg_deploy.name_frames import named_frame

DIGEST_SHOWN = 12  # digits of a SHA-256
DIGITS = {"%": 2, "points": 2, "ms": 3, "MB": 2, "MiB": 1, "": 2}  # by unit


def files_section(files: Sequence[ModelFile], out: Path) -> list[Section]:
    """Write files.csv; the table is in the reports alone.

    Args:
        files: Of all models.
        out: Where the file goes.
    """
    write_frame(frame(files), out / "files.csv")
    columns = [
        ("model", [file.model for file in files]),
        ("runtime", [f"{file.runtime} {file.precision}" for file in files]),
        ("version", [file.version for file in files]),
        ("size MB", [number(file.size_mb, 2) for file in files]),
        ("SHA-256", [file.sha256[:DIGEST_SHOWN] for file in files]),
    ]
    return [Section(Texts.of_columns("Files", columns), "files.csv")]


def memory_section(measured: Sequence[Memory], out: Path) -> list[Section]:
    """Write memory.csv.

    Args:
        measured: Of all models.
        out: Where the file goes.
    """
    rows = [row for memory in measured for row in memory.rows]
    write_frame(frame(rows), out / "memory.csv")
    texts = memory_texts(rows)
    show(texts)
    return [Section(texts, "memory.csv")]


def memory_texts(rows: Sequence[MemoryRow]) -> Texts:
    """The memory table.

    Args:
        rows: At least one.
    """
    columns = [
        ("model", [row.model for row in rows]),
        ("runtime", [f"{row.runtime} {row.precision} {row.device}" for row in rows]),
        ("H x W", [f"{row.height_px} x {row.width_px}" for row in rows]),
        ("batch", [str(row.batch) for row in rows]),
        ("peak MiB", [number(row.peak_mib, 1) for row in rows]),
        ("95 %", [bounds(row.peak_low_mib, row.peak_high_mib) for row in rows]),
        ("before MiB", [number(row.libraries_mib, 1) for row in rows]),
        ("on the GPU MiB", [number(row.device_mib, 1) for row in rows]),
    ]
    title = (
        f"Memory of a process that only opens the file and answers, {rows[0].processes} processes, "
        f"{rows[0].threads} threads"
    )
    return Texts.of_columns(title, columns).without_empty_columns()


def against_section(against: Against, out: Path) -> list[Section]:
    """Write against.csv.

    Args:
        against: What was compared.
        out: Where the file goes.
    """
    columns = [field.name for field in fields(AgainstRow)]
    write_frame(named_frame([asdict(row) for row in against.rows], columns), out / "against.csv")
    if not against.rows:
        return []
    texts = against_texts(against.rows, against.title)
    show(texts)
    return [Section(texts, "against.csv")]


def against_texts(rows: Sequence[AgainstRow], title: str) -> Texts:
    """The table of an earlier run beside this one.

    Args:
        rows: At least one.
        title: Stands above the table.
    """
    columns = [
        ("model", [row.model for row in rows]),
        ("runtime", [f"{row.runtime} {row.precision}" for row in rows]),
        ("what", [f"{row.measure}, {row.unit}" for row in rows]),
        ("row", [row.row for row in rows]),
        ("old", [number(row.old, DIGITS[row.unit]) for row in rows]),
        ("new", [number(row.new, DIGITS[row.unit]) for row in rows]),
        ("difference", [_difference(row) for row in rows]),
        ("95 %", [_interval(row) for row in rows]),
        ("compared", [row.how for row in rows]),
    ]
    return Texts.of_columns(title, columns).without_empty_columns()


def _difference(row: AgainstRow) -> str:
    text = number(row.difference, DIGITS[row.difference_unit], "+")
    return text if text == "-" else f"{text} {row.difference_unit}"


def _interval(row: AgainstRow) -> str:
    return bounds(row.low, row.high, "+")
