"""Records as tables: on the terminal, as CSV for pandas, as Markdown for people."""

from dataclasses import asdict
from pathlib import Path

import pandas as pd
from rich.table import Table

from bench.accuracy import AccuracyRow
from bench.latency import LatencyRow
from vgg_deploy.files import whole_file
from vgg_deploy.progress import results


def frame(rows: list) -> pd.DataFrame:
    """One record a row, its fields as columns."""
    return pd.DataFrame([asdict(row) for row in rows])


def write_csv(rows: list, path: Path) -> None:
    write_frame(frame(rows), path)


def write_frame(data: pd.DataFrame, path: Path) -> None:
    with whole_file(path) as partial:
        data.to_csv(partial, index=False)


def accuracy_cells(rows: list[AccuracyRow]) -> tuple[list[str], list[list[str]]]:
    """Heads and texts of the accuracy table."""
    heads = ["model", "runtime", "Q", "flips", "images", "top-1 error %", "95 %", "top-5 error %", "95 %", "agrees with 1st"]
    texts = [
        [
            r.model, f"{r.runtime} {r.precision}", r.scales, "yes" if r.flips else "no", str(r.images),
            f"{r.top1_error_pct:.2f}", f"{r.top1_low_pct:.1f}-{r.top1_high_pct:.1f}",
            f"{r.top5_error_pct:.2f}", f"{r.top5_low_pct:.1f}-{r.top5_high_pct:.1f}", f"{r.agreement_pct:.2f} %",
        ]
        for r in rows
    ]  # fmt: skip
    return heads, texts


def latency_cells(rows: list[LatencyRow]) -> tuple[list[str], list[list[str]]]:
    """Heads and texts of the latency table."""
    heads = ["model", "runtime", "H x W", "batch", "runs", "first ms", "median ms", "p90 ms", "p99 ms", "spread %", "images/s", "GFLOP/s"]
    texts = [
        [
            r.model, f"{r.runtime} {r.precision} {r.device}", f"{r.height_px} x {r.width_px}", str(r.batch), str(r.runs),
            f"{r.first_ms:.1f}", f"{r.median_ms:.2f}", f"{r.p90_ms:.2f}", f"{r.p99_ms:.2f}", f"{r.spread_pct:.1f}",
            f"{r.images_per_s:.1f}", f"{r.gflop_per_s:.1f}",
        ]
        for r in rows
    ]  # fmt: skip
    return heads, texts


def show(title: str, heads: list[str], texts: list[list[str]], best: int | None) -> None:
    """One table on the terminal; row `best` stands out."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for i, head in enumerate(heads):
        table.add_column(head, justify="left" if i < 2 else "right", overflow="fold")
    for i, text in enumerate(texts):
        table.add_row(*text, style="bold green" if i == best else "")
    results().print(table)


def markdown(title: str, heads: list[str], texts: list[list[str]]) -> str:
    """The same table in a document."""
    lines = [heads, ["---"] * len(heads), *texts]
    return f"## {title}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
