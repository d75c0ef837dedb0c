"""Shows what a load test found: the table, its CSV files, and the figures of the report."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bench.load.best import Best, best_offline
from bench.load.rows import LoadRow
from bench.report.drawing import Drawing
from bench.report.load_figures import curves, settings
from bench.report.sections import Section
from bench.report.table_texts import number
from bench.report.tables import HeadAndCells, Texts, show, write_frame
from vgg_deploy.name_frames import named_frame

FILE = "load.csv"


def load_section(
    rows: Sequence[LoadRow], best: Sequence[Best], samples: pd.DataFrame, out: Path
) -> list[Section]:
    """Write load.csv and load_samples.csv, and show the table.

    Args:
        rows: The load table, at least one row.
        best: Of `best_settings`.
        samples: The times of single queries.
        out: Where the files go.
    """
    write_frame(named_frame([row.record() for row in rows]), out / FILE)
    write_frame(samples, out / "load_samples.csv")
    first = rows[0]
    side = f"{first.height_px} x {first.width_px}"
    texts = load_texts(rows, f"Load, {side} uint8 images to scores, {first.device}")
    show(texts)
    return [Section(best_texts(best), ""), Section(texts, FILE)]


def best_texts(best: Sequence[Best]) -> Texts:
    """The best settings as a table, for the reports.

    Args:
        best: Of `best_settings`.
    """
    columns: list[HeadAndCells] = [
        ("model", [one.model for one in best]),
        ("scenario", [one.scenario for one in best]),
        ("result", [one.result for one in best]),
        ("options", [one.options or "-" for one in best]),
        ("note", ["; ".join(one.notes) or "-" for one in best]),
    ]
    return Texts.of_columns("Best settings under load", columns)


def load_texts(rows: Sequence[LoadRow], title: str) -> Texts:
    """The load table. The highest offline throughput stands out.

    Args:
        rows: At least one.
        title: Stands above the table.
    """
    latencies = [row.latencies for row in rows]
    columns: list[HeadAndCells] = [
        ("model", [row.model for row in rows]),
        ("runtime", [f"{row.runtime} {row.precision}" for row in rows]),
        ("scenario", [row.scenario for row in rows]),
        ("instances", [str(row.instances) for row in rows]),
        ("threads", [str(row.threads) for row in rows]),
        ("batch", [str(row.batch) for row in rows]),
        ("offered/s", [number(row.offered_per_s, 2) for row in rows]),
        ("images/s", [f"{row.images_per_s:.2f}" for row in rows]),
        ("95 %", [_between(row.images_per_s_low, row.images_per_s_high) for row in rows]),
        ("queries", [str(row.queries) for row in rows]),
        ("dropped", [str(row.dropped) for row in rows]),
        ("p50 ms", [number(one.p50_ms, 1) for one in latencies]),
        ("p90 ms", [number(one.p90_ms, 1) for one in latencies]),
        ("p99 ms", [number(one.p99_ms, 1) for one in latencies]),
        ("95 %", [_between(one.p99_low_ms, one.p99_high_ms) for one in latencies]),
        ("within bound", [row.within or "-" for row in rows]),
        ("all MiB", [number(row.memory_mib, 0) for row in rows]),
    ]
    best = best_offline(rows)
    marked = next((i for i, row in enumerate(rows) if row is best), None)
    return Texts.of_columns(title, columns, marked)


def load_drawings(rows: Sequence[LoadRow]) -> list[Drawing]:
    """The figures.

    Args:
        rows: The load table, at least one row.
    """
    return [
        Drawing("load-curves", "p99 and median (dotted) against the offered load", curves(rows)),
        Drawing("load-settings", "Offline throughput by setting", settings(rows)),
    ]


def _between(low: float, high: float) -> str:
    """An interval; one without its upper end is none."""
    return "-" if low != low or high != high else f"{low:.1f}-{high:.1f}"
