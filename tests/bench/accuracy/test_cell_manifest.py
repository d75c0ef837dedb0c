"""Manifests of cells: they describe a cell and its times, and rows are valid without them."""

import binascii
import hashlib
import json

import numpy as np
import pytest

from bench.accuracy.measure import score_cells
from bench.accuracy.selection import select_rows
from bench.accuracy.settings import Scoring, Storage
from bench.models.model import ModelOptions, open_models
from tests.support.cells import measure
from tests.support.faulty_nets import softmax_before_average
from tests.support.nets import thin_net
from tests.support.written import written_onnx
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.errors import CheckFailed


def test_a_cell_without_its_manifest_loses_nothing(stored, capsys):
    file, _, again = stored
    file.with_suffix(".json").unlink()
    measured, lines = again(capsys)
    assert measured.scored == 0 and not lines and file.with_suffix(".json").exists()
    (cell,) = measured.cells.values()
    assert np.isnan(cell.ms_per_image)


def test_the_fault_of_a_stored_cell_is_found_without_its_manifest(photos, tmp_path):
    """The rows show it: an earlier format recorded it in the manifest alone."""
    path = written_onnx(tmp_path / "faulty.onnx", thin_net("A"), fault=softmax_before_average)
    for _ in range(2):
        message = "faulty.onnx at Q=80: its posterior is not the softmax of its mean score"
        with pytest.raises(CheckFailed, match=message):
            measure([path], photos, tmp_path / "cells", sides=(80,))
        for manifest in (tmp_path / "cells").glob("*.json"):
            manifest.unlink()
    models = open_models([path], ModelOptions())
    rows = select_rows(models, "dense", (80,), False, ())
    scoring = Scoring(Storage(tmp_path / "cells", "float32"), 5, 1, "stop")
    measured, _ = score_cells(models, rows, open_dataset(photos, "val"), scoring)
    assert measured.scored == 0


@pytest.mark.parametrize(
    "damage", ["", "{}", "[]", '{"seconds": "long"}', "[" * 100_000, '{"format": 2', "\ud800"]
)
@pytest.mark.slow
def test_a_damaged_manifest_costs_the_times_only(stored, capsys, damage):
    file, _, again = stored
    manifest = file.with_suffix(".json")
    manifest.write_text(damage, errors="surrogatepass")
    measured, lines = again(capsys)
    assert len(lines) >= 1 and all(".damaged" in line for line in lines)
    assert measured.scored in (0, 24) and json.loads(manifest.read_text())["finished"] == 24


@pytest.mark.parametrize("field", ["seconds", "timed", "machine"])
@pytest.mark.parametrize("value", [None, "x", float("inf"), float("nan"), -1, 1e400])
@pytest.mark.slow
def test_invalid_times_are_not_used(stored, capsys, field, value):
    file, _, again = stored
    manifest = file.with_suffix(".json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), field: value}))
    measured, _ = again(capsys)
    (cell,) = measured.cells.values()
    assert measured.scored == 0 and np.isnan(cell.ms_per_image)


def times_crc32(manifest: dict) -> int:
    """Oracle: binascii's CRC over the SHA-256 of a manifest without what is not covered."""
    covered = dict(manifest)
    for name in ("finished", "times_crc32"):
        del covered[name]
    digest = hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()
    return binascii.crc32(digest.encode())


@pytest.mark.parametrize(
    ("field", "value"), [("seconds", 9.5), ("timed", 3), ("timed", 24.5), ("times_crc32", 5)]
)
@pytest.mark.slow
def test_edited_times_are_not_used(stored, capsys, field, value):
    file, _, again = stored
    manifest = file.with_suffix(".json")
    written = json.loads(manifest.read_text())
    assert written["times_crc32"] == times_crc32(written)
    manifest.write_text(json.dumps({**written, field: value}))
    measured, lines = again(capsys)
    (cell,) = measured.cells.values()
    assert measured.scored == 0 and np.isnan(cell.ms_per_image)
    assert len(lines) == 1 and "only the times in it are lost" in lines[0]


@pytest.mark.parametrize(
    "field", ["model_sha256", "data_sha256", "version", "images", "settings", "decoder"]
)
@pytest.mark.slow
def test_a_manifest_of_another_cell_contradicts_the_rows(stored, capsys, field):
    file, _, again = stored
    manifest = file.with_suffix(".json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), field: "another"}))
    measured, lines = again(capsys)
    assert measured.scored == 24 and len(lines) == 2
    assert all("its manifest is that of another cell" in line for line in lines)


def test_cells_of_another_format_are_not_used(stored, capsys):
    file, _, again = stored
    old = file.with_name("torch-fp32-Q48-dense-0123456789.json")
    old.write_text(json.dumps({"format": 1, "finished": 24}))
    measured, lines = again(capsys)
    assert measured.scored == 0 and old.exists()
    assert lines == [
        f"{file.parent}: 1 cell of another version of vgg-bench will not be used; delete the "
        "folder when no other version needs it"
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("host", "elsewhere"),
        ("cpu", "an older one"),
        ("instructions", ["avx2"]),
        ("threads", 64),
        ("processes", 8),
    ],
)
@pytest.mark.slow
def test_times_of_another_machine_are_not_continued(stored, capsys, field, value):
    file, _, again = stored
    measured, _ = again(capsys)
    (cell,) = measured.cells.values()
    assert cell.ms_per_image > 0
    manifest = file.with_suffix(".json")
    written = json.loads(manifest.read_text())
    written["machine"][field] = value
    written["times_crc32"] = times_crc32(written)
    manifest.write_text(json.dumps(written))
    measured, lines = again(capsys)
    (cell,) = measured.cells.values()
    assert measured.scored == 0 and not lines and np.isnan(cell.ms_per_image)
