"""Tables of layers: layers.csv, layer_calls.csv and layer_samples.csv, and what people see."""

import math
from collections.abc import Sequence
from pathlib import Path

from bench.layers.measure import CallRow, LayerRow, Layers
from bench.layers.parts import AROUND, part_of_name
from bench.report.sections import Section
from bench.report.table_texts import interval, number
from bench.report.tables import HeadAndCells, Texts, frame, show, write_frame
from vgg_deploy.printable import printable

MOST_SIDE_BY_SIDE = 8  # models in one table
STEADY = 0.1  # width of the interval of a steady call's time, relative to the time


def layers_section(layers: Layers, out: Path) -> list[Section]:
    """Write the CSV files and print the tables: all models side by side, then each alone.

    Args:
        layers: What was measured.
        out: Where the files go.
    """
    write_frame(frame(layers.rows), out / "layers.csv")
    write_frame(frame(layers.calls), out / "layer_calls.csv")
    if layers.samples is not None:
        write_frame(layers.samples, out / "layer_samples.csv")
    sections = []
    for call in layers.calls:
        rows = rows_of(layers.rows, call)
        if rows:
            sections.append(Section(layer_texts(rows), "layers.csv"))
            show(sections[-1].texts)
        for line in call_lines(call):
            print(printable(line))
    together = side_by_side_layers(layers)
    if together:
        show(together)
        sections.insert(0, Section(together, "layers.csv"))
    sections.append(Section(call_texts(layers.calls), "layer_calls.csv"))
    return sections


def rows_of(rows: Sequence[LayerRow], call: CallRow) -> list[LayerRow]:
    """The rows of one model."""
    key = (call.model, call.runtime, call.precision)
    return [row for row in rows if (row.model, row.runtime, row.precision) == key]


def layer_texts(rows: Sequence[LayerRow]) -> Texts:
    """The table of one model. The part that takes longest stands out.

    Args:
        rows: At least one, all of one model.
    """
    first = rows[0]
    title = (
        f"{first.model}, {first.runtime} {first.precision} {first.device}, {first.threads} "
        f"thread{'s' if first.threads > 1 else ''}: layers at {first.height_px} x "
        f"{first.width_px}, batch {first.batch}"
    )
    columns: list[HeadAndCells] = [
        ("layer", [row.layer for row in rows]),
        ("ms", [milliseconds(row.ms) for row in rows]),
        ("95 %", [interval(row.ms_low, row.ms_high) for row in rows]),
        ("share %", [number(row.share_pct, 1) for row in rows]),
        ("GFLOP/s", [number(row.gflop_per_s, 1) for row in rows]),
        ("adds: SQNR dB", [decibels(row.added_sqnr_db) for row in rows]),
        ("so far: SQNR dB", [decibels(row.total_sqnr_db) for row in rows]),
    ]
    timed = [(row.ms, -index) for index, row in enumerate(rows) if not math.isnan(row.ms)]
    longest = -max(timed)[1] if timed else None
    return Texts.of_columns(title, columns, longest).without_empty_columns()


def call_lines(call: CallRow) -> list[str]:
    """Sentences about a model: the sum of its parts beside the whole call, and what is missing."""
    lines = []
    name = f"{call.model}, {call.runtime} {call.precision}"
    if call.calls:
        share = 100 * call.sum_ms / call.whole_ms
        lines.append(
            f"{name}: the layers take {call.sum_ms:.2f} ms, {share:.0f} % of a whole call's "
            f"{call.whole_ms:.2f} ms ({interval(call.whole_low_ms, call.whole_high_ms)}, "
            f"{call.calls} calls). Overhead: {call.overhead_ms:.2f} ms outside the layers, for "
            f"copies, starting each layer, and the timers. These ({call.how}) change a call by "
            f"{call.timers_ms:+.2f} ms ({_signed(call.timers_low_ms, call.timers_high_ms)})."
        )
        if not call.whole_high_ms - call.whole_low_ms <= STEADY * call.whole_ms:
            lines.append(f"{name}: the calls were not steady; repeat it on idle cores.")
    if call.reference:
        lines.append(
            f"{name}: errors against {call.reference} in float32, {call.images} "
            f"image{'s' if call.images > 1 else ''}."
        )
    if call.not_measured:
        lines.append(f"{name}: {call.not_measured}")
    return lines


def call_texts(calls: Sequence[CallRow]) -> Texts:
    """The whole calls beside the sums of their parts.

    Args:
        calls: At least one.
    """
    columns: list[HeadAndCells] = [
        ("model", [call.model for call in calls]),
        ("runtime", [f"{call.runtime} {call.precision}" for call in calls]),
        ("calls", [str(call.calls) for call in calls]),
        ("whole call ms", [number(call.whole_ms, 2) for call in calls]),
        ("95 %", [interval(call.whole_low_ms, call.whole_high_ms) for call in calls]),
        ("sum of layers ms", [number(call.sum_ms, 2) for call in calls]),
        ("overhead ms", [number(call.overhead_ms, 2, "+") for call in calls]),
        ("timers cost ms", [number(call.timers_ms, 2, "+") for call in calls]),
        ("timed by", [call.how or "-" for call in calls]),
        ("errors against", [call.reference or "-" for call in calls]),
        ("not measured", [call.not_measured or "-" for call in calls]),
    ]
    return Texts.of_columns("Whole calls and their layers", columns).without_empty_columns()


def side_by_side_layers(layers: Layers) -> Texts | None:
    """All models in one table: milliseconds, and the error so far.

    Args:
        layers: What was measured.

    Returns:
        None for a single model.
    """
    calls = [call for call in layers.calls if rows_of(layers.rows, call)]
    if not 2 <= len(calls) <= MOST_SIDE_BY_SIDE:
        return None
    names = row_names(layers.rows)
    columns: list[HeadAndCells] = [("layer", names)]
    heads = [f"{call.runtime} {call.precision}" for call in calls]
    for call, head in zip(calls, heads, strict=True):
        cells = cells_by_row(rows_of(layers.rows, call), names)
        unique = head if heads.count(head) == 1 else f"{call.model} {head}"
        columns.append((unique, cells))
    title = "Layers side by side: ms, and SQNR so far in dB"
    return Texts.of_columns(title, columns)


def row_names(rows: Sequence[LayerRow]) -> list[str]:
    """Rows that fit all models: each layer but the ReLUs, which count with the layer before.

    Args:
        rows: Of all models.
    """
    found = {
        name for row in rows for name in part_of_name(row.layer) if not name.startswith("relu")
    }
    return sorted(found, key=_place)


def cells_by_row(rows: Sequence[LayerRow], names: Sequence[str]) -> list[str]:
    """What one model's column says in every row of `row_names`.

    Args:
        rows: Of the model.
        names: Of `row_names`.
    """
    cells = dict.fromkeys(names, "-")
    for name, (ms, total) in by_row(rows).items():
        shown = milliseconds(ms)
        cells[name] = shown if math.isnan(total) else f"{shown} {decibels(total)} dB"
    for row in rows:
        first, *others = part_of_name(row.layer)
        for name in others:
            if name in cells:
                cells[name] = f"in {first}"
    return [cells[name] for name in names]


def by_row(rows: Sequence[LayerRow]) -> dict[str, tuple[float, float]]:
    """Milliseconds and SQNR so far of a model by row of `row_names`.

    Args:
        rows: Of the model, in running order.
    """
    found: dict[str, tuple[float, float]] = {}
    name = ""
    for row in rows:
        first = part_of_name(row.layer)[0]
        if first.startswith("relu"):
            ms, _ = found[name]
            found[name] = (ms + row.ms, row.total_sqnr_db)
        else:
            name = first
            found[name] = (row.ms, row.total_sqnr_db)
    return found


def _place(name: str) -> tuple[int, int, int]:
    """Where a row stands: by stage, its convolutions, its normalisation and its pool."""
    if name in AROUND:
        return (0 if name == AROUND[0] else 99), AROUND.index(name), 0
    kind = name.rstrip("_0123456789")
    numbers = [int(number) for number in name.removeprefix(kind).split("_")]
    stage, index = numbers[0], numbers[1] if len(numbers) > 1 else 0
    return stage, int(kind == "pool"), index + int(kind == "norm")


def milliseconds(ms: float) -> str:
    """Three digits after the point below 1 ms, else two."""
    return number(ms, 3 if ms < 1 else 2)


def decibels(value: float) -> str:
    """One digit after the point; "exact" for infinitely many decibels, "-" for none measured."""
    return "exact" if value == math.inf else number(value, 1)


def _signed(low: float, high: float) -> str:
    return "-" if math.isnan(low) else f"{low:+.2f} to {high:+.2f}"
