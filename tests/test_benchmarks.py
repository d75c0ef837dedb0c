"""The scripts of benchmarks/: rehearsals on a thin net, and their arithmetic."""

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from export.onnx.graph import onnx_graph
from export.onnx.onnx_file import write_onnx
from export.release import ExportOptions, export_onnx
from export.settings.precision import PRECISIONS
from tests.support.nets import photo_of, save_net, thin_net
from tests.support.planted import net_and_photos
from tests.support.run import run
from vgg_deploy.data.built_in import CLASSES as BUILT_IN_CLASSES
from vgg_deploy.exported.metadata import Artifact, manifest_path
from vgg_deploy.files import sha256
from vgg_deploy.net.archs import ARCHS, macs
from vgg_deploy.net.checkpoint import load_checkpoint
from vgg_deploy.runtimes import open_runtime

ROOT = Path(__file__).parent.parent
PEERS = ROOT / "benchmarks" / "peers"


def words(options: dict[str, object]) -> list[str]:
    """Options as words of a command line."""
    return [str(word) for option in options.items() for word in option]


def rehearse(script: str, folder: Path, options: dict[str, object], *flags: str) -> None:
    """Run a script in a process of its own, as a user does.

    Args:
        script: Its file name.
        folder: Working folder, and where it writes.
        options: Options with their values.
        flags: Options without values.
    """
    command = [sys.executable, ROOT / "benchmarks" / script, *words(options), *flags]
    done = subprocess.run(
        [*command, "--out", str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_whole_images(tmp_path):
    """The file's pixels are Pillow's; those of ONNX's Resize are not."""
    for i in range(2):
        photo_of("disc", np.random.default_rng(i)).resize((90 + 40 * i, 100)).save(
            tmp_path / f"{i}.png"
        )
    options = {"--photos": tmp_path, "--side": 48, "--large": 200}
    rehearse("whole_images.py", tmp_path, options)
    rows = [line.split("|") for line in (tmp_path / "whole_images.md").read_text().splitlines()]
    found = {}
    for row in rows:
        if len(row) > 6 and row[2].strip() in ("the file", "ONNX Resize"):
            found.setdefault(row[2].strip(), []).append((float(row[3]), int(row[4])))
    assert found["the file"] == [(0, 0)] * 3
    assert max(most for _, most in found["ONNX Resize"]) in (1, 2)


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def benchmarks(monkeypatch):
    """Imports a module of benchmarks/ by its name."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


@pytest.mark.slow
def test_the_gpu_benchmark_in_rehearsal(tmp_path):
    options = {
        "--device": "cpu",
        "--archs": "A",
        "--width": 0.0625,
        "--sides": 256,
        "--batches": 1,
        "--ways": "eager;ONNX Runtime",
    }
    rehearse("gpu_speed.py", tmp_path, options)
    table = pd.read_csv(tmp_path / "gpu_speed_cpu.csv")
    assert set(zip(table.net, table.way, table.precision, strict=True)) == {
        ("A", "eager", "bf16"),
        ("A", "eager", "fp32"),
        ("A", "ONNX Runtime", "fp16"),
        ("A", "ONNX Runtime", "fp32"),
    }
    assert (table.end_to_end_ms > 0).all() and (table.score_difference < 0.02).all()
    assert (table[table.precision == "fp32"].score_difference < 1e-5).all()
    text = (tmp_path / "gpu_speed_cpu.md").read_text()
    assert "| A | ONNX Runtime | fp16 | 256 | 1 |" in text and '"versions"' in text


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        ("pool_first",),
        ("padded_input",),
        ("fused_relu",),
        ("pool_first", "fused_relu"),
        ("padded_input", "pool_first", "fused_relu"),
        ("products", "pool_first", "fused_relu"),
    ],
)
def test_gpu_variants_are_the_same_net(changes, benchmarks):
    """Oracle: the unchanged net in float64, its scores and the gradients of all weights."""
    variants = benchmarks("gpu_variants")
    net, changed = thin_net("D").double(), thin_net("D").double()
    for name in changes:
        changed = getattr(variants, name)(changed)
    kinds = {type(module).__name__ for module in changed.modules()}
    assert kinds & {"_PoolBiasReLU", "_PaddedConv", "_ConvReLU", "_Product"}
    images = 64 * torch.randn(2, 3, 64, 70, generator=torch.Generator().manual_seed(1)).double()
    scores = [each(images) for each in (net, changed)]
    torch.testing.assert_close(scores[1], scores[0], rtol=1e-12, atol=1e-12)
    for each in scores:
        each.square().sum().backward()
    expected = sorted(float(p.grad.double().norm()) for p in net.parameters())
    gradients = sorted(float(p.grad.double().norm()) for p in changed.parameters())
    assert len(gradients) == len(expected) and np.allclose(gradients, expected, rtol=1e-9)


@pytest.mark.nightly
@pytest.mark.slow
def test_the_gpu_session_in_rehearsal(tmp_path):
    (tmp_path / "out").mkdir()
    options = {"--work": tmp_path / "work", "--steps": "train,environment"}
    rehearse("gpu_session.py", tmp_path / "out", options, "--rehearsal")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"summary.md", "session.log", "train_step.csv"}
    table = pd.read_csv(tmp_path / "out" / "train_step.csv")
    assert len(table) == 3 and (table.third_loss < table.first_loss).all()
    assert np.allclose(table.third_loss, table.third_loss[0], rtol=0.01)
    text = (tmp_path / "out" / "summary.md").read_text()
    assert "| train |" in text and "| D | ours, pool first, fused ReLU | bf16 |" in text
    assert text.index("| environment |") < text.index("| train |")  # in the order of worth


@pytest.mark.slow
def test_a_step_over_its_limit_is_ended_with_what_it_started(tmp_path, benchmarks):
    session = benchmarks("gpu_session")
    child = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    commands = [[sys.executable, "-c", "raise SystemExit(3)"], [sys.executable, "-c", parent]]
    step = session.Step("slow", 5, commands, beside=[["no-such-program"]])
    start = time.monotonic()
    outcome = session.run_step(step, 5, tmp_path / "slow.log")
    assert time.monotonic() - start < 20
    assert outcome.result == "no-such-program: No such file or directory; exit 3; ended after 5 s"
    lines = (tmp_path / "slow.log").read_text().splitlines()
    (pid,) = (int(line) for line in lines if line.isdigit())
    status, deadline = Path(f"/proc/{pid}/status"), time.monotonic() + 30
    while status.exists() and "zombie" not in status.read_text():
        assert time.monotonic() < deadline  # a kill takes effect when the process is scheduled
        time.sleep(0.1)


@pytest.mark.slow
def test_the_simulation_of_gates_in_rehearsal(tmp_path):
    rehearse("gate_simulation.py", tmp_path, {}, "--short")
    table = pd.read_csv(tmp_path / "gate_simulation.csv")
    assert (table.gates == 300).all()
    assert np.allclose(table.pass_pct + table.fail_pct + table.undecided_pct, 100)
    sequential = table[table.method.str.startswith("sequential")]
    # 300 gates: a share of 1 % is above 3 % once in a thousand
    assert max(sequential.false_pass_pct.max(), sequential.false_fail_pct.max()) < 3
    assert (tmp_path / "gate_simulation.md").read_text().count("\n| sequential |") == 19


@pytest.mark.slow
@pytest.mark.nightly
def test_verdicts_on_slowdowns_in_rehearsal(tmp_path):
    rehearse("slowdown_verdicts.py", tmp_path, {"--repeats": 1, "--threads": 1})
    table = pd.read_csv(tmp_path / "slowdown_verdicts.csv")
    assert table.file.tolist() == ["the same file"] * 2 + ["twice the width"] * 2
    assert np.allclose(table.pass_pct + table.fail_pct + table.undecided_pct, 100)
    assert "| the same file | 10 |" in (tmp_path / "slowdown_verdicts.md").read_text()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A thin D of the crop 224, its exports, and six square photos in two of its four classes."""
    folder, rng = tmp_path_factory.mktemp("peers"), np.random.default_rng(3)
    weights = save_net(thin_net("D", seed=4, crop=224), folder / "D.pt")
    for kind in ("square", "triangle"):
        (folder / "photos" / kind).mkdir(parents=True)
        for i in range(3):
            photo = photo_of(kind, rng).resize((256, 256))
            photo.save(folder / "photos" / kind / f"{7 + 2 * i:03d}.png")
    files = {"weights": weights}
    for form, name in (("uint8", "fp32"), ("normalised", "normalised")):
        options = ExportOptions(("fp32",), form=form)
        (export,) = export_onnx(weights, folder / name, options, None, 1, lambda text: None)
        files[name] = export.path
    return {**files, "photos": folder / "photos"}


def report_of(script: str, prepared: dict, file: str, monkeypatch, view: str = "crop") -> dict:
    """What a peer script prints; skips the test where the peer is not installed."""
    monkeypatch.syspath_prepend(PEERS)
    options = {
        "--model": prepared[file],
        "--data": prepared["photos"],
        "--view": view,
        "--batch": 4,
        "--threads": 1,
        "--calls": 2,
    }
    done = CliRunner().invoke(importlib.import_module(script).main, words(options))
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    report = json.loads(done.output.splitlines()[-1])
    if report["skipped"]:
        pytest.skip(report["skipped"])
    return report


@pytest.fixture(scope="module")
def scores(prepared):
    """PyTorch's best classes and the labels of the photos, which have the size of Q.

    The oracle: crops are cut and files sorted by hand.
    """
    files = sorted(prepared["photos"].glob("*/*"))
    crops = [np.asarray(Image.open(file))[16:240, 16:240].transpose(2, 0, 1) for file in files]
    spec = load_checkpoint(prepared["weights"]).spec
    best = open_runtime(prepared["weights"])(np.stack(crops)).posterior.argmax(1)
    labels = np.array([spec.classes.index(file.parent.name) for file in files])
    # otherwise the tests below would show little
    assert len(set(best)) > 2 and 0 < (best == labels).sum() < 6
    return best, labels


@pytest.mark.slow
@pytest.mark.parametrize(
    "script, file",
    [
        ("ours", "weights"),
        ("ours", "fp32"),
        ("timm_validate", "weights"),
        ("torchvision_evaluate", "weights"),
        ("timm_onnx_validate", "normalised"),
        ("onnxruntime_loop", "fp32"),
        ("polygraphy_runner", "fp32"),
        ("openvino_loop", "fp32"),
    ],
)
def test_every_peer_finds_the_same_classes(script, file, prepared, scores, monkeypatch):
    report, (best, labels) = report_of(script, prepared, file, monkeypatch), scores
    assert report["predictions"] == best.tolist()
    assert report["images"] == 6
    assert report["top1_error_pct"] == pytest.approx(100 * (best != labels).mean())
    assert report["images_per_s"] == pytest.approx(6 / report["seconds"])
    assert report["version"] and report["peak_mib"] > 50


@pytest.mark.parametrize("script", ["onnxruntime_loop", "polygraphy_runner", "openvino_loop"])
def test_peers_score_whole_images_as_ours(script, prepared, monkeypatch):
    ours = report_of("ours", prepared, "fp32", monkeypatch, "dense")
    report = report_of(script, prepared, "fp32", monkeypatch, "dense")
    assert report["predictions"] == ours["predictions"]
    assert report["top1_error_pct"] == ours["top1_error_pct"]


def test_benchmark_app_times_the_net_alone(prepared, monkeypatch):
    report = report_of("openvino_benchmark_app", prepared, "fp32", monkeypatch, "net")
    assert report["images"] >= 2 and report["seconds"] > 0 and report["top1_error_pct"] is None


@pytest.mark.parametrize("name", ["torchvision_net", "timm_net"])
def test_the_nets_of_torchvision_and_timm_are_ours(name, prepared, monkeypatch):
    """The inverse of reading their weights: same scores for the same normalised image."""
    if name == "timm_net":
        pytest.importorskip("timm", reason="timm is not installed")
    monkeypatch.syspath_prepend(PEERS)
    nets = importlib.import_module("foreign_nets")
    checkpoint = load_checkpoint(prepared["weights"])
    pixels = np.random.default_rng(1).integers(0, 256, (2, 3, 224, 224), np.uint8)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in nets.normalisation(checkpoint.spec))
    with torch.inference_mode():
        theirs = getattr(nets, name)(checkpoint)((torch.from_numpy(pixels) / 255 - mean) / std)
    ours = open_runtime(prepared["weights"])(pixels).score_map[:, :, 0, 0]
    np.testing.assert_allclose(theirs.numpy(), ours, rtol=1e-4, atol=1e-4 * np.abs(ours).max())


def test_a_peer_that_is_not_installed_is_a_reason(monkeypatch, prepared):
    monkeypatch.syspath_prepend(PEERS)
    contract = importlib.import_module("contract")
    package = "no-such-package-1234"
    command = contract.peer_command(
        "a peer", package, ("crop",), lambda task: pytest.fail("it ran")
    )
    options = {"--model": prepared["fp32"], "--data": prepared["photos"]}
    done = CliRunner().invoke(command, words(options))
    skipped = json.loads(done.output)["skipped"]
    assert skipped == f"{package} is not installed: pip install {package}"


def samples_of(
    view: str, name: str, speeds: list[float], predictions: list[int], skipped: str = ""
) -> list[dict]:
    """Rows of one evaluation, one per round."""
    report = {
        "version": "1",
        "images": len(predictions),
        "top1_error_pct": 50.0 if predictions else None,
        "peak_mib": 10.0,
        "process_s": 1.0,
        "predictions": predictions,
        "skipped": skipped,
    }
    return [
        {"view": view, "way": name, "round": i, "images_per_s": speed, **report}
        for i, speed in enumerate(speeds)
    ]


def test_ratios_are_taken_within_rounds(benchmarks):
    """By hand: ours is 2, 3 and 1 times as fast in three rounds of a machine that slows down."""
    evaluations = benchmarks("peer_comparison.evaluations")
    summary = benchmarks("peer_comparison.summary").summary
    tables = benchmarks("peer_comparison.report").tables
    ours, loop = evaluations.FP32, evaluations.LOOP

    net = [*samples_of("net", ours, [8], []), *samples_of("net", loop, [4], [])]
    start = "| ONNX Runtime loop fp32 | 1 "
    speeds = "| 4.00 | 4.00-4.00 | 1.00 | 1.00-1.00 | 2.00 | 2.00-2.00 "
    assert f"{start}{speeds}|  |  | 10 | 1.0 |" in tables(summary(pd.DataFrame(net)), 256)

    crop = [
        *samples_of("crop", ours, [8, 6, 1], [1, 2]),
        *samples_of("crop", loop, [4, 2, 1], [1, 0]),
        *samples_of("crop", "OpenVINO bf16", [0], [], "no such instructions"),
    ]
    rows = summary(pd.DataFrame(crop)).set_index("way")
    of_loop = rows.loc[loop]
    assert of_loop.images_per_s == 2
    assert of_loop.ours_times_as_fast == 2
    assert (of_loop.ours_times_as_fast_min, of_loop.ours_times_as_fast_max) == (1, 3)
    assert (rows.loc[ours].of_loop, of_loop.of_loop, of_loop.same_best_class) == (2, 1, 1)
    text = tables(rows.reset_index(), 256)
    speeds = "| 2.00 | 1.00-4.00 | 1.00 | 1.00-1.00 | 2.00 | 1.00-3.00 "
    assert f"{start}{speeds}| 50.00 | 1 of 2 |" in text
    assert "- OpenVINO bf16, not measured: no such instructions" in text


@pytest.mark.slow
@pytest.mark.nightly
def test_a_limit_beside_another_quantizer(tmp_path):
    net = net_and_photos(tmp_path / "photos", 200, "conv3_1")
    save_net(net, tmp_path / "A.pt")
    options = {"--model": tmp_path / "A.pt", "--data": tmp_path / "photos"}
    rehearse("limit.py", tmp_path, {**options, "--limit": 12, "--threads": 1})
    rows = pd.read_csv(tmp_path / "limit.csv", keep_default_na=False).set_index("tool")
    ours, other = rows.iloc[0], rows.iloc[1]
    assert "conv3_2" in ours.in_float.split() and ours.high_pct <= 12
    assert other.name == "onnxruntime.quantization" and other.loss_pct > ours.loss_pct
    assert "fp32's top-1 error" in (tmp_path / "limit.md").read_text()


def test_words_select_rows_and_their_references(benchmarks):
    evaluations = benchmarks("peer_comparison.evaluations")
    selected = evaluations.select(["crop", "net"], ["timm validate"])
    names = {view: [one.name for one in of_view] for view, of_view in selected.items()}
    assert names["crop"] == [evaluations.TORCH, evaluations.FP32, "timm validate", evaluations.LOOP]
    assert names["net"] == [evaluations.FP32, evaluations.LOOP]
    assert evaluations.select(["dense"], []) == {"dense": evaluations.VIEWS["dense"]}


@pytest.mark.nightly
@pytest.mark.slow
def test_the_comparison_with_peers_in_rehearsal(tmp_path):
    options = {
        "--width": 0.0625,
        "--images": 4,
        "--calls": 2,
        "--rounds": 1,
        "--views": "net",
        "--only": "loop",
        "--threads": 1,
        "--kept": tmp_path / "kept",
    }
    rehearse("against_peers.py", tmp_path, options)
    table = pd.read_csv(tmp_path / "peers.csv")
    assert table.way.tolist() == ["ours, ONNX Runtime fp32", "ONNX Runtime loop fp32"]
    assert (table.images_per_s > 0).all()
    assert is_png(tmp_path / "peers.png")
    assert "| ONNX Runtime loop fp32 |" in (tmp_path / "peers.md").read_text()


def test_a_table_is_compared_with_its_bound(benchmarks):
    """By hand: 8 s of 10 s are the net's; one round of two is disturbed."""
    script = benchmarks("time_to_table")
    of_round = {"decode": (1, 2), "net_once": (9, 16), "net": (8, 15), "before": (16, 30),
                "now": (10, 19), "now, few photos": (4, 6)}  # fmt: skip
    common = {"part": "table", "model": "D", "images": 16}
    rows = [
        {**common, "round": turn, "what": what, "s": s * (1 + turn), "cpu_s": cpu * (1 + turn),
         "net_cpu_s": cpu * (1 + turn) - 5, "others_cores": turn}
        for turn in (0, 1)
        for what, (s, cpu) in of_round.items()
    ]  # fmt: skip
    found = {row["what"]: row for row in script.part_rows("table", "D", pd.DataFrame(rows))}
    assert found["bound over now"]["ratio"] == 0.8 and found["bound over before"]["ratio"] == 0.5
    assert found["fixed CPU, now"]["cpu_s"] == 5 - 8 / 16 * 2 and "fixed CPU, before" not in found
    assert found["before over now"]["ratio"] == 1.6
    assert (found["now"]["s"], found["now"]["rounds"], found["now"]["disturbed"]) == (10, 1, 1)
    text = script.report(pd.DataFrame(rows))
    assert "| table | D | bound over now |" in text
    assert "| 16 photos to their table, D: the bound over it | 0.97 or more | 0.5 | 0.8 |" in text


def test_peers_are_compared_with_files_and_nets(benchmarks):
    """By hand: 60 s of timm's over 12 s of int8, 52 over 10 of the nets; one answer differs."""
    script = benchmarks("time_to_table")
    ways = {"D.int8-cpu.onnx": (12, "1 2 3"), "timm validate": (60, "1 2 4"),
            "net of D.int8-cpu.onnx": (10, None), "net of timm validate": (52, None)}  # fmt: skip
    rows = [
        {"part": "peers", "model": "crop", "images": 3, "round": 0, "what": what, "s": s,
         "cpu_s": s, "others_cores": 0, "predictions": best, "top1_error_pct": 50}
        for what, (s, best) in ways.items()
    ]  # fmt: skip
    found = {row["what"]: row for row in script.part_rows("peers", "crop", pd.DataFrame(rows))}
    assert found["timm validate over D.int8-cpu.onnx"]["ratio"] == 5
    assert found["D.int8-cpu.onnx"]["same_best_class"] == 2
    assert found["timm validate"]["top1_error_pct"] == 50
    goal = (
        "| timm validate over D.int8-cpu.onnx, time of the crops | 6 or more |  | 5 | 5-5 |  | 5.2"
    )
    assert f"{goal} | no |" in script.report(pd.DataFrame(rows))


def test_the_work_of_groups_is_the_work(benchmarks):
    work, spec = benchmarks("scaling_law.work"), thin_net("D", crop=224).spec
    for shape in (work.InputShape(1, 224, 224), work.InputShape(3, 257, 341)):
        whole = shape.batch * macs(ARCHS["D"], shape.height, shape.width, 4, spec.width, 224)
        assert sum(work.group_work(spec, shape).values()) == work.work(spec, shape) == whole


def test_lines_and_deviations_from_them(benchmarks):
    """By hand: 2 s + 3 s per GMAC and 100 MiB + 5 MiB per GMAC at 1, 2 and 3 GMAC."""
    work = benchmarks("scaling_law.work")
    points = [
        work.Point(work.SIZE, "torch", 1, 224, 224, x, 1, 2 + 3 * x, 0, 9, 100 + 5 * x)
        for x in (1, 2, 3)
    ]
    table = benchmarks("scaling_law.lines").with_lines(points)
    first = table.iloc[0]
    slope = (1 * 5 + 2 * 8 + 3 * 11) / 14
    assert first.slope_s_per_gmac == pytest.approx(slope)
    assert first.deviation_pct == pytest.approx(100 * (5 / slope - 1))
    assert (first.line_intercept_s, first.line_slope_s_per_gmac) == pytest.approx((2, 3))
    assert np.allclose(table.line_deviation_pct, 0)
    memory = (first.memory_intercept_mib, first.memory_slope_mib_per_gmac)
    assert memory == pytest.approx((100, 5))
    assert np.allclose(table.memory_deviation_pct, 0)


@pytest.mark.nightly
@pytest.mark.slow
def test_the_scaling_law_in_rehearsal(tmp_path):
    options = {
        "--width": 0.0625,
        "--sizes": "224x224,224x288",
        "--batches": "1,2",
        "--counts": "8,16",
        "--rounds": 1,
        "--threads": 1,
        "--kept": tmp_path / "kept",
    }
    rehearse("scaling.py", tmp_path, options)
    table = pd.read_csv(tmp_path / "scaling.csv")
    layers = pd.read_csv(tmp_path / "scaling_layers.csv")
    assert table.groupby("series").size().to_dict() == {
        "batch at 224 x 224": 4,
        "images scored": 2,
        "size of one image": 4,
    }
    one, two = table[(table.series == "batch at 224 x 224") & (table.runtime == "torch")].gmacs
    assert two == pytest.approx(2 * one)
    assert (table.median_s > 0).all() and (table.peak_mib > 100).all()
    per_call = layers[
        (layers.series == "size of one image")
        & (layers.runtime == "onnxruntime")
        & (layers.width == 288)
    ]
    assert per_call.group.nunique() == 8
    assert (per_call.seconds > 0).all()  # every name of the profiler has its group
    assert is_png(tmp_path / "scaling.png")
    assert "ms per GMAC" in (tmp_path / "scaling.md").read_text()


@pytest.mark.nightly
@pytest.mark.slow
def test_ncnn_against_onnx_runtime_in_rehearsal(tmp_path, photos):
    pytest.importorskip("ncnn")
    weights = save_net(thin_net("A", seed=2, crop=32), tmp_path / "A.pt")
    options = {
        "--weights": weights,
        "--sizes": "32x32,32x64",
        "--batches": "1,2",
        "--rounds": 8,
        "--threads": 1,
        "--data": photos,
    }
    rehearse("cpu_fp32.py", tmp_path, options)
    table = pd.read_csv(tmp_path / "cpu_fp32.csv")
    exact = table[table.runtime == "ncnn"]
    shapes = list(zip(exact.height_px, exact.width_px, exact.batch, strict=True))
    assert shapes == [(32, 32, 1), (32, 32, 2), (32, 64, 1), (32, 64, 2)]
    assert (exact.score_difference < 1e-4).all()
    assert (table[table.runtime == "ncnn-bf16"].score_difference > 1e-4).all()
    assert (table.speedup_low <= table.speedup).all()
    assert (table.speedup <= table.speedup_high).all()
    assert "| 32 | 24 | 24 |" in (tmp_path / "cpu_fp32.md").read_text()
    memory = pd.read_csv(tmp_path / "cpu_fp32_memory.csv")
    assert set(memory.runtime) == {"onnxruntime", *table.runtime}
    rehearse("cpu_fp32.py", tmp_path, options | {"--sizes": "64x32"}, "--append")
    longer = pd.read_csv(tmp_path / "cpu_fp32.csv")
    pd.testing.assert_frame_equal(longer[: len(table)], table)
    assert set(longer[len(table) :].height_px) == {64}
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "cpu_fp32_memory.csv"), memory)


@pytest.mark.nightly
@pytest.mark.slow
def test_the_loaders_in_rehearsal(tmp_path, photos):
    options = {"--data": photos, "--images": 24, "--seconds": 0.5, "--enlarge": 160}
    rehearse("loader.py", tmp_path, options)
    (path,) = tmp_path.glob("loader_*_cores.csv")
    table = pd.read_csv(path)
    assert list(table.loader) == [
        "training, S 256",
        "training, S [256;512]",
        "evaluation, Q 256",
        "evaluation, Q 256, 384, 512",
    ]
    assert (table.images_per_s > 0).all() and table.main_ms_per_image.notna().sum() == 2
    assert np.allclose(table.per_core * table.cores, table.images_per_s)


@pytest.mark.nightly
@pytest.mark.slow
def test_planted_faults_in_rehearsal(tmp_path):
    """On an untrained net the posteriors show the fault as they always do."""
    net = save_net(thin_net("A", crop=96, classes=BUILT_IN_CLASSES), tmp_path / "A.pt")
    options = {"--net": net, "--only": "temperature", "--work": tmp_path / "work"}
    rehearse("planted_faults.py", tmp_path, options, "--short")
    table = pd.read_csv(tmp_path / "planted_faults.csv")
    assert set(table.file) == {"temperature x 3", "temperature x 1.1", "temperature x 1.01"}
    assert (table.verdict == "fail").all() and (table.exit_code == 1).all()
    assert (table.spoke == "posterior difference").all()
    assert "3 of 3 faults fail the gate" in (tmp_path / "planted_faults.md").read_text()


@pytest.mark.slow
def test_svms_beside_logistic_regression(benchmarks, tmp_path):
    """Oracles: scipy's binomial test and interval, and scikit-learn on the first split."""
    from scipy.stats import binomtest
    from sklearn.linear_model import LogisticRegression

    from tests.support.features import write_features
    from train.transfer.class_labels import listed_classes
    from train.transfer.single import SingleProtocol, draw_splits

    script = benchmarks("transfer")
    for one, other in ((0, 0), (0, 3), (7, 2), (5, 5), (1, 30)):
        expected = binomtest(one, one + other).pvalue if one + other else 1
        assert script.mcnemar(one, other) == pytest.approx(min(1, expected), abs=1e-12)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    rows = np.maximum(rng.normal(size=(60, 12)) + rng.normal(size=(3, 12))[labels], 0.01)
    images = [f"{label}/{i}.jpg" for i, label in enumerate(labels)]
    classes = [str(label) for label in labels]
    folder = write_features(tmp_path / "f", images, classes, {"relu7": rows.astype("f4")})
    options = {
        "--features": folder, "--out": tmp_path, "--splits": 2, "--train-per-class": 10,
        "--c-grid": "1,10",
    }  # fmt: skip
    done = CliRunner().invoke(script.main, words(options))
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "transfer.csv")
    assert table.method.tolist() == ["SVM", "logistic regression"] * 2
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("f4").astype(float)
    split = draw_splits(listed_classes(("0", "1", "2"), labels), SingleProtocol(2, 10, 50, 0))[0]
    theirs = LogisticRegression(C=table.c[1], max_iter=10_000)
    theirs.fit(unit[split.train], labels[split.train])
    right = int((theirs.predict(unit[split.test]) == labels[split.test]).sum())
    assert (table.right[1], table.test_images[1]) == (right, 30)
    interval = binomtest(right, 30).proportion_ci(0.95, "exact")
    shown = f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"
    assert shown in (tmp_path / "transfer.md").read_text()


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads Linux's /proc")
def test_a_soak_finds_growth_and_what_a_process_holds(benchmarks, tmp_path):
    """Oracles: a straight line with known rate; a process that holds what the test made it hold."""
    soak = benchmarks("soak")
    seconds = np.arange(0, 3600, 15.0)
    noise = np.random.default_rng(0).normal(0, 1, len(seconds))
    table = pd.DataFrame({"second": seconds, "memory_mib": 100 + 7 * seconds / 3600 + noise})
    table["descriptors"] = 12
    grows = soak.slope_of(table, "bench", "memory_mib")
    assert grows.low < 7 < grows.high and grows.low > 0
    assert soak.slope_of(table, "bench", "descriptors").per_hour == 0

    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "left").touch()
    hold = "import mmap, sys; m = mmap.mmap(-1, 64 * 2**20); m.write(b'x' * len(m)); "
    hold += "f = [open(sys.argv[1]) for _ in range(9)]; print('ready', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, os.devnull],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        sample = soak.held_by("bench", 1.0, process.pid, tmp_path)
        process.stdin.write("\n")
    assert 64 <= sample.memory_mib < 128 and 64 <= sample.shared_mib < 65
    assert (sample.descriptors, sample.processes, sample.temporary_files) == (12, 1, 1)


def test_precisions_in_openvino_by_layer(tmp_path, benchmarks):
    """Oracles: half precision's step by hand; a float32 file that differs by rounding alone."""
    pytest.importorskip("openvino")
    script = benchmarks("openvino_forms")
    assert script.rms_pct(np.array([3.0, 0]), np.array([4.0, 2])) == pytest.approx(50)
    folder = tmp_path / "thin"
    folder.mkdir()
    net = thin_net("A")
    for name in ("fp32", "fp16"):
        artifact = Artifact(net.spec, "uint8", name, "A.pt", "0" * 64, ("relu1_1", "pool5"))
        path = folder / f"A.{name}.onnx"
        write_onnx(path, onnx_graph(net, artifact, PRECISIONS[name]))
        described = {**json.loads(artifact.to_json()), "sha256": sha256(path)}
        manifest_path(path).write_text(json.dumps(described))
    square = tmp_path / "photos" / "val" / "disc"
    square.mkdir(parents=True)
    for i in range(2):
        Image.new("RGB", (64, 64), (40 * i + 30, 90, 200)).save(square / f"{i}.png")
    run(script.main, folder, "--data", tmp_path / "photos", "--images", 2, "--out", tmp_path)
    table = pd.read_csv(tmp_path / "openvino_forms.csv")
    own = table[table.runtime == "openvino"].set_index(["precision", "output"])
    assert set(own.index) == {(p, o) for p in ("fp32", "fp16") for o in ("relu1_1", "pool5")}
    assert (own.loc["fp32"].error_pct < 1e-3).all() and (own.between_pct < 1e-3).all()
    step = 100 * 2.0**-11  # half precision's largest relative rounding
    assert step / 10 < own.error_pct["fp16", "relu1_1"] < 2 * step


def test_localisers_are_judged_and_drawn(tmp_path, benchmarks):
    (tmp_path / "boxes").mkdir()
    classes = {"classes": BUILT_IN_CLASSES, "train_side": (48, 48)}
    net = save_net(thin_net("A", **classes), tmp_path / "A.pt")
    localiser = save_net(thin_net("A", boxes="shared", **classes), tmp_path / "boxes/best.pt")
    more = ["--images", 6, "--threads", 1, "--out", tmp_path]
    run(benchmarks("localisation").main, net, localiser, *more)
    table = pd.read_csv(tmp_path / "localisation.csv")
    assert table.protocol.dropna().tolist() == ["centre", "dense", "dense"]
    assert table.boxes_by.tolist() == ["boxes"] * 3 + ["best constant box"]
    text = (tmp_path / "localisation.md").read_text()
    assert "| boxes | all | shared | dense | 48 |" in text and '"cpu"' in text
    assert is_png(tmp_path / "localisation.png")


@pytest.mark.nightly
@pytest.mark.slow
def test_small_files_in_rehearsal(tmp_path):
    """Every form has its row, and the first is compared with itself."""
    rng = np.random.default_rng(0)
    net = thin_net("A", crop=64)
    for split, name in ((s, c) for s in ("train", "val") for c in net.spec.classes):
        (tmp_path / "data" / split / name).mkdir(parents=True)
        for i in range(3):
            photo_of(name, rng).save(tmp_path / "data" / split / name / f"{i}.png")
    options = {
        "--calibration": tmp_path / "data",
        "--data": tmp_path / "data",
        "--low-rank": "fc6:40,fc7:60",
        "--sizes": "64,96x128",
        "--side": 80,
        "--rounds": 3,
        "--files": tmp_path / "files",
    }
    model = save_net(net, tmp_path / "net.pt")
    rehearse("small_files.py", tmp_path, options, str(model))
    rows = pd.read_csv(tmp_path / "small_files.csv")
    assert list(rows["size"]) == ["64"] * 5 + ["96x128"] * 5
    sizes = dict(zip(rows["form"], rows["mb"], strict=True))
    assert sizes["int4-cpu"] < sizes["int8-cpu"] < sizes["fp32"]
    assert sizes["fp32+low-rank"] < sizes["fp32"]
    first = rows[rows["form"] == "fp32"].iloc[0]
    assert first["ratio"] == 1 and first["loss"] == 0 and first["agrees_pct"] == 100
    assert (rows["peak_mib"] > 30).all() and (rows["error_pct"] <= 100).all()


@pytest.mark.nightly
@pytest.mark.slow
def test_load_beside_a_simulated_queue(tmp_path):
    net = save_net(thin_net("A"), tmp_path / "A.pt")
    options = {"--side": 32, "--load-seconds": 0.3}
    rehearse("load.py", tmp_path, options, str(net))
    table = pd.read_csv(tmp_path / "load.csv")
    assert {"single stream", "offline", "server"} == set(table.scenario)
    assert (table.ratio.dropna() > 0).all() and table.ratio.notna().sum() >= 2
    assert "simulated queue" in (tmp_path / "load.md").read_text()
