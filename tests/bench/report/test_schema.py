"""The schema of tables against the files that the commands write, and docs/tables.md."""

import importlib.util
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest

from bench.cli import main as vgg_bench
from bench.features.cli import main as vgg_features
from bench.predict.cli import main as vgg_predict
from bench.report.schema import OF_BENCH, OF_FEATURES, OF_PREDICT
from export.quantize.sensitivity import Sensitivity
from export.schema import SENSITIVITY
from tests.support.nets import CLASSES, save_net, thin_net
from tests.support.run import run
from train.record.schema import METRICS, STEPS
from train.record.tables import COLUMNS, STEP_COLUMNS

# Written by runs of their own, see tests/bench/{distances,memory,earlier,history}
OF_OTHER_RUNS = (
    "distances.csv",
    "distance_pairs.csv",
    "memory.csv",
    "against.csv",
    "history.csv",
    "load.csv",
    "load_samples.csv",
)
DOCS = Path(__file__).parents[3] / "docs"


def check_values(table, frame):
    """Every column in its order, with values of its kind."""
    assert list(frame.columns) == table.names, table.file
    for column in table.columns:
        values = frame[column.name].dropna()
        if values.empty:
            continue
        if column.kind == "True or False":
            assert values.dtype == bool, column
        elif column.kind == "whole number":
            assert (values.astype(float) % 1 == 0).all(), column
        elif column.kind == "number":
            assert pd.api.types.is_numeric_dtype(values), column


@pytest.mark.slow
def test_every_table_of_bench_has_the_described_columns(photos, here):
    nets = [save_net(thin_net(arch), here / f"{arch}.pt") for arch in ("A", "B")]
    localiser = save_net(thin_net("A", boxes="shared"), here / "boxes.pt")
    boxes = [f"val/{name}/{i:03d},{name},1,1,9,9" for name in CLASSES for i in range(6)]
    (here / "boxes.csv").write_text("\n".join(["image,class,xmin,ymin,xmax,ymax", *boxes]))
    nets += ["--boxes-by", localiser, "--boxes", "boxes.csv"]
    options = ["--data", photos, "--paper-tables", "--threads", "1", "--latency-seconds", "0.01"]
    nets += ["--torch-precision", "fp32,bf16", "--per-layer"]
    nets += ["--explain", photos / "val" / "disc" / "000.jpeg"]
    run(vgg_bench, *nets, *options, "--batch-sizes", "1", "--side-by-side")
    written = {path.name for path in (here / "results").glob("*.csv")}
    tables = [table for table in OF_BENCH if table.file not in OF_OTHER_RUNS]
    assert written == {table.file for table in tables}
    assert len(tables) == len(OF_BENCH) - len(OF_OTHER_RUNS)
    for table in tables:
        check_values(table, pd.read_csv(here / "results" / table.file))


def test_tables_of_predictions_have_the_described_columns(photos, here):
    net = save_net(thin_net("A"), here / "A.pt")
    run(vgg_predict, net, photos / "val", "--out", "p.csv", "--threads", "1")
    run(vgg_predict, net, photos / "val", "--out", "p.parquet", "--threads", "1")
    for frame in (pd.read_csv("p.csv"), pd.read_parquet("p.parquet")):
        check_values(OF_PREDICT[0], frame)


def test_lists_of_features_have_the_described_columns(photos, here):
    net = save_net(thin_net("A"), here / "A.pt")
    run(vgg_features, net, photos, "--scales", "32", "--threads", "1")
    check_values(OF_FEATURES[0], pd.read_csv(here / "features" / "images-00000.csv"))


def test_tables_of_training_and_export_have_the_described_columns():
    assert tuple(METRICS.names) == COLUMNS and tuple(STEPS.names) == STEP_COLUMNS
    assert SENSITIVITY.names == [field.name for field in fields(Sensitivity)]


def test_the_page_is_that_of_the_schema():
    spec = importlib.util.spec_from_file_location("tables", DOCS / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DOCS / "tables.md").read_text(encoding="utf-8") == module.page()
