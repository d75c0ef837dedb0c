"""Writes measured records as tables for people: each column's head beside its cells."""

import math
from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd

from bench.accuracy.accuracy_rows import Scored
from bench.accuracy.compare import Comparison
from bench.accuracy.protocols import protocol_label
from bench.report.tables import HeadAndCells, Texts
from bench.speed.first_calls import ShapeRow, cold_start_s
from bench.speed.latency import LatencyRow
from bench.speed.side_by_side import SideBySideRow


def rows_for_people(scored: Sequence[Scored]) -> list[Scored]:
    """Leave out rows without flips whose rows with flips are there too.

    Args:
        scored: All rows of the accuracy table.
    """
    flipped = {(s.row.members, s.row.protocol) for s in scored if s.row.flips}
    return [s for s in scored if s.row.flips or (s.row.members, s.row.protocol) not in flipped]


def widest(scored: Sequence[Scored]) -> list[Scored]:
    """The last row of each model and protocol: all scales together.

    Args:
        scored: Rows of the accuracy table, in its order.
    """
    last = {}
    for one in scored:
        models = tuple(member.model for member in one.row.members)
        last[models, one.row.protocol] = one
    return list(last.values())


def concerns(faulty: Collection[str], model: str) -> bool:
    """Whether a row's model, or a member of its fusion, is faulty.

    Args:
        faulty: Names of models.
        model: Name of a model, or of a fusion ("A.pt + D.pt").
    """
    return model in faulty or any(member in faulty for member in model.split(" + "))


def accuracy_texts(scored: Sequence[Scored], title: str, faulty: Collection[str] = ()) -> Texts:
    """The accuracy table. The lowest top-1 error stands out, of equal ones the cheapest.

    Args:
        scored: The rows.
        title: Stands above the table.
        faulty: Names of models that failed a check; no row of theirs stands out.
    """
    records = [s.record for s in scored]
    columns = [
        ("model", [r.model for r in records]),
        ("runtime", [f"{r.runtime} {r.precision}" for r in records]),
        ("protocol", [protocol_label(r.protocol, r.flips) for r in records]),
        ("Q", [r.scales for r in records]),
        ("views", [str(r.views) for r in records]),
        ("top-1 error %", [number(r.top1_error_pct, 2) for r in records]),
        ("95 %", [bounds(r.top1_low_pct, r.top1_high_pct) for r in records]),
        ("top-5 error %", [number(r.top5_error_pct, 2) for r in records]),
        ("95 %", [bounds(r.top5_low_pct, r.top5_high_pct) for r in records]),
        ("ECE %", [number(r.ece_pct, 1) for r in records]),
        ("ms/image", [number(r.ms_per_image, 1) for r in records]),
    ]
    best = _most_accurate(scored, faulty)
    return Texts.of_columns(title, columns, best).without_empty_columns()


def _most_accurate(scored: Sequence[Scored], faulty: Collection[str]) -> int | None:
    """Index of the row with the lowest top-1 error, of equal ones that with the fewest views."""
    ranked = [
        (one.record.top1_error_pct, one.record.views, index)
        for index, one in enumerate(scored)
        if one.labelled and not concerns(faulty, one.record.model)
    ]
    return min(ranked)[-1] if ranked else None


def comparison_texts(comparisons: Sequence[Comparison]) -> Texts:
    """Each row beside the first model's.

    Args:
        comparisons: At least one.
    """
    columns = [
        ("model", [c.model for c in comparisons]),
        ("protocol", [protocol_label(c.protocol, c.flips) for c in comparisons]),
        ("Q", [c.scales for c in comparisons]),
        ("agrees", [f"{c.agreement_pct:.2f} %" for c in comparisons]),
        ("right: only 1st, only it", [_one_right(c) for c in comparisons]),
        ("top-1 difference", [number(c.top1_difference_pct, 2, "+") for c in comparisons]),
        ("95 %", [bounds(c.top1_low_pct, c.top1_high_pct, "+") for c in comparisons]),
        ("p", [significant(c.top1_p, 3) for c in comparisons]),
        ("top-5 difference", [number(c.top5_difference_pct, 2, "+") for c in comparisons]),
        ("95 %", [bounds(c.top5_low_pct, c.top5_high_pct, "+") for c in comparisons]),
        (
            "posteriors differ by",
            [significant(c.largest_posterior_difference, 2) for c in comparisons],
        ),
        ("mean variation", [significant(c.mean_total_variation, 2) for c in comparisons]),
    ]
    title = (
        f"Against {comparisons[0].reference} on the same images: error minus its error, "
        "percentage points"
    )
    return Texts.of_columns(title, columns).without_empty_columns()


def _one_right(comparison: Comparison) -> str:
    """Images that only the reference has right, and only the model."""
    if comparison.only_model_right is None:
        return "-"
    return f"{comparison.only_reference_right}, {comparison.only_model_right}"


def paper_texts(title: str, table: pd.DataFrame) -> Texts:
    """One table of the paper. A figure that is missing is a dash; empty columns are left out.

    Args:
        title: Stands above the table.
        table: Of `bench.accuracy.paper_tables.fill_tables`.
    """
    lines = table.to_dict("records")
    columns: list[HeadAndCells] = [
        *((name, [line[name] for line in lines]) for name in ("net", "S", "Q", "method")),
        ("not as printed", [line["not_as_printed"] for line in lines]),
        ("model", [f"{line['model']} {line['runtime']}".strip() for line in lines]),
        *_paper_columns(lines, 1),
        *_paper_columns(lines, 5),
        ("top-5 test, paper", [number(line["top5_test_paper"], 1) for line in lines]),
    ]
    errors = table.top1_measured
    best = int(errors.argmin()) if errors.notna().any() else None
    return Texts.of_columns(title, columns, best).without_empty_columns()


def _paper_columns(lines: list[dict[str, Any]], k: int) -> list[HeadAndCells]:
    """The top-k error that the paper has, what was measured here, and the difference."""
    return [
        (f"top-{k} paper", [number(line[f"top{k}_paper"], 1) for line in lines]),
        ("here, 95 %", [_measured(line, k) for line in lines]),
        ("differs", [number(line[f"top{k}_difference"], 1, "+") for line in lines]),
    ]


def _measured(line: dict[str, Any], k: int) -> str:
    error, low, high = (line[f"top{k}_{part}"] for part in ("measured", "low", "high"))
    return "-" if math.isnan(error) else f"{error:.2f} ({low:.1f}-{high:.1f})"


def latency_texts(rows: Sequence[LatencyRow], title: str) -> Texts:
    """The latency table. Of the steady rows, the highest throughput stands out.

    A dash is a number that was not measured. A GPU's own clock has columns if there is a GPU.

    Args:
        rows: At least one.
        title: Stands above the table.
    """
    columns = [
        *_called(rows),
        ("batch", [str(r.batch) for r in rows]),
        ("runs", [str(r.runs) for r in rows]),
        ("first ms", [number(r.first_ms, 1) for r in rows]),
        ("median ms", [f"{r.median_ms:.2f}" for r in rows]),
        ("95 %", [interval(r.median_low_ms, r.median_high_ms) for r in rows]),
        ("steady", ["yes" if r.steady else "no" for r in rows]),
        ("p90 ms", [number(r.p90_ms, 2) for r in rows]),
        ("p99 ms", [number(r.p99_ms, 2) for r in rows]),
        ("images/s", [f"{r.images_per_s:.1f}" for r in rows]),
        ("GFLOP/s", [f"{r.gflop_per_s:.1f}" for r in rows]),
    ]
    if any(not math.isnan(r.joules_per_image) for r in rows):
        columns.append(("J/image", [significant(r.joules_per_image, 3) for r in rows]))
    if any(r.device == "cuda" for r in rows):
        columns += _device_columns(rows)
    steady = [(row.images_per_s, -index) for index, row in enumerate(rows) if row.steady]
    best = -max(steady)[1] if steady else None
    return Texts.of_columns(title, columns, best)


def _called(rows: Sequence[LatencyRow] | Sequence[SideBySideRow]) -> list[HeadAndCells]:
    """What was called: the model, its runtime, and the size of the images."""
    return [
        ("model", [r.model for r in rows]),
        ("runtime", [f"{r.runtime} {r.precision} {r.device}" for r in rows]),
        ("H x W", [f"{r.height_px} x {r.width_px}" for r in rows]),
    ]


def _device_columns(rows: Sequence[LatencyRow]) -> list[HeadAndCells]:
    """What a GPU's own clock and its sensors say."""
    times = [row.device_times for row in rows]
    return [
        ("device ms", [number(d.device_median_ms, 3) for d in times]),
        ("device p99", [number(d.device_p99_ms, 3) for d in times]),
        ("device images/s", [number(d.device_images_per_s, 0) for d in times]),
        ("TFLOP/s", [number(d.device_tflop_per_s, 1) for d in times]),
        ("of roofline %", [number(d.roofline_pct, 0) for d in times]),
        ("MHz", [number(d.sm_mhz, 0) for d in times]),
        ("W", [number(d.power_w, 0) for d in times]),
        ("GPU MiB", [number(d.used_mib, 0) for d in times]),
    ]


def unsteady_line(rows: Sequence[LatencyRow]) -> str:
    """A sentence that names the rows that are not steady, and why.

    Args:
        rows: Of the latency table.
    """
    found = []
    for row in rows:
        if not row.steady:
            where = f"{row.model} at {row.height_px} x {row.width_px}, batch {row.batch}"
            found.append(f"{where} ({row.unsteady})")
    return f"Not steady: {'; '.join(found)}." if found else "All rows are steady."


def side_by_side_texts(rows: Sequence[SideBySideRow]) -> Texts:
    """Models against the first one, called in turn. The largest speedup stands out.

    Args:
        rows: At least one.
    """
    columns = [
        *_called(rows),
        ("batch", [str(r.batch) for r in rows]),
        ("rounds", [str(r.rounds) for r in rows]),
        ("median ms", [f"{r.median_ms:.2f}" for r in rows]),
        ("first model's", [f"{r.reference_median_ms:.2f}" for r in rows]),
        ("times as fast", [f"{r.speedup:.2f}" for r in rows]),
        ("95 %", [interval(r.speedup_low, r.speedup_high) for r in rows]),
        (
            "slowest to fastest round",
            [f"{r.slowest_round:.2f}-{r.fastest_round:.2f}" for r in rows],
        ),
    ]
    title = f"In turn with {rows[0].reference}, {rows[0].threads} threads"
    speedups = [row.speedup for row in rows]
    return Texts.of_columns(title, columns, speedups.index(max(speedups)))


def shapes_line(rows: Sequence[ShapeRow]) -> str:
    """A sentence about the first runs of new input shapes.

    It also says how much longer they took than warm runs, if that is above the noise.

    Args:
        rows: One per model and input shape.
    """
    parts = []
    for name, runtime in dict.fromkeys((r.model, r.runtime) for r in rows):
        own = [r for r in rows if (r.model, r.runtime) == (name, runtime)]
        first_ms = [r.first_ms for r in own if not math.isnan(r.first_ms)]
        part = f"{name} {len(own)} shapes, first runs {sum(first_ms) / 1000:.1f} s"
        extra = cold_start_s(own)
        if not math.isnan(extra):
            part += f" ({extra:.1f} s more than warm ones)"
        parts.append(part)
    return f"Input shapes (shapes.csv): {'; '.join(parts)}"


def number(value: float, digits: int, sign: str = "") -> str:
    """A number with a fixed number of digits after the point; a dash for NaN.

    Example:
        >>> number(0.25, 1, "+")
        '+0.2'

    Args:
        value: The number.
        digits: After the point.
        sign: "+" to write the sign of positive numbers too.
    """
    return "-" if math.isnan(value) else f"{value:{sign}.{digits}f}"


def significant(value: float, digits: int) -> str:
    """A number with a fixed number of significant digits; a dash for NaN.

    Args:
        value: The number.
        digits: How many are significant.
    """
    return "-" if math.isnan(value) else f"{value:.{digits}g}"


def bounds(low: float, high: float, sign: str = "") -> str:
    """Bounds with one digit after the point, or with signs and two; a dash for NaN.

    Args:
        low: Lower bound.
        high: Upper bound.
        sign: Not empty to write signs.
    """
    if math.isnan(low):
        return "-"
    return f"{low:+.2f} to {high:+.2f}" if sign else f"{low:.1f}-{high:.1f}"


def interval(low: float, high: float) -> str:
    """An interval with two digits after the point; a dash for NaN.

    Args:
        low: Lower bound.
        high: Upper bound.
    """
    return "-" if math.isnan(low) else f"{low:.2f}-{high:.2f}"
