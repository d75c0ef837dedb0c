"""The three commands as a user meets them: from photos to tables, and messages about mistakes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bench.cli import main as vgg_bench
from export.cli import main as vgg_export
from tests.support.commands import THIN
from tests.support.nets import CLASSES, save_net, thin_net
from tests.support.run import run
from tests.support.warm import until
from train.__main__ import main as train
from train.record.run_folder import Run
from vgg_deploy.files import sha256
from vgg_deploy.net.archs import ARCHS, macs
from vgg_deploy.net.checkpoint import load_checkpoint

ROOT = Path(__file__).parent.parent


LATENCY_KEY = ["model", "runtime", "precision", "height_px", "width_px", "batch"]
SCALES_AND_FLIPS = [(scales, flips) for scales in ("32", "48", "32+48") for flips in (False, True)]


@pytest.mark.slow
def test_from_photos_to_tables(here, photos):
    run_folder = train_b(here, photos)
    export_b(here, run_folder)
    options = {
        "--scales": "48,32",
        "--data": photos,
        "--batch-sizes": "1,2",
        "--threads": 2,
        "--latency-seconds": 0.1,
    }
    words = [word for option in options.items() for word in option]
    run(vgg_bench, run_folder / "best.pt", "exported/B.fp32.onnx", *words)
    check_accuracy(here / "results")
    check_latency(here / "results")
    environment = json.loads((here / "results" / "environment.json").read_text())
    assert environment["threads"] == 2
    assert environment["versions"]["torch"] == torch.__version__.split("+")[0]
    report = (here / "results" / "report.md").read_text()
    assert "B.fp32.onnx" in report and "| dense | 32+48 | 4 |" in report.replace("**", "")


def train_b(here, photos) -> Path:
    """Train B for two epochs and check its run folder."""
    output = run(train, "--arch", "B", "--data", photos, *THIN, "--epochs", "2", "--lr", "0.003")
    assert "4 classes; 96 training and 24 validation images" in output
    assert "Done: lowest validation" in output
    (folder,) = (here / "runs").iterdir()
    metrics = pd.read_csv(folder / "metrics.csv")
    assert metrics.epoch.tolist() == [1, 2] and metrics.step.tolist() == [6, 12]
    assert metrics.notna().all(axis=None)
    best = load_checkpoint(folder / "best.pt")
    assert best.spec.classes == CLASSES and best.spec.train_side == (32, 64)
    assert "paper recipe" in best.spec.recipe
    assert best.training == {} and load_checkpoint(folder / "last.pt").training["step"] == 12
    return folder


def export_b(here, run_folder: Path) -> None:
    """Export the newest run and check its manifest."""
    output = run(vgg_export, "--onnx")
    assert "exporting the newest run" in output and "top-1 agrees" in output
    exported = here / "exported"
    manifest = json.loads((exported / "B.fp32.json").read_text())
    assert manifest["sha256"] == sha256(exported / "B.fp32.onnx")
    assert manifest["source_sha256"] == sha256(run_folder / "best.pt")
    sizes = {(c["height"], c["width"]) for c in manifest["check"]}
    assert len(sizes) >= 6 and (224, 224) in sizes
    assert any(height != width for height, width in sizes)
    assert max(c["batch"] for c in manifest["check"]) > 1
    names = {path.name for path in exported.iterdir()}
    assert names == {"B.fp32.onnx", "B.fp32.json", "export.json"}


def check_accuracy(results: Path) -> None:
    """Rows of both models at every scale, which agree in every image."""
    accuracy = pd.read_csv(results / "accuracy.csv")
    assert accuracy[["model", "scales", "flips"]].values.tolist() == [
        [model, scales, flips]
        for model in ("best.pt", "B.fp32.onnx")
        for scales, flips in SCALES_AND_FLIPS
    ]
    assert (accuracy.images == 24).all()
    comparisons = pd.read_csv(results / "comparisons.csv")
    assert len(comparisons) == 6 and (comparisons.agreement_pct == 100).all()
    torch_errors, onnx_errors = (
        accuracy[accuracy.runtime == name].top1_error_pct.tolist()
        for name in ("torch", "onnxruntime")
    )
    assert torch_errors == onnx_errors
    assert (accuracy.top1_low_pct <= accuracy.top1_error_pct).all()
    assert (accuracy.top1_error_pct <= accuracy.top1_high_pct).all()


def check_latency(results: Path) -> None:
    """Every column of every row follows from its samples."""
    latency = pd.read_csv(results / "latency.csv")
    samples = pd.read_csv(results / "latency_samples.csv")
    assert len(latency) == 2 * 2 * 2
    assert not latency.duplicated(LATENCY_KEY).any()
    assert set(samples.clock) == {"end to end"}
    assert len(samples.merge(latency, on=LATENCY_KEY)) == len(samples) == latency.runs.sum()
    for _, row in latency.iterrows():
        ms = samples[(samples[LATENCY_KEY] == row[LATENCY_KEY]).all(axis=1)].ms
        assert len(ms) == row.runs and row.median_ms == pytest.approx(ms.median())
        # unknown where calls depend on each other
        if row.runs >= 6 and pd.notna(row.median_low_ms):
            assert row.median_low_ms <= row.median_ms <= row.median_high_ms
        for column, percent, fewest in (("p90_ms", 90, 50), ("p99_ms", 99, 500)):
            expected = np.percentile(ms, percent) if len(ms) >= fewest else np.nan
            assert row[column] == pytest.approx(expected, nan_ok=True)
        work = row.batch * macs(ARCHS["B"], row.height_px, row.width_px, 4, 1 / 16, 32)
        assert row.gmacs == pytest.approx(work / 1e9)
        assert row.gflop_per_s == pytest.approx(2 * work / row.median_ms / 1e6)
        assert row.images_per_s == pytest.approx(1000 * row.batch / row.median_ms)


@pytest.mark.slow
def test_without_data_or_model_everything_is_the_newest_or_built_in(here):
    output = run(train, "--arch", "A", *THIN, "--epochs", "1", "--images", "32")
    assert output.startswith("No --data: a thin net learns the built-in images")
    run(vgg_export, "--onnx")
    output = run(vgg_bench, "--scales", "64", "--images", "20", "--measure", "accuracy")
    assert output.startswith("No model named: measuring the newest export, exported/A.fp32.onnx")
    assert "No --data: measuring on the built-in validation images" in output


@pytest.mark.nightly
@pytest.mark.slow
def test_all_trains_a_first_and_starts_the_others_from_it(here, photos):
    options = ["--arch", "all", "--data", photos, *THIN, "--epochs", "1", "--out", here / "all"]
    output = run(train, *options)
    words = output.split()
    nets = [word[:-1] for word in words if word.endswith(",") and word[:-1] in ARCHS]
    assert nets == ["A", "A-LRN", "B", "C", "D", "E"]
    assert output.count(f"fc6, fc7, fc8 from {here / 'all' / 'A' / 'best.pt'}") == 4
    assert all((here / "all" / arch / "best.pt").is_file() for arch in ARCHS)


PAPER_START = [word for word in THIN if word not in ("--init", "he")]


@pytest.mark.nightly
@pytest.mark.slow
def test_d_alone_takes_the_newest_fitting_a_or_reports_that_there_is_none(here, photos):
    def train_net(arch: str, name: str) -> str:
        options = ["--data", photos, *PAPER_START, "--epochs", "1", "--out", here / "runs" / name]
        return run(train, "--arch", arch, *options)

    output = train_net("D", "one")
    assert "No trained A that fits D" in output and "Glorot" in output
    train_net("A", "a")
    output = train_net("D", "two")
    assert "fc6, fc7, fc8 from" in output and "runs/a/best.pt" in output
    # as if that A had been interrupted in its first epoch
    table = here / "runs" / "a" / "metrics.csv"
    table.write_text(table.read_text().splitlines()[0] + "\n")
    output = train_net("D", "three")
    assert "No trained A that fits D" in output
    assert "Passed over: " in output and "--net-a" in output


@pytest.mark.nightly
@pytest.mark.slow
def test_b_alone_on_the_built_in_images_trains_its_a_first(here):
    one_epoch = ["--epochs", "1", "--images", "32"]
    output = run(train, "--arch", "B", *PAPER_START, *one_epoch)
    assert "training A first, then B from its layers" in output
    assert output.count("Done: lowest validation") == 2
    (run_a,) = (here / "runs").glob("A-*")
    assert f"fc6, fc7, fc8 from {run_a.relative_to(here)}/best.pt" in output
    output = run(train, "--arch", "B", *PAPER_START, *one_epoch, "--out", here / "runs" / "again")
    assert "training A first" not in output and f"fc6, fc7, fc8 from {run_a}/best.pt" in output
    output = run(train, "--arch", "B", *THIN, *one_epoch, "--out", here / "runs" / "drawn")
    assert "all layers he, seed 0" in output


@pytest.mark.nightly
@pytest.mark.slow
def test_a_head_on_frozen_features(here, photos):
    weights = save_net(thin_net("D"), here / "D.pt")
    options = ["--arch", "D", "--data", photos, *THIN, "--epochs", "2", "--weights", weights]
    run(train, *options, "--freeze-features", "--out", here / "run")
    before, after = load_checkpoint(weights), load_checkpoint(here / "run" / "best.pt")
    for name, tensor in after.weights.items():
        assert torch.equal(tensor, before.weights[name]) == name.startswith("conv"), name
    assert after.spec.preprocessing == before.spec.preprocessing


def training_options(folder: Path, photos: Path) -> list:
    return ["--arch", "A", "--data", photos, *THIN, "--out", folder]


@pytest.mark.nightly
@pytest.mark.slow
def test_ctrl_c_keeps_a_checkpoint_to_resume_from(here, photos):
    folder = here / "run"
    options = training_options(folder, photos)
    endless = [*map(str, options), "--epochs", "10000", "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "train", *endless],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ,
    )
    until(lambda: (folder / "best.pt").exists() or process.poll() is not None, 120)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert f"resume with: python -m train --resume {folder}" in " ".join(output.split())
    assert "Traceback" not in output
    assert load_checkpoint(folder / "last.pt").training["step"] > 0
    assert run(vgg_export, folder / "last.pt", "--onnx")
    # a second run into the same folder must not overwrite the first
    assert "--resume" in run(train, *options, code=2)


@pytest.mark.slow
def test_a_killed_loader_process_is_reported_and_ends_the_run(warm, here, photos):
    folder = here / "run"
    options = training_options(folder, photos)
    training = warm.train(here, *options, "--epochs", "10000", "--workers", "2")
    until(lambda: (folder / "last.pt").exists() or not training.alive(), 120)
    children = Path(f"/proc/{training.pid}/task/{training.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    assert training.wait() == 1, training.output()
    output = training.output()
    assert "a loader process was killed" in output and "Traceback" not in output, output
    assert load_checkpoint(folder / "last.pt").training["step"] > 0


@pytest.mark.nightly
@pytest.mark.slow
def test_a_resumed_run_ends_where_an_unbroken_one_does(here, photos, monkeypatch):
    whole = ["--arch", "A", "--data", photos, *THIN, "--epochs", "4", "--lr", "0.003"]
    run(train, *whole, "--out", here / "unbroken")
    save, calls = Run.save, []

    def interrupted(self, checkpoint, best):
        save(self, checkpoint, best)
        calls.extend([1] * best)
        if best and len(calls) == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Run, "save", interrupted)
    run(train, *whole, "--out", here / "broken", code=130)
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert 0 < load_checkpoint(here / "broken" / "last.pt").training["step"] < 24
    run(train, "--resume", here / "broken", "--workers", "0", "--threads", "2")
    one, two = (load_checkpoint(here / name / "last.pt").weights for name in ("unbroken", "broken"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    a, b = (pd.read_csv(here / name / "metrics.csv") for name in ("unbroken", "broken"))
    assert a.val_top1_error_pct.tolist() == b.val_top1_error_pct.tolist()
    assert a.step.tolist() == b.step.tolist()


def test_a_diverging_run_stops_with_advice(here, photos):
    options = ["--arch", "A", "--data", photos, *THIN, "--epochs", "3", "--lr", "1e9"]
    output = run(train, *options, code=1)
    assert "the loss is" in output and "Lower --lr" in output


# --- Mistakes of a user: their message, and the exit code 2 ---


@pytest.fixture
def model(here):
    return save_net(thin_net("A"), here / "A.pt")


def bench_error(*args) -> str:
    return run(vgg_bench, *args, "--measure", "accuracy", "--threads", "1", code=2)


def test_missing_and_empty_data_folders(here, model):
    assert "nowhere" in bench_error(model, "--data", here / "nowhere", "--scales", "64")
    assert "nowhere" in run(train, "--data", here / "nowhere", code=2)
    (here / "empty").mkdir()
    assert "empty" in bench_error(model, "--data", here / "empty", "--scales", "64")
    assert "empty" in run(train, "--data", here / "empty", code=2)


def test_a_class_missing_in_val(model, photos_copy):
    for file in (photos_copy / "val" / "disc").iterdir():
        file.unlink()
    (photos_copy / "val" / "disc").rmdir()
    assert "disc" in bench_error(model, "--data", photos_copy, "--scales", "64")
    assert "disc" in run(train, "--data", photos_copy, *THIN, code=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [
        b"",
        *(
            pytest.param(c, marks=pytest.mark.nightly)
            for c in (b"\xff\xd8\xff\xe0 not really", None)
        ),
    ],
)
def test_a_corrupt_image_is_named_and_can_be_skipped(model, photos_copy, content):
    bad = photos_copy / "val" / "disc" / "003.jpeg"
    bad.write_bytes(bad.read_bytes()[:200] if content is None else content)
    output = bench_error(model, "--data", photos_copy, "--scales", "64")
    assert "003.jpeg" in output and "--on-error skip" in output
    options = ["--data", photos_copy, "--scales", "64", "--measure", "accuracy"]
    output = run(vgg_bench, model, *options, "--on-error", "skip")
    assert "23 images, 1 left out" in output and "003.jpeg" in output


@pytest.mark.nightly
@pytest.mark.slow
def test_a_corrupt_training_image_is_named_and_can_be_skipped(here, photos_copy):
    (photos_copy / "train" / "square" / "005.jpeg").write_bytes(b"")
    args = ["--arch", "A", "--data", photos_copy, *THIN, "--epochs", "1", "--out"]
    output = run(train, *args, here / "stop", "--workers", "1", code=2)
    assert "005.jpeg" in output
    output = run(train, *args, here / "skip", "--on-error", "skip")
    assert output.count("Left out (1 so far)") == 1 and "005.jpeg" in output and "Done" in output


@pytest.mark.slow
def test_a_text_file_among_images(model, photos_copy):
    (photos_copy / "val" / "disc" / "notes.txt").write_text("holiday")
    assert "notes.txt" in bench_error(model, "--data", photos_copy, "--scales", "64")
    options = ["--data", photos_copy, "--scales", "64", "--measure", "accuracy"]
    output = run(vgg_bench, model, *options, "--on-error", "skip")
    assert "24 images, 1 left out" in output and "notes.txt" in output


def test_a_scale_below_the_crop(model, photos):
    output = bench_error(model, "--data", photos, "--scales", "24,64")
    assert "--scales 24: below the crop 32" in output
    assert "write 256,384,512" in bench_error(model, "--data", photos, "--scales", "256;384")
    assert "-3 is below 1" in bench_error(model, "--data", photos, "--scales", "-3")


def test_more_classes_in_the_data_than_in_the_net(here, photos):
    path = save_net(thin_net("A", classes=("disc", "square")), here / "two.pt")
    output = bench_error(path, "--data", photos, "--scales", "64")
    assert "two.pt" in output and "stripes" in output


def test_an_unknown_arch_or_option():
    output = run(train, "--arch", "F", code=2)
    assert "'F' is not one of 'A', 'A-LRN', 'B', 'C', 'D', 'E', 'all'" in output
    assert "256:512" in run(train, "--side", "wide", code=2)
    assert "add --onnx" in run(vgg_export, code=2)
    assert "choose from accuracy, latency" in run(vgg_bench, "--measure", "speed", code=2)


@pytest.mark.slow
def test_unwritable_outputs(here, model, photos):
    file = here / "file"
    file.write_text("in the way")
    of_bench = ["--data", photos, "--scales", "64", "--out", file]
    outputs = [
        run(vgg_export, model, "--onnx", "--out", file, code=2),
        run(vgg_bench, model, *of_bench, code=2),
        run(train, "--data", photos, *THIN, "--out", file / "run", code=2),
    ]
    assert all("cannot be written" in output for output in outputs)


def test_files_that_are_no_model(here, photos):
    (here / "notes.pt").write_text("no model")
    (here / "notes.onnx").write_text("no model")
    for name in ("notes.pt", "notes.onnx", "gone.onnx"):
        assert name in bench_error(here / name, "--data", photos, "--scales", "64")
    assert "notes.pt" in run(vgg_export, here / "notes.pt", "--onnx", code=2)
    assert not (here / "exported").exists()


def test_nothing_trained_or_exported_yet(here):
    assert "train one with `python -m train`" in run(vgg_export, "--onnx", code=2)
    assert "write one with vgg-export, or name a file" in run(vgg_bench, code=2)
    assert "train one with `python -m train`" in run(train, "--resume", code=2)
    assert "no run here" in run(train, "--resume", here / "elsewhere", code=2)


def test_options_that_contradict_each_other(here, photos, model):
    assert "--weights" in run(train, "--data", photos, "--freeze-features", code=2)
    assert "leave --lr out" in run(train, "--resume", "--lr", "0.1", code=2)
    output = run(train, "--arch", "A", "--data", photos, *THIN, "--net-a", model, code=2)
    assert "nothing to take from an A" in output


@pytest.mark.slow
def test_foreign_weights_are_exported_and_benched_as_they_are(here, photos):
    """Caffe-layout arrays, which expect BGR: the exported net agrees with the original net."""
    net = thin_net("B")
    arrays = {
        name.replace(".weight", "_W").replace(".bias", "_b"): tensor.numpy()
        for name, tensor in net.state_dict().items()
    }
    np.savez(here / "B.npz", **{**arrays, "conv1_1_W": arrays["conv1_1_W"][:, ::-1]})
    names = {str(i): [name, f"the {name}"] for i, name in enumerate(CLASSES)}
    (here / "list.json").write_text(json.dumps(names))
    run(vgg_export, here / "B.npz", "--onnx", "--classes", here / "list.json")
    manifest = json.loads((here / "exported" / "B.fp32.json").read_text())
    assert manifest["spec"]["classes"] == list(CLASSES)
    assert manifest["spec"]["names"][0] == "the disc"
    assert manifest["spec"]["preprocessing"]["mean"] == [123.68, 116.779, 103.939]
    options = ["--scales", "64", "--data", photos, "--measure", "accuracy", "--threads", "1"]
    run(vgg_bench, here / "B.npz", "exported/B.fp32.onnx", *options)
    assert (pd.read_csv(here / "results" / "comparisons.csv").agreement_pct == 100).all()
    (here / "short.txt").write_text("disc\nsquare")
    output = run(vgg_export, here / "B.npz", "--onnx", "--classes", here / "short.txt", code=2)
    assert "scores 4 classes, the class list has 2" in output


def test_convolutions_alone_are_no_net_and_the_message_offers_a_way(here):
    arrays = {
        name: tensor.numpy()
        for name, tensor in thin_net("B").state_dict().items()
        if name.startswith("conv")
    }
    np.savez(here / "trunk.npz", **arrays)
    output = run(vgg_export, here / "trunk.npz", "--onnx", code=2)
    assert "without fc6-fc8" in output and "--freeze-features" in output
