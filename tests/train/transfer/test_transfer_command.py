"""`python -m train.transfer` as a user meets it.

Oracles: scikit-learn called directly on the same images, and its recall_score.
"""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mean_average_precision.utils import compute_average_precision, compute_precision_recall
from sklearn.metrics import recall_score
from sklearn.svm import LinearSVC

from tests.support.features import write_features
from tests.support.run import run
from tests.train.transfer.conftest import (
    VOC_CLASSES,
    class_photos,
    descriptors_of,
    voc_sets,
    write_voc,
)
from train.transfer import tables
from train.transfer.__main__ import main as transfer
from train.transfer.class_labels import listed_classes
from train.transfer.outcome import ClassRow, GridRow, Outcome
from train.transfer.paper import (
    caltech_of_paper,
    paper_numbers,
    voc_of_paper,
    with_this_run,
)
from train.transfer.request import ALL
from train.transfer.schema import OF_TRANSFER
from train.transfer.single import SingleProtocol, draw_splits
from train.transfer.splits import held_out, held_out_by_class
from train.transfer.voc_lists import ImageSet, VocTruth
from vgg_deploy.features.folder import open_features
from vgg_deploy.progress import PlainConsole

ROOT = Path(__file__).parents[3]
SINGLE = ("--task", "single", "--train-per-class", 12, "--test-per-class", 6)


def table(name: str) -> pd.DataFrame:
    return pd.read_csv(Path("transfer") / f"{name}.csv", keep_default_na=False, na_values=[""])


def unit(rows):
    return (rows / np.linalg.norm(rows.astype(float), axis=1, keepdims=True)).astype("f4")


def test_single(here, single_features):
    output = run(transfer, "--features", single_features, *SINGLE, "--seed", 5)
    opened = open_features(single_features)
    rows = unit(opened.take("relu7", np.arange(60)))
    labels = np.repeat(np.arange(3), 20)
    splits = draw_splits(listed_classes(("cat", "dog", "owl"), labels), SingleProtocol(3, 12, 6, 5))
    measured, chosen = table("classes"), table("splits").c
    means = []
    for number, split in enumerate(splits, start=1):
        model = LinearSVC(C=chosen[number - 1], random_state=5, max_iter=10_000, dual=True)
        answers = model.fit(rows[split.train], labels[split.train]).predict(rows[split.test])
        recalls = 100 * recall_score(labels[split.test], answers, average=None)
        mine = measured[measured.split == number]
        assert mine.name.tolist() == ["cat", "dog", "owl"]
        np.testing.assert_allclose(mine.recall_pct, recalls)
        assert mine.train.tolist() == [12] * 3 and mine.test.tolist() == [6] * 3
        means.append(recalls.mean())
    (summary,) = table("summary").itertuples()
    assert summary.mean_pct == pytest.approx(np.mean(means))
    assert summary.sd_pct == pytest.approx(np.std(means, ddof=1))
    assert (summary.splits, summary.classes, summary.width) == (3, 3, 16)
    assert f"Mean class recall: {np.mean(means):.1f} ± {np.std(means, ddof=1):.1f} %" in output
    assert "36 and 18" in output and "not comparable" in output


def test_c_is_the_best_of_the_grid_on_held_out_images(here, single_features):
    run(transfer, "--features", single_features, *SINGLE, "--c-grid", "10,0.001,1")
    grid = table("c_grid")
    assert grid.c.tolist() == [0.001, 1, 10] * 3
    for _, of_split in grid.groupby("split"):
        (chosen,) = of_split[of_split.chosen].itertuples()
        best = of_split[of_split.score_pct == of_split.score_pct.max()]
        assert chosen.c == best.c.min()
    assert table("splits").c.tolist() == grid[grid.chosen].c.tolist()
    # held out are 2 of 12 images per class
    assert {round(score * 6 / 100, 6) for score in grid.score_pct} <= set(range(7))


def test_scores_of_the_grid_are_those_of_images_that_were_not_learnt(here, single_features):
    run(transfer, "--features", single_features, *SINGLE, "--c-grid", "1,1000", "--seed", 2)
    rows = unit(open_features(single_features).take("relu7", np.arange(60)))
    labels = np.repeat(np.arange(3), 20)
    listed = listed_classes(("cat", "dog", "owl"), labels)
    scores = []
    for number, split in enumerate(draw_splits(listed, SingleProtocol(3, 12, 6, 2)), start=1):
        held = held_out_by_class(labels[split.train], (2, number))
        learnt, asked = split.train[~held], split.train[held]
        for c in (1, 1000):
            model = LinearSVC(C=c, random_state=2, max_iter=10_000, dual=True)
            answers = model.fit(rows[learnt], labels[learnt]).predict(rows[asked])
            scores.append(100 * recall_score(labels[asked], answers, average="macro"))
    assert table("c_grid").score_pct.tolist() == pytest.approx(scores)


def test_multi(here, voc, voc_features):
    root, sets = voc
    output = run(transfer, "--features", voc_features, "--task", "multi", "--annotations", root)
    (grid,) = [table("c_grid")]
    (c,) = grid[grid.chosen].c
    truth = np.array([*sets["trainval"].values(), *sets["test"].values()])
    rows = unit(open_features(voc_features).take("relu7", np.arange(100)))
    measured = table("classes")
    assert measured.name.tolist() == list(VOC_CLASSES)
    for column, row in enumerate(measured.itertuples()):
        train = np.flatnonzero(truth[:60, column] != 0)
        test = 60 + np.flatnonzero(truth[60:, column] != 0)
        model = LinearSVC(C=c, random_state=0, max_iter=10_000, dual=True)
        model.fit(rows[train], truth[train, column] > 0)
        scores = rows[test].astype(float) @ model.coef_[0] + model.intercept_[0]
        hit = truth[test, column][np.argsort(-scores)] > 0
        precision, recall = compute_precision_recall(hit, ~hit, hit.sum())
        assert row.ap_2010_pct == pytest.approx(100 * compute_average_precision(precision, recall))
        assert row.difficult == 40 - len(test) and row.test == hit.sum()
    summary = table("summary").set_index("measure")
    for rule in ("ap_2007", "ap_2010"):
        assert summary.mean_pct[rule] == pytest.approx(measured[f"{rule}_pct"].mean())
    assert np.isnan(summary.sd_pct).all()
    assert "60 images of trainval to learn from, 40 of test to score" in output
    assert "C by VOC's rule of 2007" in output
    record = json.loads(Path("transfer/transfer.json").read_text())
    assert record["c_chosen_by"] == "ap_2007_pct"


@pytest.mark.parametrize("rule", ["2007", "2010"])
def test_c_of_the_multi_task_is_chosen_by_the_rule_on_a_fifth(here, voc, voc_features, rule):
    from train.transfer.average_precision import average_precision

    root, sets = voc
    run(
        transfer, "--features", voc_features, "--task", "multi", "--annotations", root,
        "--ap", rule, "--c-grid", "1",
    )  # fmt: skip
    truth = np.array([*sets["trainval"].values()])
    rows = unit(open_features(voc_features).take("relu7", np.arange(60)))
    held = held_out(60, (0,))
    values = []
    for column in range(3):
        train = np.flatnonzero((truth[:, column] != 0) & ~held)
        model = LinearSVC(C=1, random_state=0, max_iter=10_000, dual=True)
        model.fit(rows[train], truth[train, column] > 0)
        scores = rows[held].astype(float) @ model.coef_[0] + model.intercept_[0]
        values.append(100 * average_precision(scores, truth[held, column]).by(rule))
    assert table("c_grid").score_pct.tolist() == pytest.approx([np.mean(values)])


def test_the_same_seed_gives_the_same_bytes(here, single_features):
    words = ("--features", single_features, *SINGLE)
    for out in ("one", "two", "one"):
        run(transfer, *words, "--out", out)
    run(transfer, *words, "--out", "other", "--seed", 1)
    names = [table.file for table in OF_TRANSFER] + ["transfer.json"]
    assert sorted(path.name for path in Path("one").iterdir()) == sorted(names)
    for name in names:
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()
    assert Path("one/classes.csv").read_bytes() != Path("other/classes.csv").read_bytes()


def test_fused_nets_and_class_folders(here, single_features):
    images, classes = class_photos()
    second = write_features(
        here / "second", images[::-1], classes[::-1],
        {"relu7": descriptors_of(classes[::-1], 5, 3)},
    )  # fmt: skip
    for image in images:
        (here / "photos" / image).parent.mkdir(parents=True, exist_ok=True)
        (here / "photos" / image).touch()
    output = run(
        transfer, "--features", single_features, "--features", second, *SINGLE,
        "--annotations", "photos",
    )  # fmt: skip
    assert "D.pt relu7 + D.pt relu7: 60 images, 21 numbers each" in output
    assert table("paper_tables").method.iloc[-1] == "D.pt relu7 + D.pt relu7"


def test_every_table_has_the_columns_of_its_schema(here, single_features):
    run(transfer, "--features", single_features, *SINGLE, "--splits", 1)
    for described in OF_TRANSFER:
        with open(Path("transfer") / described.file, newline="") as file:
            header, *rows = list(csv.reader(file))
        assert header == described.names and rows
        for row in rows:
            for cell, column in zip(row, described.columns, strict=True):
                match column.kind:
                    case "whole number":
                        int(cell)
                    case "number" if cell:
                        float(cell)
                    case "True or False":
                        assert cell in ("True", "False")


def test_the_papers_tables():
    """The printed figures, typed a second time."""
    numbers = paper_numbers().set_index("method")
    fused = numbers.loc["VGG, D & E"]
    assert fused[["voc2007_map_pct", "voc2012_map_pct"]].tolist() == [89.7, 89.3]
    assert fused.iloc[3:7].tolist() == [92.7, 0.5, 86.2, 0.3]
    assert numbers.loc["VGG, D", "caltech101_recall_pct"] == 91.8
    assert numbers.loc["VGG, E", "caltech256_sd"] == 0.3
    assert numbers.loc["Zeiler & Fergus", "voc2012_map_pct"] == 79.0
    assert numbers.voc2012_action_map_pct.dropna().tolist() == [70.2, 73.6, 76.3, 79.2, 84.0]
    assert (numbers.table == "11").sum() == 8 and (numbers.table == "12").sum() == 5


def test_a_run_on_the_papers_data_stands_in_its_column(capsys):
    outcome = Outcome(
        "single", "recall_pct", "Caltech-101",
        rows=[ClassRow(split, "a", 30, 50, recall_pct=90.0 + split) for split in (1, 2, 3)],
        grid=[GridRow(split, 1.0, 90, True, True) for split in (1, 2, 3)],
        images=[(3060, 4000)] * 3, converged=[True] * 3,
    )  # fmt: skip
    last = with_this_run(outcome, "D.pt relu7").iloc[-1]
    assert (last.table, last.caltech101_recall_pct, last.caltech101_sd) == ("this run", 92, 1)
    assert np.isnan(last.other_pct) and "recognised as Caltech-101" in last.note
    tables.print_paper(outcome, "D.pt relu7")
    shown = capsys.readouterr().out
    assert "92.0 ± 1.0" in shown and "this data" not in shown


@pytest.mark.parametrize(
    ("data", "splits", "train", "test", "known"),
    [
        ("Caltech-101", 3, 30, 50, True),
        ("Caltech-101", 3, 15, 50, False),
        ("Caltech-101", 3, 30, ALL, False),
        ("Caltech-101", 1, 30, 50, False),
        ("Caltech-256", 3, 60, ALL, True),
        ("Caltech-256", 3, 60, 50, False),
        ("", 3, 30, 50, False),
    ],
)
def test_another_protocol_is_not_the_papers(data, splits, train, test, known):
    found = caltech_of_paper(data, SingleProtocol(splits, train, test, 0))
    assert found == (data if known else "")


def test_other_sets_of_voc_are_not_the_papers(here):
    """Twenty classes and the sets trainval and test."""

    def truth(classes=20, train="trainval", test="test", root="VOC2007"):
        names = tuple(map(str, range(classes)))
        sets = (
            ImageSet(name, ("a",), np.ones((1, classes)), "ImageSets") for name in (train, test)
        )
        return VocTruth(Path(root), names, *sets)

    assert voc_of_paper(truth()) == "VOC2007"
    assert voc_of_paper(truth(root="VOC2012")) == "VOC2012"
    for other in (truth(19), truth(train="train"), truth(test="val"), truth(root="VOC2010")):
        assert voc_of_paper(other) == ""


def test_all_other_images_are_tested(here, single_features):
    output = run(
        transfer, "--features", single_features, "--task", "single", "--train-per-class", 5,
        "--test-per-class", "all", "--splits", 1, "--c-grid", 1,
    )  # fmt: skip
    assert "5 training images and all other images as test images per class: 15 and 45" in output
    assert table("classes").test.tolist() == [15] * 3


def test_of_many_classes_the_lowest_are_printed(here):
    images, classes = class_photos([f"{i:02d}" for i in range(31)], 4)
    rows = {"relu7": descriptors_of(classes, 8)}
    folder = write_features(here / "f", images, classes, rows, images_per_shard=500)
    words = ("--task", "single", "--train-per-class", 2, "--splits", 1, "--c-grid", 1)
    assert "The lowest 30 of 31 classes" in run(transfer, "--features", folder, *words)


def test_the_tables_fit_80_columns(here, single_features, monkeypatch):
    shown = io.StringIO()
    console = PlainConsole(width=80, file=shown)
    monkeypatch.setattr(tables, "print_table", partial(tables.print_table, console=console))
    run(transfer, "--features", single_features, *SINGLE, "--splits", 9)
    lines = shown.getvalue().splitlines()
    assert len(lines) > 30 and max(map(len, lines)) <= 80
    assert any(line.endswith("split 8 %, split 9 %.") for line in lines)


def wrong(*words, code=2) -> str:
    output = run(transfer, *words, code=code)
    assert output.count("Error:") == 1
    return output.partition("Error: ")[2]


def test_wrong_options(here, single_features):
    single = ("--features", single_features, "--task", "single")
    assert "--annotations" in wrong("--features", single_features, "--task", "multi")
    assert "belongs to --task multi" in wrong(*single, "--ap", "2007")
    assert "belongs to --task single" in wrong(*single[:3], "multi", "--splits", 3)
    for grid in ("x", "", "0", "-1", "nan", "inf", "1,,2", "1e12"):
        assert "--c-grid" in wrong(*single, "--c-grid", grid), grid
    assert "101 values are more than 100" in wrong(
        *single, "--c-grid", ",".join(map(str, range(1, 102)))
    )
    assert "--test-per-class" in wrong(*single, "--test-per-class", 0)
    for option in ("--splits", "--train-per-class", "--test-per-class", "--seed"):
        for value in ("x", "-1", "99999999999", "1.5"):
            assert option in wrong(*single, option, value)
    assert "--train-per-class" in wrong(*single, "--train-per-class", 1)
    assert "Missing option '--features'" in wrong("--task", "single")
    assert not Path("transfer").exists()


def test_wrong_folders(here, single_features, voc, voc_features):
    nothing = ("--features", here / "nothing", "--task", "single")
    assert "is not a folder" in wrong(*nothing) and "check --features" in wrong(*nothing)
    single = ("--features", single_features, "--task", "single")
    assert "name one with --layer" in wrong(*single, "--layer", "relu8")
    assert "leave none to test; choose another --train-per-class" in wrong(*single)
    assert "name the data set with --annotations" in wrong(
        "--features", voc_features, "--task", "single"
    )
    assert "use --task multi" in wrong(*single, "--annotations", voc[0])
    multi = ("--features", single_features, "--task", "multi", "--annotations")
    assert "no ImageSets/Main" in wrong(*multi, single_features)
    assert "has no features of 000001 (and of 59 others)" in wrong(*multi, voc[0])
    assert "choose with --train-set and --test-set" in wrong(*multi, voc[0], "--train-set", "val")
    assert not Path("transfer").exists()


def test_two_images_of_one_name(here, voc):
    images = ["a/000001.jpg", "b/000001.png"]
    folder = write_features(here / "f", images, ["", ""], {"relu7": np.ones((2, 3), "f4")})
    assert "has two images named 000001" in wrong(
        "--features", folder, "--task", "multi", "--annotations", voc[0]
    )


@pytest.mark.parametrize("labels", [(1, 0, -1), (-1, 0, 1)])
def test_a_class_that_no_image_shows(here, voc_features, labels):
    """Every image has the same labels; the second class is only difficult."""
    sets = voc_sets()
    for name, images in sets.items():
        sets[name] = dict.fromkeys(images, labels)
    root = write_voc(here / "x" / "VOC2007", sets)
    assert "no image of the set trainval shows" in wrong(
        "--features", voc_features, "--task", "multi", "--annotations", root
    )


def test_results_replace_only_results(here, single_features):
    words = ("--features", single_features, *SINGLE, "--out", "out")
    Path("out").mkdir()
    Path("out/classes.csv").write_text("mine")
    assert "is there without transfer.json" in wrong(*words)
    assert Path("out/classes.csv").read_text() == "mine"
    Path("file").touch()
    assert "not a folder" in wrong(*words[:-1], "file")
    assert "not a folder" in wrong(*words[:-1], "file/below")


def test_damaged_features_write_nothing(here, single_features):
    path = single_features / "relu7-00003.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert "relu7-00003.npy: has another sha256" in wrong("--features", single_features, *SINGLE)
    (single_features / "features.json").rename(single_features / "features.part.json")
    assert "is not complete" in wrong("--features", single_features, *SINGLE)
    assert not Path("transfer").exists()


def test_without_scikit_learn(here, single_features, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert 'pip install "vgg-deploy[transfer]"' in wrong("--features", single_features, *SINGLE)


def test_too_little_memory(here, single_features, monkeypatch):
    from train.transfer import command

    monkeypatch.setattr(command, "total_memory_bytes", lambda: 1000)
    assert "this machine has 0 GB; use --join average" in wrong(
        "--features", single_features, *SINGLE
    )


def test_names_that_could_do_harm(here):
    images, classes = class_photos(("=1+1", "::error::x", "b\x1b[31m"))
    rows = {"relu7": descriptors_of(classes, 8)}
    folder = write_features(here / "f", images, classes, rows)
    output = run(transfer, "--features", folder, *SINGLE)
    assert "\x1b" not in output and "::error" not in output
    names = {*table("classes").name}
    assert {json.loads(name) for name in names} == {*classes}


@pytest.mark.slow
def test_a_process_of_its_own(here, single_features):
    """As it is installed: help without heavy imports is in tests/test_structure.py."""
    shutil.copytree(single_features, here / "features")
    words = [sys.executable, "-m", "train.transfer", "--features", "features", *map(str, SINGLE)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert Path("transfer/summary.csv").exists()
