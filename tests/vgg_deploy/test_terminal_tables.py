"""Tables at 80 and 120 columns, and in files: rendered, and measured line by line."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bench.report.table_texts import accuracy_texts, comparison_texts, latency_texts
from bench.report.tables import columns_of, show
from bench.speed.latency import LatencyRow
from tests.support.cells import measure
from tests.support.nets import save_net, thin_net
from vgg_deploy.terminal_tables import Column, fitted, print_table

ROOT = Path(__file__).parents[2]
NAN = float("nan")


@pytest.fixture(scope="module")
def tables(photos, tmp_path_factory):
    """Tables of two nets by three protocols, and of calls that take long."""
    here = tmp_path_factory.mktemp("tables")
    paths = [save_net(thin_net("A", seed), here / f"D-fine-tuned-{seed}.pt") for seed in (0, 1)]
    protocols = "dense,ten,multicrop+dense-softmax-first"
    accuracy = measure(paths, photos, here / "cells", protocols, sides=(48, 64), flips=True)
    return {
        "accuracy": accuracy_texts(accuracy.scored, "Accuracy"),
        "comparisons": comparison_texts([pair.comparison for pair in accuracy.pairs]),
        "latency": latency_texts([latency_row(batch) for batch in (1, 8)], "Latency"),
    }


def latency_row(batch: int) -> LatencyRow:
    names = ("D.int8-cpu.onnx", "onnxruntime", "int8-cpu", "cpu", 16, 512, 683, batch)
    times = (12345.6, 100, 24.0, 1234.56, 1200.12, 1300.34, 8.0, True, "", 0.1, 1.0)
    return LatencyRow(*names, *times, 1400.5, NAN, 3.0, 123.4, 61.2, 1234.5)


def rendered(texts, width: int) -> str:
    file = io.StringIO()
    show(texts, Console(file=file, width=width, highlight=False, soft_wrap=True))
    return file.getvalue()


@pytest.mark.parametrize("name", ["accuracy", "comparisons", "latency"])
@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_no_line_is_longer_than_the_terminal_and_no_number_is_cut(tables, name, width):
    texts = tables[name]
    printed = rendered(texts, width)
    lines = printed.splitlines()[1:]  # the title may be longer
    table = [line for line in lines if line[:1] in "┏┃┡│└"]
    assert max(map(len, table)) <= width
    assert "…" not in printed
    shown = fitted(columns_of(texts), width)
    for column in shown:
        if not column.words:
            for cell in column.cells:
                assert f" {cell} " in printed, (column.head, cell)
    left_out = [column.head for column in columns_of(texts) if column not in shown]
    said = " ".join(printed.partition("Left out in ")[2].split())
    assert all(head in said for head in left_out) and bool(said) == bool(left_out)


def test_what_matters_most_stays(tables):
    heads = [column.head for column in fitted(columns_of(tables["accuracy"]), 80)]
    assert {"model", "protocol", "Q", "top-1 error %"} <= set(heads)
    heads = [column.head for column in fitted(columns_of(tables["latency"]), 80)]
    assert {"model", "H x W", "batch", "median ms", "images/s"} <= set(heads)


def test_columns_are_left_out_in_order():
    """Oracle: widths by hand; a column takes its width and 3, and the frame 1."""
    columns = [
        Column("a", ["12345"]), Column("b", ["123"], spare=1), Column("c", ["1"], spare=2),
    ]  # fmt: skip
    assert [c.head for c in fitted(columns, 19)] == ["a", "b", "c"]
    assert [c.head for c in fitted(columns, 18)] == ["a", "b"]
    assert [c.head for c in fitted(columns, 14)] == ["a"]
    assert [c.head for c in fitted(columns, 3)] == ["a"]


def test_long_names_are_folded_whole():
    name = "runs/a-very-long-folder/with-another-one/" + "x" * 60 + "/best.pt"
    file = io.StringIO()
    columns = [Column("model", [name], words=True), Column("ms", ["123.45"])]
    print_table("T", columns, console=Console(file=file, width=60))
    lines = [line for line in file.getvalue().splitlines() if line.startswith("│")]
    assert "".join(line.split("│")[1].strip() for line in lines) == name
    assert "123.45" in lines[0] and max(map(len, lines)) <= 60


def test_a_file_gets_every_column():
    """Oracle: the cells, each whole and in one line."""
    code = (
        "from vgg_deploy.terminal_tables import *;"
        "print_table('T', [Column(f'h{i}', ['x' * 20 + str(i)], i == 0, i) for i in range(12)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("│"))
    assert [cell.strip() for cell in line.strip("│").split("│")] == [
        "x" * 20 + str(i) for i in range(12)
    ]
    assert "Left out" not in done.stdout
