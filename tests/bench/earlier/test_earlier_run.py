"""Folders of earlier runs: what is read, what is missing, and damage in one sentence."""

import json
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from bench.earlier.csv_files import Wanted, read_columns
from bench.earlier.run import EarlierFile, Key, open_earlier
from bench.history.points import points_of
from bench.report.tables import write_frame
from tests.support.old_results import ENVIRONMENT, HEADS, old_results, run_of
from vgg_deploy.errors import InputError


def test_a_whole_folder_is_read(tmp_path):
    run = open_earlier(run_of(tmp_path / "r", 3, 20.5, 8))
    assert run.when == datetime(2026, 1, 3, 12, tzinfo=UTC) and run.label == "3333333"
    assert run.machine.shown == "Some CPU, 2 cores" and run.host == "here"
    assert run.data_sha256 == "ab" * 32 and run.versions == {"vgg-deploy": "0.9"}
    key = Key("net.onnx", "onnxruntime", "fp32")
    assert run.files == {key: EarlierFile("1.20", "cd" * 32, "/gone/net.onnx", 153)}
    assert run.accuracy.top1_error_pct.tolist() == [20.5] and run.accuracy.flips.tolist() == [True]
    assert run.latency.median_ms.tolist() == [8] and run.latency.joules_per_image.isna().all()
    assert run.memory.peak_mib.tolist() == [503]
    assert run.predictions is None and run.image_hashes == {}


def test_a_folder_of_an_earlier_version_has_what_it_has(tmp_path):
    """Without run.json, files, hashes, commit and energy."""
    folder = old_results(tmp_path / "r")
    head = "model,runtime,precision,device,threads,height_px,width_px,batch,median_ms,"
    (folder / "latency.csv").write_text(
        f"{head}median_low_ms,median_high_ms,steady\nA.pt,torch,fp32,cpu,2,64,64,1,3.5,,,False\n"
    )
    run = open_earlier(folder)
    assert run.commit is None and run.label == "2026-01-01 00:00" and run.data_sha256 == ""
    assert run.files == {} and run.memory is None and run.accuracy is None
    assert run.latency.joules_per_image.isna().all() and run.latency.median_ms.tolist() == [3.5]


def test_names_come_back_as_they_were(tmp_path):
    """Oracle: the writer's own table."""
    names = ["=1+1", 'a"b', '"x"', "l\nine", "", "Ä", "-x", "NA", "1"]
    write_frame(pd.DataFrame({"image": names, "sha256": names}), tmp_path / "images.csv")
    table = read_columns(tmp_path / "images.csv", Wanted(("image", "sha256")))
    assert table["image"].tolist() == table["sha256"].tolist() == names


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("model\nA.pt\n", "has no column runtime"),
        ("", "is not a table of vgg-bench"),
        (b"\xff\xfe\x00", "is not a table of vgg-bench"),
        (b"\x00" * 500, "has no column"),
        ('a,b\n"unclosed', "is not a table of vgg-bench"),
        ("HEAD\nA,torch,fp32,1,x,ab,/a\n", "column size_mb has 'x' (row 2)"),
        ("HEAD\nA,torch,fp32,1,1,ab,/a\nA,torch,fp32,1,inf,ab,/a\n", "has 'inf' (row 3)"),
        ("HEAD\nA,torch,fp32,1,1e999,ab,/a\n", "has '1e999'"),
        ('HEAD\n"""A",torch,fp32,1,1,ab,/a\n', "column model has '\"A'"),
        ('HEAD\n"""\\ud800",torch,fp32,1,1,ab,/a\n', "column model has"),
        ("HEAD\nA,torch,fp32,1,1,ab,/a,more,and,more\n", "column"),
    ],
)
def test_a_damaged_table_is_one_sentence(tmp_path, content, sentence):
    folder = old_results(tmp_path / "r")
    head = "model,runtime,precision,version,size_mb,sha256,path"
    if isinstance(content, str):
        content = content.replace("HEAD", head).encode()
    (folder / "files.csv").write_bytes(content)
    run = open_earlier(folder)
    with pytest.raises(InputError) as error:
        _ = run.files
    assert sentence in error.value.message and str(folder / "files.csv") in error.value.message
    assert "\n" not in error.value.message and "; run vgg-bench again" in error.value.message


def test_flags_are_true_or_false(tmp_path):
    folder = run_of(tmp_path / "r", 1, 20, 8)
    path = folder / "accuracy.csv"
    path.write_text(path.read_text().replace("True", "yes"))
    with pytest.raises(InputError, match="column flips has 'yes'"):
        _ = open_earlier(folder).accuracy


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("environment.json", "{", "is not JSON"),
        ("environment.json", "[]", "is not a JSON object"),
        ("environment.json", "{}", "has no 'when'"),
        ("environment.json", '{"when": 5}', "when is 5, expected: string"),
        ("environment.json", '{"when": "soon"}', "when is 'soon', expected: a time"),
        ("run.json", '{"complete": false}', "holds files of two runs"),
        ("run.json", "no", "is not JSON"),
    ],
)
def test_a_damaged_folder_is_one_sentence(tmp_path, name, content, sentence):
    folder = old_results(tmp_path / "r")
    (folder / name).write_text(content)
    with pytest.raises(InputError) as error:
        open_earlier(folder)
    assert sentence in error.value.message and str(folder) in error.value.message


def test_another_folder_is_no_results(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        open_earlier(tmp_path / "none")
    with pytest.raises(InputError, match=r"has no environment\.json, so it holds no results"):
        open_earlier(tmp_path)


@pytest.mark.parametrize(
    "entries",
    [
        {"commit": "main", "cpu": 5, "gpus": "x", "cores_allowed": 2, "versions": [1]},
        {"data": [], "host": None, "run_id": 7, "commit": {"id": "../../x", "changed": "no"}},
    ],
)
def test_entries_of_another_kind_count_as_missing(tmp_path, entries):
    folder = old_results(tmp_path / "r", entries)
    run = open_earlier(folder)
    assert run.commit is None and json.loads((folder / "environment.json").read_text())["when"]
    assert run.label == "2026-01-01 00:00" and ENVIRONMENT["when"].startswith("2026-01-01")


@pytest.mark.parametrize("seed", range(2))
def test_damage_anywhere_is_read_or_one_sentence(tmp_path, seed):
    """Bytes changed, cut or doubled in any file of a folder: numbers, or an error of our own."""
    rng, refused = np.random.default_rng(seed), 0
    folder = run_of(tmp_path / "r", 3, 20.5, 8)
    line = "net.onnx,onnxruntime,fp32,dense,256,True,a.jpg,disc,disc,0.9,1"
    (folder / "predictions.csv").write_text(HEADS["predictions.csv"] + f"\n{line}\n")
    (folder / "images.csv").write_text(HEADS["images.csv"] + f"\na.jpg,{'ef' * 32}\n")
    for _ in range(40):
        path = folder / rng.choice(sorted(file.name for file in folder.iterdir()))
        whole = path.read_bytes()
        at, length = int(rng.integers(len(whole))), int(rng.integers(1, 9))
        damage = [rng.bytes(length), b"", whole[at : at + 40] * 2, b'"', b"\n", b"\x00", b"1e999"]
        path.write_bytes(whole[:at] + damage[int(rng.integers(len(damage)))] + whole[at + length :])
        try:
            run = open_earlier(folder)
            points = points_of(run, "a machine")
            _ = run.predictions, run.image_hashes
            assert all(np.isfinite(point.value) for point in points)
        except InputError as error:
            refused += 1
            assert str(folder) in error.message and "\n" not in error.message
        path.write_bytes(whole)
    assert 5 < refused < 40
