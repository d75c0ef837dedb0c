"""The tables of a run: in files, and on the terminal."""

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from train.transfer.outcome import Outcome, spread
from train.transfer.paper import COLUMNS, THIS_RUN, note, with_this_run
from train.transfer.schema import CLASSES, GRID, OF_TRANSFER, PAPER, SPLITS, SUMMARY
from vgg_deploy.errors import InputError
from vgg_deploy.files import whole_files
from vgg_deploy.printable import csv_text, json_text
from vgg_deploy.table_schema import Table
from vgg_deploy.terminal_tables import Column, print_table

RECORD = "transfer.json"
MEASURES = {"single": ("recall_pct",), "multi": ("ap_2007_pct", "ap_2010_pct")}
NAMES = {
    "recall_pct": "recall %",
    "ap_2007_pct": "AP % (2007)",
    "ap_2010_pct": "AP % (2010)",
}
MOST_LINES = 30  # of the table of classes on the terminal
DIGITS = 10  # of numbers in files


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot take the results, before anything is computed.

    Args:
        folder: Of the results.

    Raises:
        InputError: If it, or the folder above it, cannot be written, or if it has files of the same
            names that are not those of an earlier run.
    """
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{above}: is not a folder that can be written", about="out")
    if not (folder / RECORD).exists():
        for table in OF_TRANSFER:
            if os.path.lexists(folder / table.file):
                raise InputError(
                    f"{folder / table.file}: is there without {RECORD} beside it, so it is not of "
                    "an earlier run and is not replaced",
                    about="out",
                )


def write_files(
    folder: Path, outcome: Outcome, width: int, method: str, record: Mapping[str, object]
) -> None:
    """Write all files of a run; those of an earlier run stay if one cannot be written.

    Args:
        folder: Of the results.
        outcome: Of the run.
        width: Numbers in a descriptor.
        method: The nets, for the row beside those of the paper.
        record: What was measured and how, ready for JSON.

    Raises:
        InputError: If the folder cannot be written.
    """
    texts = {
        SUMMARY: _csv(SUMMARY, _summary(outcome, width)),
        SPLITS: _csv(SPLITS, _splits(outcome)),
        CLASSES: _csv(CLASSES, (row._asdict() for row in outcome.rows)),
        GRID: _csv(GRID, (row._asdict() for row in outcome.grid)),
        PAPER: _csv(PAPER, with_this_run(outcome, method).to_dict("records")),
    }
    assert {*texts} == {*OF_TRANSFER}
    paths = [folder / table.file for table in texts]
    with whole_files([*paths, folder / RECORD]) as partials:
        for partial, text in zip(partials, texts.values(), strict=False):
            partial.write_text(text, encoding="utf-8")
        partials[-1].write_text(json_text(record, 2) + "\n", encoding="utf-8")


def print_grid(outcome: Outcome) -> None:
    """Print the score of every C on the held-out images, split by split."""
    values = sorted({row.c for row in outcome.grid})
    columns = [Column("C", [f"{c:g}" for c in values])]
    for split in range(1, outcome.splits + 1):
        of_split = {row.c: row for row in outcome.grid if row.split == split}
        cells = [f"{of_split[c].score_pct:.2f}{'*' if of_split[c].chosen else ' '}" for c in values]
        columns.append(Column(f"split {split} %", cells, spare=split - 1))
    unconverged = [not all(row.converged for row in outcome.grid if row.c == c) for c in values]
    if any(unconverged):
        columns.append(Column("converged", ["no" if no else "yes" for no in unconverged]))
    print_table("Held-out training images (* chosen)", columns)


def print_classes(outcome: Outcome) -> None:
    """Print the measures of the classes, the mean over splits; of many classes the lowest."""
    names = list(dict.fromkeys(row.name for row in outcome.rows))
    measures = MEASURES[outcome.task]
    by_class = {
        name: {
            measure: [getattr(row, measure) for row in outcome.rows if row.name == name]
            for measure in measures
        }
        for name in names
    }
    title = "By class"
    if len(names) > MOST_LINES:
        names.sort(key=lambda name: sum(by_class[name][outcome.measure]))
        title = f"The lowest {MOST_LINES} of {len(names)} classes; {CLASSES.file} has all"
        names = names[:MOST_LINES]
    columns = [Column("class", [*names, "mean of all classes"], words=True)]
    for measure in measures:
        cells = [_mean_and_spread(by_class[name][measure]) for name in names]
        columns.append(Column(NAMES[measure], [*cells, _mean_and_spread(outcome.means(measure))]))
    print_table(title, columns, best=len(names))


def print_paper(outcome: Outcome, method: str) -> None:
    """Print Tables 11 and 12, each with this run below."""
    table = with_this_run(outcome, method)
    heads = {
        "voc2007_map_pct": "VOC-07 mAP",
        "voc2012_map_pct": "VOC-12 mAP",
        "caltech101_recall_pct": "Caltech-101",
        "caltech256_recall_pct": "Caltech-256",
        "other_pct": "this data",
    }
    pairs = dict(COLUMNS.values())
    shown = table[table.table.isin(["11", THIS_RUN])]
    columns = [Column("method", [_method(line) for line in _lines(shown)], words=True)]
    for value, head in heads.items():
        if value == "other_pct" and outcome.data:
            continue
        cells = [_figure(line[value], line.get(pairs[value])) for line in _lines(shown)]
        columns.append(Column(head, cells))
    print_table("Table 11, and this run", columns)
    actions = table[table.table == "12"]
    print_table(
        "Table 12: VOC-2012 actions, as printed; this command does not measure it",
        [
            Column("method", [_method(line) for line in _lines(actions)], words=True),
            Column("mAP", [_figure(line["voc2012_action_map_pct"]) for line in _lines(actions)]),
        ],
    )


def conclusion(outcome: Outcome) -> list[str]:
    """The result in sentences."""
    lines = []
    for measure in MEASURES[outcome.task]:
        means = outcome.means(measure)
        what = {
            "recall_pct": "Mean class recall",
            "ap_2007_pct": "Mean average precision, VOC's 11 points of 2007",
            "ap_2010_pct": "Mean average precision, VOC's rule since 2010",
        }[measure]
        over = f" over {len(means)} splits" if len(means) > 1 else ""
        lines.append(f"{what}: {_mean_and_spread(means)} %{over}")
    edges = _edges(outcome)
    if edges:
        lines.append(
            f"C {', '.join(f'{c:g}' for c in edges)} is at the edge of the grid and better than "
            "all others; a wider grid may have a better one."
        )
    if not all(outcome.converged):
        lines.append(
            "Some SVMs did not converge, so their scores depend on when they were stopped; try "
            "smaller values of C."
        )
    lines.append(f"Beside the paper: {note(outcome)}.")
    return lines


def _edges(outcome: Outcome) -> list[float]:
    """Values of C that were chosen at the edge of the grid without an equal one inside."""
    found = set()
    for split in range(1, outcome.splits + 1):
        rows = sorted(row for row in outcome.grid if row.split == split)
        (best,) = (row for row in rows if row.chosen)
        equal = [row for row in rows if row.score_pct == best.score_pct]
        if len(rows) > 1 and len(equal) == 1 and best in (rows[0], rows[-1]):
            found.add(best.c)
    return sorted(found)


def _summary(outcome: Outcome, width: int) -> Iterable[dict[str, object]]:
    for measure in MEASURES[outcome.task]:
        means = outcome.means(measure)
        yield {
            "task": outcome.task,
            "measure": measure.removesuffix("_pct"),
            "mean_pct": sum(means) / len(means),
            "sd_pct": spread(means),
            "splits": outcome.splits,
            "classes": len({row.name for row in outcome.rows}),
            "width": width,
            "c": " ".join(f"{c:g}" for c in outcome.chosen()),
            "converged": all(outcome.converged),
            "data": outcome.data,
        }


def _splits(outcome: Outcome) -> Iterable[dict[str, object]]:
    for index, (train, test) in enumerate(outcome.images):
        measured = {name: outcome.means(name)[index] for name in MEASURES[outcome.task]}
        yield {
            "split": index + 1,
            "train": train,
            "test": test,
            "c": outcome.chosen()[index],
            **measured,
            "converged": outcome.converged[index],
        }


def _csv(table: Table, rows: Iterable[Mapping[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.names)
    writer.writerows([_cell(row.get(name)) for name in table.names] for row in rows)
    return text.getvalue()


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}"
    return csv_text(str(value))


def _lines(table) -> list[dict[str, object]]:  # type: ignore[no-untyped-def]  # of pandas
    found: list[dict[str, object]] = table.to_dict("records")
    return found


def _method(line: Mapping[str, object]) -> str:
    noted = line["note"] if line["table"] != THIS_RUN else ""
    return f"{line['method']} ({noted})" if noted else str(line["method"])


def _figure(value: object, deviation: object = None) -> str:
    if not isinstance(value, float) or math.isnan(value):
        return ""
    if isinstance(deviation, float) and not math.isnan(deviation):
        return f"{value:.1f} ± {deviation:.1f}"
    return f"{value:.1f}"


def _mean_and_spread(values: Sequence[float]) -> str:
    mean, deviation = sum(values) / len(values), spread(list(values))
    return f"{mean:.1f}" if math.isnan(deviation) else f"{mean:.1f} ± {deviation:.1f}"
