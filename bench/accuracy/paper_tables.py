"""Fills the paper's Tables 3 to 7: its numbers, and beside them those of the given nets."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from bench.accuracy.accuracy_rows import AccuracyRow
from bench.accuracy.protocols import Row, rows_of
from bench.models.model import Model
from vgg_deploy.name_frames import named_frame
from vgg_deploy.net.spec import NetSpec

# ILSVRC-2012: errors on the 50,000 validation images, top5_test on the 100,000 test images. `nets`
# are arch@S. The submission's D@256-512 was fine-tuned in its fully connected layers only.
# GoogLeNet's one figure stands for both sets.
NUMBERS = Path(__file__).parent / "paper_tables.csv"
TITLES = {
    3: "Table 3: single test scale, dense evaluation",
    4: "Table 4: multiple test scales, dense evaluation",
    5: "Table 5: evaluation methods, multiple test scales",
    6: "Table 6: fusion of nets, multiple test scales",
    7: "Table 7: comparison with the state of the art",
}
METHODS = {"dense": "dense", "multicrop": "multi-crop", "multicrop+dense": "multi-crop & dense"}
PAPER_CROP = 224  # pixels
PAPER_SIDES = (256, 384, 512)  # values of S, pixels
SUBMISSION_NETS = 7  # in the fusion that was submitted to ILSVRC-2014 (section 4.4)
NAN = float("nan")


def paper_numbers() -> pd.DataFrame:
    """The printed tables, one row per printed row; a figure that the paper does not give is NaN."""
    figures = ("top1", "top5", "top5_test")
    return pd.read_csv(NUMBERS, keep_default_na=False, na_values=dict.fromkeys(figures, ""))


def paper_rows(models: list[Model]) -> list[tuple[int, Row]]:
    """Rows of the tables that the given nets can fill.

    Each net is in Tables 3 and 4. Nets that were trained with scale jitter are in Table 5 too.
    Table 6 has the fusions of nets in one runtime and precision, and Table 7 the best of them.

    Args:
        models: The models of the run.

    Returns:
        (table, row).
    """
    specs = [model.runtime.spec for model in models]
    found = []
    for m in range(len(models)):
        found.append((3, _row((m,), specs, "dense", "single")))
        found.append((4, _row((m,), specs, "dense", "multi")))
    for m in range(len(models)):
        if _jittered(specs[m]):
            found += [(5, _row((m,), specs, method, "multi")) for method in METHODS]
    for members in _fusions(models):
        all_jittered = all(_jittered(specs[m]) for m in members)
        methods = METHODS if all_jittered else ("dense",)
        found += [(6, _row(members, specs, method, "multi")) for method in methods]
    best_of_both = [
        (7, row) for table, row in found if table in (5, 6) and row.protocol == "multicrop+dense"
    ]
    submission = [
        (7, row)
        for table, row in found
        if table == 6 and len(row.members) == SUBMISSION_NETS and row.protocol == "dense"
    ]
    return found + best_of_both + submission


def fill_tables(models: list[Model], records: Mapping[Row, AccuracyRow]) -> dict[int, pd.DataFrame]:
    """Fill every table with its printed rows and with measured figures where there are any.

    A net of another crop or width fills the row of its configuration: that of its architecture, and
    of S in proportion to the crop. The column "not_as_printed" says what differs. Rows of nets that
    the paper does not have follow the printed ones.

    Args:
        models: The models of the run.
        records: Measured rows.

    Returns:
        By table, one row per printed or measured row. Differences are measured minus printed, in
        percentage points.
    """
    measured = defaultdict(list)
    for table, row in paper_rows(models):
        scales = row.scales.split()[0]  # "single" or "multi"
        measured[table, nets_of(row, models), row.protocol, scales].append(row)
    lines: dict[int, list[dict[str, object]]] = defaultdict(list)
    for printed in paper_numbers().itertuples():
        key = (printed.table, _sorted_nets(printed.nets), printed.protocol, printed.scales)
        figures = _Figures(printed.top1, printed.top5, printed.top5_test)
        line = _Line(printed.label, printed.nets, METHODS.get(printed.protocol, ""), figures)
        # a printed row without a measured one stays
        found: list[Row | None] = [*measured.pop(key, [])]
        lines[printed.table] += [line.filled(row, records, models) for row in found or [None]]
    for (table, nets, protocol, _), rows in measured.items():
        label = " and ".join(net.split("@")[0] for net in nets.split())
        line = _Line(label, nets, METHODS[protocol], _Figures())
        lines[table] += [line.filled(row, records, models) for row in rows]
    return {table: named_frame(lines[table]) for table in TITLES}


def nets_of(row: Row, models: list[Model]) -> str:
    """The nets of a row as paper_tables.csv names them: "D@256-512 E@256-512", sorted."""
    names = [_net_of(models[member.model].runtime.spec) for member in row.members]
    return " ".join(sorted(names))


class _Figures(NamedTuple):
    """Errors that the paper prints, in per cent; NaN where it has none."""

    top1: float = NAN
    top5: float = NAN
    top5_test: float = NAN


class _Line(NamedTuple):
    """The part of a table's line that does not depend on a measurement."""

    label: str  # the net, or nets
    nets: str  # arch@S, separated by spaces
    method: str
    printed: _Figures

    def filled(
        self, row: Row | None, records: Mapping[Row, AccuracyRow], models: list[Model]
    ) -> dict[str, object]:
        """The line by column.

        Args:
            row: The row that fills it; None for none.
            records: Measured rows.
            models: The models of the run.
        """
        if row is None:
            return self._cells(None, "")
        return self._cells(records.get(row), _not_as_printed(row, models))

    def _cells(self, record: AccuracyRow | None, differs: str) -> dict[str, object]:
        line: dict[str, object] = {
            "net": self.label,
            "S": _train_sides(self.nets),
            "not_as_printed": differs,
            "Q": "",
            "method": self.method,
            "model": "",
            "runtime": "",
        }
        if record:
            line["Q"] = "by S" if "|" in record.scales else record.scales.split()[1]
            line["model"] = record.model
            line["runtime"] = f"{record.runtime} {record.precision}"
        for k, printed in ((1, self.printed.top1), (5, self.printed.top5)):
            error, low, high = _measured_error(record, k)
            line[f"top{k}_paper"] = printed
            line[f"top{k}_measured"] = error
            line[f"top{k}_low"] = low
            line[f"top{k}_high"] = high
            line[f"top{k}_difference"] = error - printed
        line["top5_test_paper"] = self.printed.top5_test
        return line


def _measured_error(record: AccuracyRow | None, k: int) -> tuple[float, float, float]:
    """Top-k error and its 95 % interval, in per cent; NaN without a record."""
    if record is None:
        return NAN, NAN, NAN
    if k == 1:
        return record.top1_error_pct, record.top1_low_pct, record.top1_high_pct
    return record.top5_error_pct, record.top5_low_pct, record.top5_high_pct


def _row(members: tuple[int, ...], specs: list[NetSpec], protocol: str, scales: str) -> Row:
    """The one row with flips of these scales, "single" or "multi"."""
    rows = rows_of(members, specs, (protocol,), None, True)
    (row,) = (row for row in rows if row.flips and row.scales.startswith(scales))
    return row


def _fusions(models: list[Model]) -> list[tuple[int, ...]]:
    """In each runtime, crop and width: the paper's complete sets of nets, and all nets together."""
    groups = defaultdict(list)
    for m, model in enumerate(models):
        spec = model.runtime.spec
        groups[model.runtime.name, model.runtime.precision, spec.crop, spec.width].append(m)
    printed = dict.fromkeys(_sorted_nets(nets) for nets in paper_numbers().nets if " " in nets)
    fusions: dict[frozenset[int], tuple[int, ...]] = {}
    for group in groups.values():
        first_with: dict[str, int] = {}
        for m in group:
            first_with.setdefault(_net_of(models[m].runtime.spec), m)
        for nets in printed:
            if set(nets.split()) <= set(first_with):
                members = tuple(first_with[name] for name in nets.split())
                fusions.setdefault(frozenset(members), members)
        if len(first_with) > 1:
            members = tuple(sorted(first_with.values()))
            # last in its group, also where the paper has this fusion
            fusions[frozenset(members)] = fusions.pop(frozenset(members), members)
    return list(fusions.values())


def _net_of(spec: NetSpec) -> str:
    """A net as paper_tables.csv names it, "D@256-512", with S in proportion to the crop."""
    sides = dict.fromkeys(_printed_side(side, spec.crop) for side in spec.train_side)
    return f"{spec.arch}@{'-'.join(map(str, sides))}"


def _printed_side(side: int, crop: int) -> int:
    """The paper's S that a side at another crop stands for; the side itself if there is none.

    Example:
        >>> _printed_side(73, crop=64), _printed_side(256, crop=224), _printed_side(80, crop=64)
        (256, 256, 80)

    Args:
        side: S of the net, pixels.
        crop: Of the net, pixels.
    """
    stands_for = (printed for printed in PAPER_SIDES if round(printed * crop / PAPER_CROP) == side)
    return next(stands_for, side)


def _not_as_printed(row: Row, models: list[Model]) -> str:
    """What distinguishes the nets of a row from the paper's: "crop 64, S [73;146], width 0.25"."""
    specs = [models[member.model].runtime.spec for member in row.members]
    parts = []
    if any(spec.crop != PAPER_CROP for spec in specs):
        crops = dict.fromkeys(str(spec.crop) for spec in specs)
        own = " ".join(f"{s.arch}@{'-'.join(map(str, dict.fromkeys(s.train_side)))}" for s in specs)
        parts += [f"crop {' and '.join(crops)}", f"S {_train_sides(own)}"]
    if any(spec.width != 1 for spec in specs):
        widths = dict.fromkeys(f"{spec.width:g}" for spec in specs)
        parts.append(f"width {' and '.join(widths)}")
    return ", ".join(parts)


def _jittered(spec: NetSpec) -> bool:
    low, high = spec.train_side
    return low < high


def _sorted_nets(nets: str) -> str:
    return " ".join(sorted(nets.split()))


def _train_sides(nets: str) -> str:
    """S of nets for people: "D@256-512" gives "[256;512]"; several nets, each S once."""
    sides = []
    for net in nets.split():
        side = net.split("@")[1]
        sides.append(f"[{side.replace('-', ';')}]" if "-" in side else side)
    return ", ".join(dict.fromkeys(sides))
