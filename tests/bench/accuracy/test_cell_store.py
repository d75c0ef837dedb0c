"""Stored cells: computed once, picked up where a run stopped, never of another model or other images."""

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
    scoring = Scoring(Storage(folder, dtype), 5, 2, on_error)
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
    assert (
        measure([net], photos, cells, "dense,centre,multicrop+dense").measured.scored == 24 * 25
    )  # the centre is in the grid
    assert measure([net], photos, cells, "centre,multicrop,dense", (48,)).measured.scored == 0
    assert measure([net], photos, cells, "dense-softmax-first").measured.scored == 24


def test_another_model_never_gets_old_cells(net, photos, tmp_path):
    cells, spec = tmp_path / "cells", thin_net("A").spec
    before = measure([net], photos, cells).scored[0]
    shutil.copy(net, tmp_path / "renamed.pt")
    save_net(thin_net("A", seed=1), net)
    after = measure([net], photos, cells)
    assert after.measured.scored == 24 and not np.array_equal(
        before.confidence, after.scored[0].confidence
    )
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
    was = one.stat()
    data = bytearray(one.read_bytes())
    data[len(data) // 2] ^= 255  # same name, same size, same time
    one.write_bytes(data)
    os.utime(one, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert measure([net], moved, cells).measured.scored == 24
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert measure([net], moved, cells).measured.scored == 24
    two.unlink()
    assert measure([net], moved, cells).measured.scored == 23


def test_other_labels_are_counted_anew_without_scoring(net, photos_copy, tmp_path):
    """The last image of a class becomes the first of the next one: same pictures in the same order."""
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


def command(net, data, cells, *more):
    code = "from bench.cli import main; main()"
    args = [
        "--data",
        data,
        "--scales",
        "160",
        "--protocols",
        "dense",
        "--measure",
        "accuracy",
        "--accuracy-batch",
        "2",
        "--threads",
        "1",
    ]
    args += ["--no-flips", "--cells", cells, "--out", cells.parent / "results", *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(net), *map(str, args)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for_rows(folder, rows):
    for _ in range(2000):
        found = list(folder.glob("*.partial.npy"))
        if found and found[0].stat().st_size > 128:
            done = int((np.load(found[0], mmap_mode="r")["crc32"] != 0).sum())
            if done >= rows:
                return found[0]
        time.sleep(0.01)
    raise AssertionError("no rows appeared")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_cut_off_goes_on_where_it_was(many, tmp_path, how):
    net, data = many
    process = command(net, data, tmp_path / "cells")
    partial = wait_for_rows(tmp_path / "cells", 20)
    process.send_signal(how)
    said, _ = process.communicate()
    assert (
        process.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130}[how]
        and "Traceback" not in said
    )
    assert how == signal.SIGKILL or f"scored images are kept in {tmp_path / 'cells'}" in said
    kept = np.load(partial)["posterior"]
    done = kept.any(axis=1)
    assert 20 <= done.sum() < 400 and not list((tmp_path / "cells").glob("*[0-9a-f].npy"))
    resumed = measure([net], data, tmp_path / "cells", sides=(160,))
    assert resumed.measured.reused == done.sum() and resumed.measured.scored == 400 - done.sum()
    unbroken = measure([net], data, tmp_path / "other", sides=(160,))
    (a,), (b,) = resumed.measured.cells.values(), unbroken.measured.cells.values()
    np.testing.assert_array_equal(a.posteriors[done], kept[done])
    np.testing.assert_allclose(
        a.posteriors, b.posteriors, atol=1e-6
    )  # batches are cut differently after the break
    assert not list((tmp_path / "cells").glob("*.partial.npy")) and a.path.exists()


def test_a_second_run_in_the_same_folder_waits_not(many, tmp_path):
    net, data = many
    process = command(net, data, tmp_path / "cells")
    wait_for_rows(tmp_path / "cells", 2)
    with pytest.raises(InputError, match="another vgg-bench is computing cells here"):
        measure([net], data, tmp_path / "cells")
    process.send_signal(signal.SIGINT)
    process.communicate()


def test_memory_is_bounded_whatever_the_data_set(tmp_path):
    """50,000 images of 1000 classes: 200 MB a cell on disk, of which only pages that the system may drop are in memory."""
    script = f"""
import threading, time
import numpy as np
from pathlib import Path
from bench.accuracy.accuracy_rows import ClassIndex, score_row
from bench.accuracy.fill_cells import Measured
from bench.accuracy.protocols import Cell, rows_of
from bench.accuracy.cell_store import CellSize, open_cell
from vgg_deploy.net.spec import NetSpec, numbered
def anonymous():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) / 1024
class Fake:
    name = "a"
    class runtime:
        spec, name, precision = NetSpec("D", numbered(1000)), "torch", "fp32"
before, peak = anonymous(), 0
def watch():
    global peak
    while True:
        peak = max(peak, anonymous()); time.sleep(0.005)
threading.Thread(target=watch, daemon=True).start()
identity = {{"runtime": "torch", "precision": "fp32", "side": 256, "views": "dense"}}
cells = {{Cell(0, 256, "dense", m): open_cell(Path("{tmp_path}"), {{**identity, "mirrored": m}}, CellSize(50_000, 1000, "float32"), 1) for m in (False, True)}}
rng = np.random.default_rng(0)
for cell in cells.values():
    for begin in range(0, 50_000, 1000):
        scores = rng.random((1000, 1000), np.float32)
        cell.write(np.arange(begin, begin + 1000), scores / scores.sum(1, keepdims=True), np.zeros(1000), 1.0)
    cell.save()
labels = rng.integers(0, 1000, 50_000)
(row,) = (r for r in rows_of((0,), [Fake.runtime.spec], ("dense",), (256,), True) if r.flips)
scored = score_row(row, [Fake], Measured(cells, np.ones(50_000, bool), [], 0, 0), labels, ClassIndex.of([numbered(1000)], [numbered(1000)]))
reopened = open_cell(Path("{tmp_path}"), {{**identity, "mirrored": True}}, CellSize(50_000, 1000, "float32"), 1)
assert reopened.finished.all()
print(peak - before, scored.record.top1_error_pct)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    for file in tmp_path.glob("*.npy"):
        file.unlink()
    assert done.returncode == 0, done.stderr
    grown, error = map(float, done.stdout.split())
    assert grown < 300 and error == pytest.approx(99.9, abs=0.1)


IDENTITY = {
    "runtime": "torch",
    "precision": "fp32",
    "side": 48,
    "views": "dense",
    "mirrored": False,
}


@pytest.fixture
def stored(net, photos, tmp_path):
    """A finished cell: its file, what it held, and a way to run again: (accuracy, lines on stderr)."""
    cells = tmp_path / "cells"
    first = measure([net], photos, cells)
    (held,) = cells.glob("*.npy")
    before = np.load(held)

    def again(capsys):
        capsys.readouterr()
        after = measure([net], photos, cells)
        lines = [line for line in capsys.readouterr().err.splitlines() if str(cells) in line]
        np.testing.assert_allclose(np.load(held)["posterior"], before["posterior"], atol=1e-6)
        assert [s.record.top1_error_pct for s in after.scored] == [
            s.record.top1_error_pct for s in first.scored
        ]
        return after.measured, lines

    return held, before, again


def test_a_row_is_its_posterior_its_consistency_and_their_crc(stored):
    """Oracle: binascii's CRC over the bytes, written out from the description in the module."""
    held, rows, _ = stored
    manifest = json.loads(held.with_suffix(".json").read_text())
    identity = {
        name: value
        for name, value in manifest.items()
        if name not in ("finished", "seconds", "timed", "machine", "times_crc32")
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    for i, row in enumerate(rows):
        covered = (
            digest.encode()
            + i.to_bytes(8, "little")
            + row["posterior"].tobytes()
            + row["consistency"].tobytes()
        )
        assert binascii.crc32(covered) == row["crc32"]
        assert (
            row["posterior"].sum() == pytest.approx(1, abs=1e-6) and 0 <= row["consistency"] < 1e-6
        )


def test_a_flipped_bit_anywhere_in_a_row_is_found(stored, capsys):
    held, rows, again = stored
    whole, rng = held.read_bytes(), np.random.default_rng(0)
    start = len(whole) - rows.nbytes
    for at in rng.integers(start, len(whole), 8):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << int(rng.integers(0, 8))
        held.write_bytes(flipped)
        measured, lines = again(capsys)
        assert measured.scored == 1 and measured.reused == 23
        assert lines == [f"{held}: 1 row was damaged; computed again"]
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
    held, rows, again = stored
    edited = rows.copy()
    change(edited)
    number = int((edited != rows).sum())
    np.save(held, edited)
    measured, lines = again(capsys)
    assert number > 0 and measured.scored == number
    assert lines == [f"{held}: {number} rows were damaged; computed again"]


def test_rows_of_another_cell_are_computed_again(net, photos, tmp_path, capsys):
    """Of another net, under the name of this one's cell, manifest and all but the identity."""
    cells = tmp_path / "cells"
    measure([net], photos, cells)
    (held,) = cells.glob("*.npy")
    foreign = measure(
        [save_net(thin_net("A", seed=3), tmp_path / "other.pt")], photos, tmp_path / "others"
    )
    (cell,) = foreign.measured.cells.values()
    shutil.copy(cell.path, held)
    assert measure([net], photos, cells).measured.scored == 24
    assert f"{held}: 24 rows were damaged; computed again" in capsys.readouterr().err


def test_a_cell_without_its_manifest_loses_nothing(stored, capsys):
    held, _, again = stored
    held.with_suffix(".json").unlink()
    measured, lines = again(capsys)
    assert measured.scored == 0 and not lines and held.with_suffix(".json").exists()
    (cell,) = measured.cells.values()
    assert np.isnan(cell.ms_per_image)


def test_the_fault_of_a_stored_cell_is_found_without_its_manifest(photos, tmp_path):
    """The manifest was the only record of it once."""
    path = written_onnx(tmp_path / "faulty.onnx", thin_net("A"), fault=softmax_before_average)
    for _ in range(2):
        with pytest.raises(
            CheckFailed,
            match="faulty.onnx at Q=80: its posterior is not the softmax of its mean score",
        ):
            measure([path], photos, tmp_path / "cells", sides=(80,))
        for manifest in (tmp_path / "cells").glob("*.json"):
            manifest.unlink()
    models = open_models([path], ModelOptions())
    rows = select_rows(models, "dense", (80,), False, ())
    scoring = Scoring(Storage(tmp_path / "cells", "float32"), 5, 1, "stop")
    measured, _ = score_cells(models, rows, open_dataset(photos, "val"), scoring)
    assert measured.scored == 0


def test_damaged_files_are_set_aside_and_computed_again(stored, capsys):
    held, _, again = stored
    whole = held.read_bytes()
    aside = held.with_name(f"{held.name}.damaged")
    header = np.lib.format.magic(1, 0)
    for damage in (whole[:-100], whole[:50], b"", header + b"nonsense", header + b"\x10\x00" + b"((((((((((((((((", whole + b"more",
                   whole.replace(b"(24,)", b"(-4,)"), whole.replace(b"<f4", b"|O8"), b"\x93NUMPY\xff\xff"):  # fmt: skip
        held.write_bytes(damage)
        measured, lines = again(capsys)
        assert measured.scored == 24 and aside.read_bytes() == damage
        assert (
            len(lines) == 1
            and lines[0].startswith(f"{held}: ")
            and f"renamed to {aside.name}, computed again" in lines[0]
        )
    for other in (
        np.zeros((3, 4), np.float32),
        np.zeros((24, 4), np.float32),
        np.zeros(24, np.float64),
    ):
        np.save(held, other)
        measured, lines = again(capsys)
        assert (
            measured.scored == 24
            and len(lines) == 1
            and "does not hold 24 rows of this cell" in lines[0]
        )


def test_what_is_no_regular_file_is_set_aside(stored, capsys):
    """A FIFO would block for ever, a device would never end."""
    held, _, again = stored
    for file, scored in ((held, 24), (held.with_suffix(".json"), 0), (held.parent / ".lock", 0)):
        for make in (
            lambda path: os.mkfifo(path),
            lambda path: path.symlink_to("/dev/zero"),
            lambda path: path.mkdir(),
        ):
            file.unlink()
            make(file)
            measured, lines = again(capsys)
            assert measured.scored == scored and len(lines) == 1 and str(file) in lines[0]
            aside = file.with_name(f"{file.name}.damaged")
            aside.rmdir() if aside.is_dir() and not aside.is_symlink() else aside.unlink()


@pytest.mark.parametrize(
    "damage", ["", "{}", "[]", '{"seconds": "long"}', "[" * 100_000, '{"format": 2', "\ud800"]
)
def test_a_damaged_manifest_costs_the_times_only(stored, capsys, damage):
    held, _, again = stored
    manifest = held.with_suffix(".json")
    manifest.write_text(damage, errors="surrogatepass")
    measured, lines = again(capsys)
    assert len(lines) >= 1 and all(".damaged" in line for line in lines)
    assert measured.scored in (0, 24) and json.loads(manifest.read_text())["finished"] == 24


@pytest.mark.parametrize("field", ["seconds", "timed", "machine"])
@pytest.mark.parametrize("value", [None, "x", float("inf"), float("nan"), -1, 1e400])
def test_times_that_are_no_times_are_not_used(stored, capsys, field, value):
    held, _, again = stored
    manifest = held.with_suffix(".json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), field: value}))
    measured, _ = again(capsys)
    (cell,) = measured.cells.values()
    assert measured.scored == 0 and np.isnan(cell.ms_per_image)


def times_crc32(manifest: dict) -> int:
    """Oracle: binascii's CRC over the SHA-256 of a manifest without what is not covered."""
    covered = {
        name: value for name, value in manifest.items() if name not in ("finished", "times_crc32")
    }
    return binascii.crc32(
        hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest().encode()
    )


@pytest.mark.parametrize(
    ("field", "value"), [("seconds", 9.5), ("timed", 3), ("timed", 24.5), ("times_crc32", 5)]
)
def test_edited_times_are_not_used(stored, capsys, field, value):
    held, _, again = stored
    manifest = held.with_suffix(".json")
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
    held, _, again = stored
    manifest = held.with_suffix(".json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), field: "another"}))
    measured, lines = again(capsys)
    assert (
        measured.scored == 24
        and len(lines) == 2
        and all("its manifest is that of another cell" in line for line in lines)
    )


def test_a_damaged_file_that_cannot_be_renamed_is_removed(stored, capsys):
    held, _, again = stored
    held.write_bytes(b"")
    (held.parent / f"{held.name}.damaged" / "in the way").mkdir(parents=True)
    measured, lines = again(capsys)
    assert measured.scored == 24 and "; removed, computed again" in lines[0]


def test_cells_of_another_format_are_not_used(stored, capsys):
    held, _, again = stored
    old = held.with_name("torch-fp32-Q48-dense-0123456789.json")
    old.write_text(json.dumps({"format": 1, "finished": 24}))
    measured, lines = again(capsys)
    assert measured.scored == 0 and old.exists()
    assert lines == [
        f"{held.parent}: 1 cell of another version of vgg-bench will not be used; delete the folder when no other version needs it"
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
    held, _, again = stored
    measured, _ = again(capsys)
    (cell,) = measured.cells.values()
    assert cell.ms_per_image > 0
    manifest = held.with_suffix(".json")
    written = json.loads(manifest.read_text())
    written["machine"][field] = value
    written["times_crc32"] = times_crc32(written)
    manifest.write_text(json.dumps(written))
    measured, lines = again(capsys)
    (cell,) = measured.cells.values()
    assert measured.scored == 0 and not lines and np.isnan(cell.ms_per_image)


def test_identity_holds_what_decides_the_numbers(net, tmp_path, monkeypatch):
    """Another decoder or runtime computes anew; the instruction set matters where the arithmetic depends on it."""
    (fp32,) = open_models([net], ModelOptions())
    (half,) = open_models([net], ModelOptions(precisions=("bf16",)))
    assert (
        fp32.identity["decoder"]["pillow"] == pillow_version
        and fp32.identity["decoder"]["libjpeg_turbo"]
    )
    before = fp32.identity, half.identity
    monkeypatch.setattr(models_module, "cpu_instructions", lambda: ["avx2", "fma"])
    assert fp32.identity == before[0] and half.identity == {
        **before[1],
        "instructions": ["avx2", "fma"],
    }
    monkeypatch.setattr(models_module, "decoder_versions", lambda: {"pillow": "1.0"})
    assert fp32.identity == {**before[0], "decoder": {"pillow": "1.0"}}
    (other,) = open_models([net], ModelOptions(threads=2))
    monkeypatch.undo()
    assert other.identity == before[0]


def test_checking_50000_rows_of_1000_classes_is_quick(tmp_path):
    """Bounded by processor time, which other programs do not lengthen; about a second was asked for."""
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


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(InputError, match="file: cannot be written.*--cells"),
        exclusive(tmp_path / "file"),
    ):
        pass


def test_posteriors_that_are_not_finite_are_kept_and_told_every_time(photos, tmp_path):
    net = thin_net("A")
    with torch.no_grad():
        net.fc7.bias.fill_(3e38)
        net.fc8.weight.mul_(1000)
    path = save_net(net, tmp_path / "A.pt")
    for _ in range(2):
        with pytest.raises(
            CheckFailed,
            match=r"A.pt at Q=48: NaN or infinite posteriors on 24 of 24 images, the first is val/disc/000.jpeg",
        ) as failed:
            measure([path], photos, tmp_path / "cells")
        assert failed.value.exit_code == 1


def test_unreadable_images_are_told_every_time_and_scored_when_repaired(net, photos_copy, tmp_path):
    bad = photos_copy / "val/square/003.jpeg"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:100])
    for scored in (23, 0):
        found = measure([net], photos_copy, tmp_path / "cells", on_error="skip")
        assert (
            found.measured.scored == scored
            and len(found.measured.skipped) == 1
            and "003.jpeg" in found.measured.skipped[0]
        )
        assert found.scored[0].record.images == 23 and "val/square/003.jpeg" not in found.files
    assert [p.name for p in (tmp_path / "cells").glob("*.npy")][0].endswith(".partial.npy")
    bad.write_bytes(whole)
    assert measure([net], photos_copy, tmp_path / "cells").measured.scored == 24


def test_times_of_other_threads_are_not_mixed(net, photos, tmp_path):
    models, dataset = open_models([net], ModelOptions()), open_dataset(photos, "val")
    rows = select_rows(models, "dense", (48,), False, ())
    first, second = (
        measure_accuracy(
            models, rows, dataset, Scoring(Storage(tmp_path / "c", "float32"), 5, threads, "stop")
        )
        for threads in (1, 2)
    )
    assert first.scored[0].record.ms_per_image > 0 and np.isnan(
        second.scored[0].record.ms_per_image
    )


def test_the_command_reuses_cells_between_runs(net, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = [net, "--data", photos, "--measure", "accuracy"]
    run(vgg_bench, *args, "--scales", "48")
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cells").glob("*.npy")}
    run(vgg_bench, *args, "--scales", "48,64")
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cells").glob("*.npy")}
    assert len(before) == 2 and len(after) == 4 and {name: after[name] for name in before} == before
    assert len(pd.read_csv("results/accuracy.csv")) == 6
