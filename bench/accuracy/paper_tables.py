"""Tables 3 to 7 in the paper's layout: its numbers, and beside them those of the given nets."""

from collections import defaultdict
from pathlib import Path

import pandas as pd

from bench.accuracy.accuracy_rows import AccuracyRow
from bench.accuracy.protocols import Member, Row, rows_of
from bench.models.model import Model
from vgg_deploy.net.spec import NetSpec

# ILSVRC-2012: errors on the 50,000 validation images, top5_test on the 100,000 test images. `nets` are arch@S.
# The submission's D@256-512 was fine-tuned in its fully connected layers only. GoogLeNet's one figure stands for both sets.
NUMBERS = Path(__file__).parent / "paper_tables.csv"
TITLES = {
    3: "Table 3: single test scale, dense evaluation",
    4: "Table 4: multiple test scales, dense evaluation",
    5: "Table 5: evaluation methods, multiple test scales",
    6: "Table 6: fusion of nets, multiple test scales",
    7: "Table 7: comparison with the state of the art",
}
METHODS = {"dense": "dense", "multicrop": "multi-crop", "multicrop+dense": "multi-crop & dense"}


def paper_numbers() -> pd.DataFrame:
    """The printed tables, a row each; a figure that the paper does not give is missing."""
    return pd.read_csv(
        NUMBERS,
        keep_default_na=False,
        na_values={figure: "" for figure in ("top1", "top5", "top5_test")},
    )


def paper_rows(models: list[Model]) -> list[tuple[int, Row]]:
    """(table, row) for all that the given nets can fill: each net in Tables 3 and 4, nets trained with scale jitter in
    Table 5 too, and in Table 6 the fusions of nets in one runtime and precision."""
    specs = [model.runtime.spec for model in models]
    found = [
        (table, _row((m,), specs, "dense", scales))
        for m in range(len(models))
        for table, scales in ((3, "single"), (4, "multi"))
    ]
    found += [
        (5, _row((m,), specs, method, "multi"))
        for m in range(len(models))
        if _jittered(specs[m])
        for method in METHODS
    ]
    for members in _fusions(models):
        methods = METHODS if all(_jittered(specs[m]) for m in members) else ("dense",)
        found += [(6, _row(members, specs, method, "multi")) for method in methods]
    best_of_both = [
        (7, row) for table, row in found if table in (5, 6) and row.protocol == "multicrop+dense"
    ]
    submission = [
        (7, row)
        for table, row in found
        if table == 6 and len(row.members) == 7 and row.protocol == "dense"
    ]
    return found + best_of_both + submission


def fill_tables(models: list[Model], records: dict[Row, AccuracyRow]) -> dict[int, pd.DataFrame]:
    """Every table with its printed rows, and measured figures where there are any; nets that the paper has not follow.

    Returns: table -> one line a printed or measured row. Differences are measured minus printed, percentage points.
    """
    numbers, measured = paper_numbers(), defaultdict(list)
    for table, row in paper_rows(models):
        measured[table, nets_of(row, models), row.protocol, row.scales.split()[0]].append(row)
    lines = defaultdict(list)
    for printed in numbers.itertuples():
        key = (printed.table, _sorted(printed.nets), printed.protocol, printed.scales)
        figures = {
            "top1_paper": printed.top1,
            "top5_paper": printed.top5,
            "top5_test_paper": printed.top5_test,
        }
        described = {
            "net": printed.label,
            "S": _sides(printed.nets),
            "Q": "",
            "method": METHODS.get(printed.protocol, ""),
        }
        for row in measured.pop(key, []) or [None]:
            lines[printed.table].append(_line(described, figures, row, records))
    for (table, nets, protocol, _), rows in measured.items():
        described = {
            "net": " and ".join(n.split("@")[0] for n in nets.split()),
            "S": _sides(nets),
            "Q": "",
            "method": METHODS[protocol],
        }
        lines[table] += [_line(described, {}, row, records) for row in rows]
    return {table: pd.DataFrame(lines[table]) for table in TITLES}


def nets_of(row: Row, models: list[Model]) -> str:
    """The nets of a row as paper_tables.csv names them: "D@256-512 E@256-512", sorted."""
    specs = [models[m.model].runtime.spec for m in row.members]
    return _sorted(
        " ".join(f"{s.arch}@{'-'.join(map(str, dict.fromkeys(s.train_side)))}" for s in specs)
    )


def _line(described: dict, figures: dict, row: Row | None, records: dict[Row, AccuracyRow]) -> dict:
    line = {**described, "model": "", "runtime": ""}
    record = records.get(row)
    if record:
        sides = "by S" if "|" in record.scales else record.scales.split()[1]
        line |= {
            "Q": sides,
            "model": record.model,
            "runtime": f"{record.runtime} {record.precision}",
        }
    for k in (1, 5):
        printed = figures.get(f"top{k}_paper", float("nan"))
        error, low, high = (
            (getattr(record, f"top{k}_{part}_pct") if record else float("nan"))
            for part in ("error", "low", "high")
        )
        line |= {
            f"top{k}_paper": printed,
            f"top{k}_measured": error,
            f"top{k}_low": low,
            f"top{k}_high": high,
            f"top{k}_difference": error - printed,
        }
    return {**line, "top5_test_paper": figures.get("top5_test_paper", float("nan"))}


def _row(members: tuple[int, ...], specs: list[NetSpec], protocol: str, scales: str) -> Row:
    """The one row with flips of these scales."""
    (row,) = (
        r
        for r in rows_of(members, specs, (protocol,), None, True)
        if r.flips and r.scales.startswith(scales)
    )
    return row


def _fusions(models: list[Model]) -> list[tuple[int, ...]]:
    """In each runtime: the paper's sets of nets that are all there, and all nets together."""
    groups: dict[tuple, list[int]] = defaultdict(list)
    for m, model in enumerate(models):
        groups[model.runtime.name, model.runtime.precision].append(m)
    wanted = dict.fromkeys(_sorted(nets) for nets in paper_numbers().nets if " " in nets)
    fusions = []
    for group in groups.values():
        name_of = {m: nets_of(Row((Member(m, ()),), "dense", "", True), models) for m in group}
        first = {name: m for m, name in reversed(name_of.items())}
        fusions += [
            tuple(first[name] for name in nets.split())
            for nets in wanted
            if set(nets.split()) <= set(first)
        ]
        if len(first) > 1:
            fusions.append(tuple(sorted(first.values())))
    return list({tuple(sorted(members)): members for members in reversed(fusions)}.values())[::-1]


def _jittered(spec: NetSpec) -> bool:
    return spec.train_side[0] < spec.train_side[1]


def _sorted(nets: str) -> str:
    return " ".join(sorted(nets.split()))


def _sides(nets: str) -> str:
    """ "D@256-512" -> "[256;512]"; several nets: their S one after the other."""
    sides = [net.split("@")[1] for net in nets.split()]
    return ", ".join(dict.fromkeys(f"[{s.replace('-', ';')}]" if "-" in s else s for s in sides))
