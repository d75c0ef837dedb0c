"""Stored cells: computed once, picked up where a run stopped, never of another model or other images."""

import errno
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
from conftest import CLASSES, picture, save_net, thin_net
from test_commands import run

from bench import store
from bench.cli import main as vgg_bench
from bench.models import Ways, open_models
from bench.run import Storage, measure_accuracy
from bench.selection import select_rows
from bench.store import only_one, open_cell
from vgg_deploy.data import open_dataset
from vgg_deploy.errors import CheckFailed, InputError

ROOT = Path(__file__).parent.parent


def measure(paths, data, folder, protocols="dense", sides=(48,), flips=False, dtype="float32", on_error="stop"):
    models, dataset = open_models(paths, Ways()), open_dataset(data, "val")
    rows = select_rows(models, protocols, sides, flips, ())
    return measure_accuracy(models, rows, dataset, Storage(folder, dtype), 5, 2, on_error)


@pytest.fixture
def net(tmp_path):
    return save_net(thin_net("A"), tmp_path / "A.pt")


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
    assert measure([net], photos, cells, "dense,centre,multicrop+dense").measured.scored == 24 * 25  # the centre is in the grid
    assert measure([net], photos, cells, "centre,multicrop,dense", (48,)).measured.scored == 0
    assert measure([net], photos, cells, "dense-softmax-first").measured.scored == 24


def test_another_model_never_gets_old_cells(net, photos, tmp_path):
    cells, spec = tmp_path / "cells", thin_net("A").spec
    before = measure([net], photos, cells).scored[0]
    shutil.copy(net, tmp_path / "renamed.pt")
    save_net(thin_net("A", seed=1), net)
    after = measure([net], photos, cells)
    assert after.measured.scored == 24 and not np.array_equal(before.confidence, after.scored[0].confidence)
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
    full, half = (measure([net], photos, tmp_path / "cells", dtype=dtype) for dtype in ("float32", "float16"))
    assert half.measured.scored == 24
    (a,), (b,) = full.measured.cells.values(), half.measured.cells.values()
    assert b.posteriors.dtype == np.float16
    np.testing.assert_allclose(a.posteriors, b.posteriors, rtol=2**-10, atol=1e-7)


def command(net, data, cells, *more):
    code = "from bench.cli import main; main()"
    args = ["--data", data, "--scales", "160", "--protocols", "dense", "--measure", "accuracy", "--accuracy-batch", "2", "--threads", "1"]
    args += ["--no-flips", "--cells", cells, "--out", cells.parent / "results", *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(net), *map(str, args)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture
def many(tmp_path):
    """400 pictures, and a net slow enough to be cut off."""
    rng = np.random.default_rng(0)
    for i in range(400):
        path = tmp_path / "many" / "val" / CLASSES[i % 4] / f"{i:03d}.jpeg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(CLASSES[i % 4], rng).save(path)
    return save_net(thin_net("D", width=1 / 4), tmp_path / "D.pt"), tmp_path / "many"


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
    assert process.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130}[how] and "Traceback" not in said
    assert how == signal.SIGKILL or f"what was scored is kept in {tmp_path / 'cells'}" in said
    kept = np.load(partial)["posterior"]
    done = kept.any(axis=1)
    assert 20 <= done.sum() < 400 and not list((tmp_path / "cells").glob("*[0-9a-f].npy"))
    resumed = measure([net], data, tmp_path / "cells", sides=(160,))
    assert resumed.measured.reused == done.sum() and resumed.measured.scored == 400 - done.sum()
    unbroken = measure([net], data, tmp_path / "other", sides=(160,))
    (a,), (b,) = resumed.measured.cells.values(), unbroken.measured.cells.values()
    np.testing.assert_array_equal(a.posteriors[done], kept[done])
    np.testing.assert_allclose(a.posteriors, b.posteriors, atol=1e-6)  # batches are cut differently after the break
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
from bench.accuracy import ClassIndex, score_row
from bench.cells import Measured
from bench.protocols import Cell, rows_of
from bench.store import open_cell
from vgg_deploy.spec import NetSpec, numbered
def anonymous():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) / 1024
class Fake:
    name = "a"
    class runtime:
        spec, runtime, precision = NetSpec("D", numbered(1000)), "torch", "fp32"
before, peak = anonymous(), 0
def watch():
    global peak
    while True:
        peak = max(peak, anonymous()); time.sleep(0.005)
threading.Thread(target=watch, daemon=True).start()
identity = {{"runtime": "torch", "precision": "fp32", "side": 256, "views": "dense"}}
cells = {{Cell(0, 256, "dense", m): open_cell(Path("{tmp_path}"), {{**identity, "mirrored": m}}, 50_000, 1000, "float32", 1) for m in (False, True)}}
rng = np.random.default_rng(0)
for cell in cells.values():
    for begin in range(0, 50_000, 1000):
        scores = rng.random((1000, 1000), np.float32)
        cell.write(np.arange(begin, begin + 1000), scores / scores.sum(1, keepdims=True), np.zeros(1000), 1.0)
    cell.save()
labels = rng.integers(0, 1000, 50_000)
(row,) = (r for r in rows_of((0,), [Fake.runtime.spec], ("dense",), (256,), True) if r.flips)
scored = score_row(row, [Fake], Measured(cells, np.ones(50_000, bool), [], 0, 0), labels, ClassIndex.of([numbered(1000)], [numbered(1000)]))
reopened = open_cell(Path("{tmp_path}"), {{**identity, "mirrored": True}}, 50_000, 1000, "float32", 1)
assert reopened.finished.all()
print(peak - before, scored.record.top1_error_pct)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    for file in tmp_path.glob("*.npy"):
        file.unlink()
    assert done.returncode == 0, done.stderr
    grown, error = map(float, done.stdout.split())
    assert grown < 300 and error == pytest.approx(99.9, abs=0.1)


IDENTITY = {"runtime": "torch", "precision": "fp32", "side": 48, "views": "dense", "mirrored": False}


def test_damaged_cells_are_named(net, photos, tmp_path):
    cells = tmp_path / "cells"
    measure([net], photos, cells)
    (held,) = cells.glob("*.npy")
    whole, manifest = held.read_bytes(), held.with_suffix(".json")
    for damage in (whole[:-100], whole[:50], b"", np.lib.format.magic(1, 0) + b"nonsense"):
        held.write_bytes(damage)
        with pytest.raises(InputError, match=rf"{held.name}.*delete it") as caught:
            measure([net], photos, cells)
        assert caught.value.exit_code == 2
    np.save(held, np.zeros((3, 4), np.float32))
    with pytest.raises(InputError, match=r"holds float32 \(3, 4\), expected float32 \(24, 4\); delete it"):
        measure([net], photos, cells)
    held.write_bytes(whole)
    for damage in ("", "{}", "[]", '{"seconds": "long"}'):
        manifest.write_text(damage)
        with pytest.raises(InputError, match=rf"{manifest.name}.*delete it"):
            measure([net], photos, cells)
    manifest.unlink()
    assert measure([net], photos, cells).measured.scored == 0


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store.os, "posix_fallocate", full)
    with pytest.raises(InputError, match="No space left on device.*a cell of 1000 images takes 4.01 MB"):
        open_cell(tmp_path, IDENTITY, 1000, 1000, "float32", 1)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="file: cannot be written.*--cells"), only_one(tmp_path / "file"):
        pass


def test_posteriors_that_are_not_finite_are_kept_and_told_every_time(photos, tmp_path):
    net = thin_net("A")
    with torch.no_grad():
        net.fc7.bias.fill_(float("inf"))
    path = save_net(net, tmp_path / "A.pt")
    for _ in range(2):
        with pytest.raises(CheckFailed, match=r"A.pt at Q=48: NaN or infinite posteriors on 24 of 24 images, the first is val/disc/000.jpeg") as failed:
            measure([path], photos, tmp_path / "cells")
        assert failed.value.exit_code == 1


def test_unreadable_images_are_told_every_time_and_scored_when_repaired(net, photos_copy, tmp_path):
    bad = photos_copy / "val/square/003.jpeg"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:100])
    for scored in (23, 0):
        found = measure([net], photos_copy, tmp_path / "cells", on_error="skip")
        assert found.measured.scored == scored and len(found.measured.skipped) == 1 and "003.jpeg" in found.measured.skipped[0]
        assert found.scored[0].record.images == 23 and "val/square/003.jpeg" not in found.files
    assert [p.name for p in (tmp_path / "cells").glob("*.npy")][0].endswith(".partial.npy")
    bad.write_bytes(whole)
    assert measure([net], photos_copy, tmp_path / "cells").measured.scored == 24


def test_times_of_other_threads_are_not_mixed(net, photos, tmp_path):
    models, dataset = open_models([net], Ways()), open_dataset(photos, "val")
    rows = select_rows(models, "dense", (48,), False, ())
    first, second = (measure_accuracy(models, rows, dataset, Storage(tmp_path / "c", "float32"), 5, threads, "stop") for threads in (1, 2))
    assert first.scored[0].record.ms_per_image > 0 and np.isnan(second.scored[0].record.ms_per_image)


def test_the_command_reuses_cells_between_runs(net, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = [net, "--data", photos, "--measure", "accuracy"]
    run(vgg_bench, *args, "--scales", "48")
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cells").glob("*.npy")}
    run(vgg_bench, *args, "--scales", "48,64")
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cells").glob("*.npy")}
    assert len(before) == 2 and len(after) == 4 and {name: after[name] for name in before} == before
    assert len(pd.read_csv("results/accuracy.csv")) == 6
