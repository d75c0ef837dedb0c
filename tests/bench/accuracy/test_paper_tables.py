"""The paper's numbers, and the rows that nets fill."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bench.accuracy.paper_tables import fill_tables, nets_of, paper_numbers, paper_rows
from bench.cli import main as vgg_bench
from bench.models.model import ModelOptions, open_models
from tests.support.nets import save_net, thin_net
from tests.support.run import run


def test_the_numbers_keep_the_orderings_that_the_paper_finds():
    """Deeper is better up to 19 layers, jitter is better than fixed S, and several scales than one.

    Both methods together are better than each.
    """
    numbers = paper_numbers()
    single, multi = (numbers[numbers.table == t].set_index("nets").top1 for t in (3, 4))
    assert single["A@256"] > single["B@256"] > single["C@256"] > single["D@256"]
    assert len(single) == 12 and len(multi) == 10
    for net in multi.index:
        assert multi[net] < single[net]
        assert single[net.split("@")[0] + "@256"] >= single[net]
    for arch in "DE":
        of_net = numbers[(numbers.table == 5) & (numbers.nets == f"{arch}@256-512")]
        methods = of_net.set_index("protocol").top1
        assert methods["multicrop+dense"] < methods["multicrop"] < methods["dense"]
        assert methods["dense"] == multi[f"{arch}@256-512"]
    assert (numbers.top5.dropna() < 20).all()
    assert numbers.table.value_counts().sort_index().tolist() == [12, 10, 6, 4, 15]


def nets(tmp_path, *trained, crop=224, width=1 / 64):
    """Checkpoints of thin nets, each trained as (arch, lowest S, highest S)."""
    paths = []
    for i, (arch, low, high) in enumerate(trained):
        net = thin_net(arch, seed=i, crop=crop, width=width)
        net.spec = replace(net.spec, train_side=(low, high))
        paths.append(save_net(net, tmp_path / f"{arch}-{low}-{high}-{crop}-{width}.pt"))
    return paths


def test_nets_fill_their_rows_and_the_submission(tmp_path):
    seven = [
        ("D", 256, 256),
        ("D", 384, 384),
        ("D", 256, 512),
        ("C", 256, 256),
        ("C", 384, 384),
        ("E", 256, 256),
        ("E", 384, 384),
    ]
    models = open_models(nets(tmp_path, *seven, ("E", 256, 512)), ModelOptions())
    rows = paper_rows(models)
    printed = paper_numbers().query("nets != ''")
    known = {
        (line.table, " ".join(sorted(line.nets.split())), line.protocol, line.scales)
        for line in printed.itertuples()
    }
    found = {
        (table, nets_of(row, models), row.protocol, row.scales.split()[0]) for table, row in rows
    }
    missing = known - found
    missing_nets = {(table, nets.split("@")[0]) for table, nets, _, _ in missing}
    assert missing_nets == {(3, "A"), (3, "A-LRN"), (3, "B"), (4, "B"), (3, "C"), (4, "C")}
    assert all(nets in ("C@256-512", "A@256", "A-LRN@256", "B@256") for _, nets, _, _ in missing)
    assert all(row.flips for _, row in rows)


@pytest.mark.slow
def test_tables_of_two_jittered_nets(tmp_path, photos):
    """End to end: the tables hold the paper's numbers, and the errors of accuracy.csv."""
    (tmp_path / "w").mkdir()
    d, e = nets(tmp_path, ("D", 256, 512), ("E", 256, 512))
    out = tmp_path / "results"
    args = ["--paper-tables", "--data", photos, "--images", "2", "--measure", "accuracy"]
    output = run(vgg_bench, d, e, *args, "--cells", tmp_path / "c", "--out", out)
    assert "Table 7: comparison with the state of the art" in output
    assert "50,000 validation images of ILSVRC-2012" in output
    tables, accuracy = pd.read_csv(out / "paper_tables.csv"), pd.read_csv(out / "accuracy.csv")
    measured = tables[tables.top1_measured.notna()]
    assert measured.table.value_counts().sort_index().tolist() == [2, 2, 6, 3, 3]
    assert measured.top1_paper.notna().sum() == 15
    difference = measured.top1_measured - measured.top1_paper
    assert (measured.top1_difference - difference).abs().max() < 1e-9
    protocols = {
        "dense": "dense",
        "multi-crop": "multicrop",
        "multi-crop & dense": "multicrop+dense",
    }
    for line in measured.itertuples():
        same = accuracy[
            (accuracy.model == line.model)
            & (accuracy.protocol == protocols[line.method])
            & accuracy.scales.str.endswith(f" {line.Q}")
        ]
        assert same.top1_error_pct.tolist() == [line.top1_measured]
    assert measured[measured.table == 6].model.unique().tolist() == [f"{d.name} + {e.name}"]
    assert set(measured[measured.table == 3].Q) == {"384"}
    assert set(measured[measured.table == 4].Q) == {"256+384+512"}
    assert tables[tables.net.str.startswith("GoogLeNet")].top5_paper.tolist() == [7.9, 6.7]
    report = (out / "paper_tables.md").read_text()
    assert "| E | [256;512] | 256+384+512 | multi-crop & dense |" in report.replace("**", "")
    assert np.isfinite(measured[["top1_low", "top1_high"]]).all(axis=None)


def test_nets_that_are_not_in_the_paper_get_rows_of_their_own(tmp_path):
    (path,) = nets(tmp_path, ("B", 240, 320))
    models = open_models([path], ModelOptions())
    tables = fill_tables(models, {})
    assert tables[3].iloc[-1][["net", "S", "method"]].tolist() == ["B", "[240;320]", "dense"]
    assert len(tables[3]) == 13
    assert len(tables[5]) == 6 + 3 and len(tables[6]) == 4


def test_nets_of_another_crop_stand_beside_their_configuration(tmp_path):
    """Rows written out by hand: 256, 384 and 512 at crop 64 are 73.1, 109.7 and 146.3."""
    trained = [("D", 73, 73), ("D", 110, 110), ("D", 73, 146), ("E", 73, 146)]
    models = open_models(nets(tmp_path, *trained, crop=64, width=1 / 32), ModelOptions())
    tables = fill_tables(models, {})
    columns = ["net", "S", "not_as_printed", "top1_paper"]
    width = ", width 0.03125"
    third = tables[3][tables[3].net.isin(["D", "E"])][columns].values.tolist()
    assert third == [
        ["D", "256", "crop 64, S 73" + width, 27.0],
        ["D", "384", "crop 64, S 110" + width, 26.8],
        ["D", "[256;512]", "crop 64, S [73;146]" + width, 25.6],
        ["E", "256", "", 27.3],
        ["E", "384", "", 26.9],
        ["E", "[256;512]", "crop 64, S [73;146]" + width, 25.5],
    ]
    assert [len(tables[number]) for number in (3, 4, 5)] == [12, 10, 6]  # no row of their own
    sixth = tables[6][columns].values.tolist()
    assert sixth[1:4] == [
        ["D and E", "[256;512]", "crop 64, S [73;146]" + width, 24.0],
        ["D and E", "[256;512]", "crop 64, S [73;146]" + width, 23.9],
        ["D and E", "[256;512]", "crop 64, S [73;146]" + width, 23.7],
    ]


def test_one_row_takes_nets_of_several_widths_and_does_not_fuse_them(tmp_path):
    wide = nets(tmp_path, ("A", 256, 256), width=1 / 16)
    models = open_models([*nets(tmp_path, ("A", 256, 256)), *wide], ModelOptions())
    tables = fill_tables(models, {})
    first = tables[3].head(3)[["net", "not_as_printed"]].values.tolist()
    assert first == [["A", "width 0.015625"], ["A", "width 0.0625"], ["A-LRN", ""]]
    assert len(tables[6]) == 4  # the printed rows only


def test_a_side_that_stands_for_none_of_the_papers_keeps_its_row(tmp_path):
    models = open_models(nets(tmp_path, ("A", 80, 80), crop=64), ModelOptions())
    last = fill_tables(models, {})[3].iloc[-1]
    assert last[["net", "S"]].tolist() == ["A", "80"] and np.isnan(last.top1_paper)


def test_options_that_the_tables_fix(tmp_path):
    for option in (["--scales", "256"], ["--protocols", "dense"], ["--fuse", "all"]):
        output = run(vgg_bench, "x.pt", "--paper-tables", *option, code=2)
        assert "leave --scales, --protocols and --fuse out" in output


@pytest.mark.parametrize(
    ("fuse", "message"),
    [("A.pt", "at least two"), ("A.pt,B.pt", "no model 'B.pt'"), ("all", "at least two")],
)
def test_impossible_fusions_are_refused(tmp_path, photos, fuse, message):
    path = save_net(thin_net("A"), tmp_path / "A.pt")
    args = ["--scales", "64", "--data", photos, "--fuse", fuse]
    assert message in run(vgg_bench, path, *args, code=2)
