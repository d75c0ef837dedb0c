"""Stored cells: computed once, resumed after an interruption, never mixed up with other cells."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import __version__ as pillow_version

from bench.accuracy.measure import measure_accuracy
from bench.accuracy.selection import select_rows
from bench.accuracy.settings import Scoring, Storage
from bench.cli import main as vgg_bench
from bench.models import model as models_module
from bench.models.model import ModelOptions, open_models
from tests.support.cells import measure, wait_for_rows
from tests.support.nets import save_net, thin_net
from tests.support.run import run
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.errors import CheckFailed, InputError

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
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


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.slow
@pytest.mark.nightly
def test_an_interrupted_run_resumes(many, tmp_path, how):
    net, data = many
    process = start_bench(net, data, tmp_path / "cells")
    partial = wait_for_rows(tmp_path / "cells", 20)
    process.send_signal(how)
    output, _ = process.communicate()
    assert process.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130}[how]
    assert "Traceback" not in output
    if how == signal.SIGINT:
        assert f"scored images are kept in {tmp_path / 'cells'}" in output
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


@pytest.mark.slow
def test_a_second_run_in_the_same_folder_fails_at_once(many, tmp_path):
    net, data = many
    process = start_bench(net, data, tmp_path / "cells")
    wait_for_rows(tmp_path / "cells", 2)
    with pytest.raises(InputError, match="another vgg-bench is computing cells here"):
        measure([net], data, tmp_path / "cells")
    process.send_signal(signal.SIGINT)
    process.communicate()


@pytest.mark.slow
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

from bench.accuracy.accuracy_rows import ClassIndex, Truth, score_row
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
scored = score_row(row, [Fake], measured, Truth(labels), ClassIndex.of([CLASSES], [CLASSES]))
assert open_one(mirrored=True).finished.all()
print(peak - before, scored.record.top1_error_pct)
"""


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


@pytest.mark.slow
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
