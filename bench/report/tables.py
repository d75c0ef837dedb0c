"""Records as tables: on the terminal, as CSV for pandas, as Markdown for people."""

import math
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from rich.table import Table

from bench.accuracy.accuracy_rows import Scored
from bench.accuracy.compare import Comparison
from bench.accuracy.protocols import protocol_label
from bench.speed.first_calls import ShapeRow, cold_start_s
from bench.speed.latency import LatencyRow
from bench.speed.side_by_side import SideBySideRow
from vgg_deploy.files import whole_file
from vgg_deploy.progress import results


class Texts(NamedTuple):
    """A table for people."""

    title: str
    heads: list[str]
    rows: list[list[str]]
    best: int | None = None  # the row that stands out


def frame(rows: list) -> pd.DataFrame:
    """One record a row, its fields as columns."""
    return pd.DataFrame([asdict(row) for row in rows])


def write_frame(data: pd.DataFrame, path: Path) -> None:
    """Numbers have ten digits, so that 0.55 in per cent is 55 and not 55.00000000000001."""
    with whole_file(path) as partial:
        data.to_csv(partial, index=False, float_format="%.10g", errors="surrogateescape")


def rows_for_people(scored: list[Scored]) -> list[Scored]:
    """Rows for people: where a row comes with and without flips, the one with."""
    flipped = {(s.row.members, s.row.protocol) for s in scored if s.row.flips}
    return [s for s in scored if s.row.flips or (s.row.members, s.row.protocol) not in flipped]


def widest(scored: list[Scored]) -> list[Scored]:
    """Of every model and protocol the last row: all scales together."""
    return list(
        {(tuple(m.model for m in s.row.members), s.row.protocol): s for s in scored}.values()
    )


def accuracy_texts(scored: list[Scored], title: str, faulty: Collection[str] = ()) -> Texts:
    """Rows of the accuracy table; the lowest top-1 error stands out, of equal ones the cheapest.

    Args: faulty, names of models that failed a check: no row of theirs stands out.
    """
    heads = [
        "model",
        "runtime",
        "protocol",
        "Q",
        "views",
        "top-1 error %",
        "95 %",
        "top-5 error %",
        "95 %",
        "ECE %",
        "ms/image",
    ]
    texts = [
        [
            r.model, f"{r.runtime} {r.precision}", protocol_label(r.protocol, r.flips), r.scales, str(r.views),
            number(r.top1_error_pct, 2), bounds(r.top1_low_pct, r.top1_high_pct),
            number(r.top5_error_pct, 2), bounds(r.top5_low_pct, r.top5_high_pct), number(r.ece_pct, 1), number(r.ms_per_image, 1),
        ]
        for r in (s.record for s in scored)
    ]  # fmt: skip
    sound = [i for i, s in enumerate(scored) if s.labelled and not concerns(faulty, s.record.model)]
    best = min(
        sound, key=lambda i: (scored[i].record.top1_error_pct, scored[i].record.views), default=None
    )
    return without_empty_columns(Texts(title, heads, texts, best))


def concerns(faulty: Collection[str], model: str) -> bool:
    """Whether a row's model, or a member of its fusion, is among the faulty ones."""
    return model in faulty or any(member in faulty for member in model.split(" + "))


def without_empty_columns(texts: Texts) -> Texts:
    """Without columns of which no row has a figure, such as errors where images have no labels."""
    kept = [i for i in range(len(texts.heads)) if any(row[i] != "-" for row in texts.rows)]
    heads = [texts.heads[i] for i in kept]
    return texts._replace(heads=heads, rows=[[row[i] for i in kept] for row in texts.rows])


def comparison_texts(comparisons: list[Comparison]) -> Texts:
    """Each row against the first model's."""
    heads = ["model", "protocol", "Q", "agrees", "right: only 1st, only it", "top-1 difference", "95 %", "p", "top-5 difference", "95 %",
             "posteriors differ by", "mean variation"]  # fmt: skip
    texts = [
        [
            c.model, protocol_label(c.protocol, c.flips), c.scales, f"{c.agreement_pct:.2f} %",
            "-" if c.only_model_right is None else f"{c.only_reference_right}, {c.only_model_right}",
            number(c.top1_difference_pct, 2, "+"), bounds(c.top1_low_pct, c.top1_high_pct, "+"), significant(c.top1_p, 3),
            number(c.top5_difference_pct, 2, "+"), bounds(c.top5_low_pct, c.top5_high_pct, "+"),
            significant(c.largest_posterior_difference, 2), significant(c.mean_total_variation, 2),
        ]
        for c in comparisons
    ]  # fmt: skip
    title = (
        f"Against {comparisons[0].reference} on the same images: error minus its error, "
        "percentage points"
    )
    return without_empty_columns(Texts(title, heads, texts))


def paper_texts(title: str, table: pd.DataFrame) -> Texts:
    """One table of the paper; a figure that is not there is a dash, a column without any is left out."""
    columns = {"net": [], "S": [], "Q": [], "method": [], "model": []}
    for line in table.to_dict("records"):
        for name in ("net", "S", "Q", "method"):
            columns[name].append(line[name])
        columns["model"].append(f"{line['model']} {line['runtime']}".strip())
        for k in ("1", "5"):
            printed, measured, low, high, differs = (
                line[f"top{k}_{part}"]
                for part in ("paper", "measured", "low", "high", "difference")
            )
            columns.setdefault(f"top-{k} paper", []).append(number(printed, 1))
            columns.setdefault("here, 95 %" if k == "1" else "here, 95 % ", []).append(
                "-" if math.isnan(measured) else f"{measured:.2f} ({low:.1f}-{high:.1f})"
            )
            columns.setdefault("differs" if k == "1" else "differs ", []).append(
                number(differs, 1, "+")
            )
        columns.setdefault("top-5 test, paper", []).append(number(line["top5_test_paper"], 1))
    kept = {
        head: cells
        for head, cells in columns.items()
        if any(cell not in ("", "-") for cell in cells)
    }
    errors = table.top1_measured
    return Texts(
        title,
        list(kept),
        [list(row) for row in zip(*kept.values(), strict=True)],
        int(errors.argmin()) if errors.notna().any() else None,
    )


def latency_texts(rows: list[LatencyRow], title: str) -> Texts:
    """Rows of the latency table; of the steady ones the highest throughput stands out.

    A dash is a number that was not measured. A GPU's own clock has columns where there is one.
    """
    heads = ["model", "runtime", "H x W", "batch", "runs", "first ms", "median ms", "95 %",
             "steady", "p90 ms", "p99 ms", "images/s", "GFLOP/s"]  # fmt: skip
    texts = [
        [
            r.model, f"{r.runtime} {r.precision} {r.device}", f"{r.height_px} x {r.width_px}", str(r.batch), str(r.runs),
            number(r.first_ms, 1), f"{r.median_ms:.2f}",
            interval_ms(r.median_low_ms, r.median_high_ms), "yes" if r.steady else "no",
            number(r.p90_ms, 2), number(r.p99_ms, 2),
            f"{r.images_per_s:.1f}", f"{r.gflop_per_s:.1f}",
        ]
        for r in rows
    ]  # fmt: skip
    if any(r.device == "cuda" for r in rows):
        heads += [
            "device ms",
            "device p99",
            "device images/s",
            "TFLOP/s",
            "of roofline %",
            "MHz",
            "W",
            "GPU MiB",
        ]
        for r, text in zip(rows, texts, strict=True):
            d = r.device_times
            text += [number(d.device_median_ms, 3), number(d.device_p99_ms, 3), number(d.device_images_per_s, 0), number(d.device_tflop_per_s, 1),
                     number(d.roofline_pct, 0), number(d.sm_mhz, 0), number(d.power_w, 0), number(d.used_mib, 0)]  # fmt: skip
    steady = [i for i, r in enumerate(rows) if r.steady]
    return Texts(title, heads, texts, max(steady, key=lambda i: rows[i].images_per_s, default=None))


def unsteady_line(rows: list[LatencyRow]) -> str:
    """Which rows are not steady, and why; that all are, where it is so."""
    found = []
    for r in rows:
        if not r.steady:
            where = f"{r.model} at {r.height_px} x {r.width_px}, batch {r.batch}"
            found.append(f"{where} ({r.unsteady})")
    return f"Not steady: {'; '.join(found)}." if found else "All rows are steady."


def side_by_side_texts(rows: list[SideBySideRow]) -> Texts:
    """Models against the first, called in turn."""
    heads = [
        "model",
        "runtime",
        "H x W",
        "batch",
        "rounds",
        "median ms",
        "first model's",
        "times as fast",
        "95 %",
        "slowest to fastest round",
    ]
    texts = [
        [
            r.model, f"{r.runtime} {r.precision} {r.device}", f"{r.height_px} x {r.width_px}", str(r.batch), str(r.rounds), f"{r.median_ms:.2f}",
            f"{r.reference_median_ms:.2f}", f"{r.speedup:.2f}",
            interval_ms(r.speedup_low, r.speedup_high), f"{r.slowest_round:.2f}-{r.fastest_round:.2f}",
        ]
        for r in rows
    ]  # fmt: skip
    return Texts(
        f"In turn with {rows[0].reference}, {rows[0].threads} threads",
        heads,
        texts,
        max(range(len(rows)), key=lambda i: rows[i].speedup),
    )


def shapes_line(rows: list[ShapeRow]) -> str:
    """What the first runs of new input shapes took.

    Also by how much that is more than warm runs take, where it is above their noise.
    """
    parts = []
    for model in dict.fromkeys((r.model, r.runtime) for r in rows):
        own = [r for r in rows if (r.model, r.runtime) == model]
        cold = [r.first_ms for r in own if not math.isnan(r.first_ms)]
        part = f"{model[0]} {len(own)} shapes, first runs {sum(cold) / 1000:.1f} s"
        extra = cold_start_s(own)
        parts.append(part if math.isnan(extra) else f"{part} ({extra:.1f} s more than warm ones)")
    return f"Input shapes (shapes.csv): {'; '.join(parts)}"


def interval_ms(low: float, high: float) -> str:
    """Two digits after the point; a dash where it is not known."""
    return "-" if math.isnan(low) else f"{low:.2f}-{high:.2f}"


def number(value: float, digits: int, sign: str = "") -> str:
    return "-" if math.isnan(value) else f"{value:{sign}.{digits}f}"


def significant(value: float, digits: int) -> str:
    """So many digits, whatever the size of the number."""
    return "-" if math.isnan(value) else f"{value:.{digits}g}"


def bounds(low: float, high: float, sign: str = "") -> str:
    """Bounds with one digit, or with a sign and two."""
    if math.isnan(low):
        return "-"
    return f"{low:+.2f} to {high:+.2f}" if sign else f"{low:.1f}-{high:.1f}"


def show(texts: Texts) -> None:
    """One table on the terminal."""
    table = Table(title=texts.title, title_justify="left", title_style="bold")
    for i, head in enumerate(texts.heads):
        left = head in ("model", "runtime", "protocol", "net", "method")
        # heads may wrap, cells not
        table.add_column(
            head.strip(),
            justify="left" if left else "right",
            min_width=max((len(row[i]) for row in texts.rows), default=0),
        )
    for i, row in enumerate(texts.rows):
        table.add_row(*row, style="bold green" if i == texts.best else "")
    results().print(table)


def markdown(texts: Texts) -> str:
    """The same table in a document; the row that stands out in bold."""
    rows = [
        [f"**{cell}**" if cell else cell for cell in row] if i == texts.best else row
        for i, row in enumerate(texts.rows)
    ]
    lines = [texts.heads, ["---"] * len(texts.heads), *rows]
    return (
        f"## {texts.title}\n\n"
        + "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
        )
        + "\n"
    )
