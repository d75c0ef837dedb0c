"""Stored cells: computed once, resumed after an interruption, never mixed up with other cells."""

import binascii
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import __version__ as pillow_version

from bench.accuracy.cell_rows import row_states
from bench.accuracy.cell_store import CellSize, exclusive, open_cell
from bench.accuracy.measure import measure_accuracy, score_cells
from bench.accuracy.selection import select_rows
from bench.accuracy.settings import Scoring, Storage
from bench.cli import main as vgg_bench
from bench.models import model as models_module
from bench.models.model import ModelOptions, open_models
from tests.support.faulty_nets import softmax_before_average
from tests.support.nets import save_net, thin_net
from tests.support.run import run
from tests.support.written import written_onnx
from vgg_deploy.data.dataset import open_dataset
from vgg_deploy.errors import CheckFailed, InputError

ROOT = Path(__file__).parents[3]


def measure(
    paths,
    data,
    folder,
    protocols="dense",
    sides=(48,),
    flips=False,
    dtype="float32",
    on_error="stop",
):
    models, dataset = open_models(paths, ModelOptions()), open_dataset(data, "val")
    rows = select_rows(models, protocols, sides, flips, ())
    scoring = Scoring(Storage(folder, dtype), batch=5, threads=2, on_error=on_error)
    return measure_accuracy(models, rows, dataset, scoring)


def test_cells_are_computed_once_and_only_what_is_new_is_scored(net, photos, tmp_path):
    other = save_net(thin_net("B"), tmp_path / "B.pt")
    cells = tmp_path / "cells"
    first = measure([net], photos, cells)
    assert first.measured.scored == 24 and first.measured.reused == 0
    again = measure([net], photos, cells)
    assert again.measured.scored == 0 and again.measured.reused == 24
    assert [s.record for s in again.scored] == [s.record for s in first.scored]
    assert measure([net], photos, cells, flips=True).measured.scored == 24
    assert measure([net], photos, cells, flips=True, sides=(48, 64)).measured.scored == 48
    assert measure([net, other], photos, cells).measured.scored == 24
    # the centre is one of the grid's 25 crops
    several = measure([net], photos, cells, "dense,centre,multicrop+dense")
    assert several.measured.scored == 24 * 25
    assert measure([net], photos, cells, "centre,multicrop,dense", (48,)).measured.scored == 0
    assert measure([net], photos, cells, "dense-softmax-first").measured.scored == 24


def test_another_model_never_gets_old_cells(net, photos, tmp_path):
    cells, spec = tmp_path / "cells", thin_net("A").spec
    before = measure([net], photos, cells).scored[0]
    shutil.copy(net, tmp_path / "renamed.pt")
    save_net(thin_net("A", seed=1), net)
    after = measure([net], photos, cells)
    assert after.measured.scored == 24
    assert not np.array_equal(before.confidence, after.scored[0].confidence)
    bicubic = thin_net("A", seed=1)
    bicubic.spec = replace(spec, preprocessing=replace(spec.preprocessing, filter="bicubic"))
    assert measure([save_net(bicubic, net)], photos, cells).measured.scored == 24
    assert measure([tmp_path / "renamed.pt"], photos, cells).measured.scored == 0


def test_other_images_never_get_old_cells(net, photos_copy, tmp_path):
    cells = tmp_path / "cells"
    assert measure([net], photos_copy, cells).measured.scored == 24
    moved = photos_copy.rename(tmp_path / "elsewhere")
    assert measure([net], moved, cells).measured.scored == 0
    one, two = moved / "val/disc/001.jpeg", moved / "val/disc/002.jpeg"
    old = one.stat()
    data = bytearray(one.read_bytes())
    data[len(data) // 2] ^= 255  # same name, same size, same time
    one.write_bytes(data)
    os.utime(one, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert measure([net], moved, cells).measured.scored == 24
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert measure([net], moved, cells).measured.scored == 24
    two.unlink()
    assert measure([net], moved, cells).measured.scored == 23


def test_other_labels_are_evaluated_without_scoring(net, photos_copy, tmp_path):
    """The last image of a class becomes the first of the next: same images in the same order."""
    cells = tmp_path / "cells"
    before = measure([net], photos_copy, cells).scored[0]
    (photos_copy / "val/disc/005.jpeg").rename(photos_copy / "val/square/!.jpeg")
    after = measure([net], photos_copy, cells)
    assert after.measured.scored == 0 and np.array_equal(after.scored[0].best, before.best)
    assert (after.scored[0].labels != before.labels).sum() == 1


def test_float16_cells_are_apart_and_near(net, photos, tmp_path):
    full, half = (
        measure([net], photos, tmp_path / "cells", dtype=dtype) for dtype in ("float32", "float16")
    )
    assert half.measured.scored == 24
    (a,), (b,) = full.measured.cells.values(), half.measured.cells.values()
    assert b.posteriors.dtype == np.float16
    np.testing.assert_allclose(a.posteriors, b.posteriors, rtol=2**-10, atol=1e-7)


def start_bench(net, data, cells):
    """A vgg-bench process that scores images two at a time."""
    options = {
        "--data": data,
        "--scales": 160,
        "--protocols": "dense",
        "--measure": "accuracy",
        "--accuracy-batch": 2,
        "--threads": 1,
        "--cells": cells,
        "--out": cells.parent / "results",
    }
    args = [str(part) for option in options.items() for part in option]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    code = "from bench.cli import main; main()"
    command = [sys.executable, "-c", code, str(net), *args, "--no-flips"]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for_rows(folder, rows):
    """The file of the only cell, once so many of its rows are scored."""
    for _ in range(2000):
        found = list(folder.glob("*.partial.npy"))
        if found and found[0].stat().st_size > 128:
            done = int((np.load(found[0], mmap_mode="r")["crc32"] != 0).sum())
            if done >= rows:
                return found[0]
        time.sleep(0.01)
    raise AssertionError("no rows appeared")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_resumes(many, tmp_path, how):
    net, data = many
    process = start_bench(net, data, tmp_path / "cells")
    partial = wait_for_rows(tmp_path / "cells", 20)
    process.send_signal(how)
    output, _ = process.communicate()
    assert process.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130}[how]
    assert "Traceback" not in output
    if how == signal.SIGINT:
        assert f"what was scored is kept in {tmp_path / 'cells'}" in output
    kept = np.load(partial)["posterior"]
    finished = kept.any(axis=1)
    assert 20 <= finished.sum() < 400
    assert not list((tmp_path / "cells").glob("*[0-9a-f].npy"))
    resumed = measure([net], data, tmp_path / "cells", sides=(160,))
    assert resumed.measured.reused == finished.sum()
    assert resumed.measured.scored == 400 - finished.sum()
    unbroken = measure([net], data, tmp_path / "other", sides=(160,))
    (a,), (b,) = resumed.measured.cells.values(), unbroken.measured.cells.values()
    np.testing.assert_array_equal(a.posteriors[finished], kept[finished])
    # batches differ after the interruption
    np.testing.assert_allclose(a.posteriors, b.posteriors, atol=1e-6)
    assert not list((tmp_path / "cells").glob("*.partial.npy")) and a.path.exists()


def test_a_second_run_in_the_same_folder_fails_at_once(many, tmp_path):
    net, data = many
    process = start_bench(net, data, tmp_path / "cells")
    wait_for_rows(tmp_path / "cells", 2)
    with pytest.raises(InputError, match="another vgg-bench is computing cells here"):
        measure([net], data, tmp_path / "cells")
    process.send_signal(signal.SIGINT)
    process.communicate()


def test_memory_is_bounded_whatever_the_data_set(tmp_path):
    """50,000 images of 1000 classes: 200 MB per cell on disk.

    Only pages that the system may drop are in memory.
    """
    command = [sys.executable, "-c", MEMORY_SCRIPT, tmp_path]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    for file in tmp_path.glob("*.npy"):
        file.unlink()
    assert process.returncode == 0, process.stderr
    grown_mib, error = map(float, process.stdout.split())
    assert grown_mib < 300 and error == pytest.approx(99.9, abs=0.1)


# Prints by how many MiB memory has grown at most, and the top-1 error of random posteriors
MEMORY_SCRIPT = """
import sys, threading, time
from pathlib import Path

import numpy as np

from bench.accuracy.accuracy_rows import ClassIndex, score_row
from bench.accuracy.cell_store import CellSize, open_cell
from bench.accuracy.fill_cells import Measured
from bench.accuracy.protocols import Cell, rows_of
from vgg_deploy.net.spec import NetSpec, numbered

IMAGES, CLASSES, STEP = 50_000, numbered(1000), 1000

class Fake:
    name = "a"
    class runtime:
        spec, name, precision = NetSpec("D", CLASSES), "torch", "fp32"

def anonymous_mib():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024

def watch():
    global peak
    while True:
        peak = max(peak, anonymous_mib())
        time.sleep(0.005)

def open_one(mirrored):
    described = {"runtime": "torch", "precision": "fp32", "side": 256, "views": "dense"}
    size = CellSize(IMAGES, len(CLASSES), "float32")
    return open_cell(Path(sys.argv[1]), {**described, "mirrored": mirrored}, size, 1)

before, peak = anonymous_mib(), 0
threading.Thread(target=watch, daemon=True).start()
cells = {Cell(0, 256, "dense", mirrored): open_one(mirrored) for mirrored in (False, True)}
rng = np.random.default_rng(0)
for cell in cells.values():
    for start in range(0, IMAGES, STEP):
        scores = rng.random((STEP, len(CLASSES)), np.float32)
        posteriors = scores / scores.sum(1, keepdims=True)
        cell.write(np.arange(start, start + STEP), posteriors, np.zeros(STEP), 1.0)
    cell.save()
labels = rng.integers(0, len(CLASSES), IMAGES)
rows = rows_of((0,), [Fake.runtime.spec], ("dense",), (256,), True)
(row,) = (row for row in rows if row.flips)
measured = Measured(cells, np.ones(IMAGES, bool), [], 0, 0)
scored = score_row(row, [Fake], measured, labels, ClassIndex.of([CLASSES], [CLASSES]))
assert open_one(mirrored=True).finished.all()
print(peak - before, scored.record.top1_error_pct)
"""


IDENTITY = {
    "runtime": "torch",
    "precision": "fp32",
    "side": 48,
    "views": "dense",
    "mirrored": False,
}


@pytest.fixture
def stored(net, photos, tmp_path):
    """A finished cell: its file, its rows, and a function that measures again.

    The function returns what was measured, and the lines on stderr about the cells.
    """
    cells = tmp_path / "cells"
    first = measure([net], photos, cells)
    (file,) = cells.glob("*.npy")
    rows = np.load(file)

    def again(capsys):
        capsys.readouterr()
        after = measure([net], photos, cells)
        lines = [line for line in capsys.readouterr().err.splitlines() if str(cells) in line]
        np.testing.assert_allclose(np.load(file)["posterior"], rows["posterior"], atol=1e-6)
        errors = [s.record.top1_error_pct for s in after.scored]
        assert errors == [s.record.top1_error_pct for s in first.scored]
        return after.measured, lines

    return file, rows, again


def test_a_row_is_its_posterior_its_consistency_and_their_crc(stored):
    """Oracle: binascii's CRC over the bytes, written out from the description in the module."""
    file, rows, _ = stored
    manifest = json.loads(file.with_suffix(".json").read_text())
    for name in ("finished", "seconds", "timed", "machine", "times_crc32"):
        del manifest[name]
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    for i, row in enumerate(rows):
        covered = (
            digest.encode()
            + i.to_bytes(8, "little")
            + row["posterior"].tobytes()
            + row["consistency"].tobytes()
        )
        assert binascii.crc32(covered) == row["crc32"]
        assert row["posterior"].sum() == pytest.approx(1, abs=1e-6)
        assert 0 <= row["consistency"] < 1e-6


def test_a_flipped_bit_anywhere_in_a_row_is_found(stored, capsys):
    file, rows, again = stored
    whole, rng = file.read_bytes(), np.random.default_rng(0)
    start = len(whole) - rows.nbytes
    for at in rng.integers(start, len(whole), 8):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << int(rng.integers(0, 8))
        file.write_bytes(flipped)
        measured, lines = again(capsys)
        assert measured.scored == 1 and measured.reused == 23
        assert lines == [f"{file}: 1 row was damaged; computed again"]
    measured, lines = again(capsys)
    assert measured.scored == 0 and not lines


def labels_as_posteriors(rows):
    rows["posterior"] = np.eye(4, dtype=np.float32)[np.arange(24) // 6]


def rolled_classes(rows):
    rows["posterior"] = np.roll(rows["posterior"], 1, axis=1)


def rolled_rows(rows):
    rows[:] = np.roll(rows, 1)


def sorted_rows(rows):
    rows[:] = rows[np.argsort(rows["posterior"][:, 0], kind="stable")]


def doubled(rows):
    rows["posterior"] *= 2


def consistent_by_hand(rows):
    rows["consistency"] = 1e-3


def empty(rows):
    rows[5:9] = 0


@pytest.mark.parametrize(
    "change",
    [
        labels_as_posteriors,
        rolled_classes,
        rolled_rows,
        sorted_rows,
        doubled,
        consistent_by_hand,
        empty,
    ],
)
def test_rows_that_were_moved_edited_or_lost_are_computed_again(stored, capsys, change):
    file, rows, again = stored
    edited = rows.copy()
    change(edited)
    number = int((edited != rows).sum())
    np.save(file, edited)
    measured, lines = again(capsys)
    assert number > 0 and measured.scored == number
    assert lines == [f"{file}: {number} rows were damaged; computed again"]


def test_rows_of_another_cell_are_computed_again(net, photos, tmp_path, capsys):
    """A cell of another net, copied to the name of this net's cell beside its manifest."""
    cells = tmp_path / "cells"
    measure([net], photos, cells)
    (file,) = cells.glob("*.npy")
    foreign = measure(
        [save_net(thin_net("A", seed=3), tmp_path / "other.pt")], photos, tmp_path / "others"
    )
    (cell,) = foreign.measured.cells.values()
    shutil.copy(cell.path, file)
    assert measure([net], photos, cells).measured.scored == 24
    assert f"{file}: 24 rows were damaged; computed again" in capsys.readouterr().err


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


def test_damaged_files_are_set_aside_and_computed_again(stored, capsys):
    file, _, again = stored
    whole = file.read_bytes()
    aside = file.with_name(f"{file.name}.damaged")
    header = np.lib.format.magic(1, 0)
    for damage in (
        whole[:-100],
        whole[:50],
        b"",
        header + b"nonsense",
        header + b"\x10\x00" + b"((((((((((((((((",
        whole + b"more",
        whole.replace(b"(24,)", b"(-4,)"),
        whole.replace(b"<f4", b"|O8"),
        b"\x93NUMPY\xff\xff",
    ):
        file.write_bytes(damage)
        measured, lines = again(capsys)
        assert measured.scored == 24 and aside.read_bytes() == damage
        (line,) = lines
        assert line.startswith(f"{file}: ")
        assert f"renamed to {aside.name}, computed again" in line
    for other in (
        np.zeros((3, 4), np.float32),
        np.zeros((24, 4), np.float32),
        np.zeros(24, np.float64),
    ):
        np.save(file, other)
        measured, lines = again(capsys)
        assert measured.scored == 24
        (line,) = lines
        assert "does not hold 24 rows of this cell" in line


def test_a_file_that_is_not_regular_is_set_aside(stored, capsys):
    """A FIFO would block for ever, a device would never end."""
    file, _, again = stored

    def link_to_a_device(path):
        path.symlink_to("/dev/zero")

    lock = file.parent / ".lock"
    for path, scored in ((file, 24), (file.with_suffix(".json"), 0), (lock, 0)):
        for make in (os.mkfifo, link_to_a_device, os.mkdir):
            path.unlink()
            make(path)
            measured, lines = again(capsys)
            assert measured.scored == scored and len(lines) == 1 and str(path) in lines[0]
            aside = path.with_name(f"{path.name}.damaged")
            if make is os.mkdir:
                aside.rmdir()
            else:
                aside.unlink()


@pytest.mark.parametrize(
    "damage", ["", "{}", "[]", '{"seconds": "long"}', "[" * 100_000, '{"format": 2', "\ud800"]
)
def test_a_damaged_manifest_costs_the_times_only(stored, capsys, damage):
    file, _, again = stored
    manifest = file.with_suffix(".json")
    manifest.write_text(damage, errors="surrogatepass")
    measured, lines = again(capsys)
    assert len(lines) >= 1 and all(".damaged" in line for line in lines)
    assert measured.scored in (0, 24) and json.loads(manifest.read_text())["finished"] == 24


@pytest.mark.parametrize("field", ["seconds", "timed", "machine"])
@pytest.mark.parametrize("value", [None, "x", float("inf"), float("nan"), -1, 1e400])
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
def test_a_manifest_of_another_cell_contradicts_the_rows(stored, capsys, field):
    file, _, again = stored
    manifest = file.with_suffix(".json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), field: "another"}))
    measured, lines = again(capsys)
    assert measured.scored == 24 and len(lines) == 2
    assert all("its manifest is that of another cell" in line for line in lines)


def test_a_damaged_file_that_cannot_be_renamed_is_removed(stored, capsys):
    file, _, again = stored
    file.write_bytes(b"")
    (file.parent / f"{file.name}.damaged" / "in the way").mkdir(parents=True)
    measured, lines = again(capsys)
    assert measured.scored == 24 and "; removed, computed again" in lines[0]


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


def test_the_identity_contains_what_decides_the_numbers(net, tmp_path, monkeypatch):
    """Another decoder computes again; the instruction set counts where arithmetic depends on it."""
    (fp32,) = open_models([net], ModelOptions())
    (half,) = open_models([net], ModelOptions(precisions=("bf16",)))
    assert fp32.identity["decoder"]["pillow"] == pillow_version
    assert fp32.identity["decoder"]["libjpeg_turbo"]
    before = fp32.identity, half.identity
    monkeypatch.setattr(models_module, "cpu_instructions", lambda: ["avx2", "fma"])
    assert fp32.identity == before[0]
    assert half.identity == {**before[1], "instructions": ["avx2", "fma"]}
    monkeypatch.setattr(models_module, "decoder_versions", lambda: {"pillow": "1.0"})
    assert fp32.identity == {**before[0], "decoder": {"pillow": "1.0"}}
    (other,) = open_models([net], ModelOptions(threads=2))
    monkeypatch.undo()
    assert other.identity == before[0]


def test_checking_50000_rows_of_1000_classes_is_quick(tmp_path):
    """Bounded by processor time, which other programs do not lengthen; it takes about a second."""
    cell = open_cell(tmp_path, IDENTITY, CellSize(50_000, 1000, "float32"), 1)
    started = time.process_time()
    states = row_states(cell.rows, cell.identity)
    spent = time.process_time() - started
    assert not states.finished.any() and not states.damaged.any() and spent < 4


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(
        InputError, match="No space left on device.*a cell of 1000 images takes 4.01 MB"
    ):
        open_cell(tmp_path, IDENTITY, CellSize(1000, 1000, "float32"), 1)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(InputError, match="file: cannot be written.*--cells"),
        exclusive(tmp_path / "file"),
    ):
        pass


def test_posteriors_that_are_not_finite_are_stored_and_reported_every_time(photos, tmp_path):
    net = thin_net("A")
    with torch.no_grad():
        net.fc7.bias.fill_(3e38)
        net.fc8.weight.mul_(1000)
    path = save_net(net, tmp_path / "A.pt")
    for _ in range(2):
        message = (
            "A.pt at Q=48: NaN or infinite posteriors on 24 of 24 images, the first is "
            "val/disc/000.jpeg"
        )
        with pytest.raises(CheckFailed, match=message) as failed:
            measure([path], photos, tmp_path / "cells")
        assert failed.value.exit_code == 1


def test_unreadable_images_are_reported_every_time_and_scored_when_repaired(
    net, photos_copy, tmp_path
):
    bad = photos_copy / "val/square/003.jpeg"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:100])
    for scored in (23, 0):
        found = measure([net], photos_copy, tmp_path / "cells", on_error="skip")
        assert found.measured.scored == scored
        (message,) = found.measured.skipped
        assert "003.jpeg" in message
        assert found.scored[0].record.images == 23 and "val/square/003.jpeg" not in found.files
    (file,) = (tmp_path / "cells").glob("*.npy")
    assert file.name.endswith(".partial.npy")
    bad.write_bytes(whole)
    assert measure([net], photos_copy, tmp_path / "cells").measured.scored == 24


def test_times_of_other_threads_are_not_mixed(net, photos, tmp_path):
    models, dataset = open_models([net], ModelOptions()), open_dataset(photos, "val")
    rows = select_rows(models, "dense", (48,), False, ())
    storage = Storage(tmp_path / "cells", "float32")
    ms = []
    for threads in (1, 2):
        accuracy = measure_accuracy(models, rows, dataset, Scoring(storage, 5, threads, "stop"))
        ms.append(accuracy.scored[0].record.ms_per_image)
    assert ms[0] > 0 and np.isnan(ms[1])


def test_the_command_reuses_cells_between_runs(net, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = [net, "--data", photos, "--measure", "accuracy"]
    run(vgg_bench, *args, "--scales", "48")
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cells").glob("*.npy")}
    run(vgg_bench, *args, "--scales", "48,64")
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cells").glob("*.npy")}
    assert len(before) == 2 and len(after) == 4
    assert {name: after[name] for name in before} == before
    assert len(pd.read_csv("results/accuracy.csv")) == 6
