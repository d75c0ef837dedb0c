"""The scripts of benchmarks/ run: a rehearsal on a thin net, and their arithmetic."""

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

from export.release import ExportOptions, export_onnx
from tests.support.nets import picture, save_net, thin_net
from vgg_deploy.data.built_in import CLASSES as PICTURED
from vgg_deploy.net.archs import ARCHS, macs
from vgg_deploy.net.checkpoint import load_checkpoint
from vgg_deploy.runtimes import open_runtime

ROOT = Path(__file__).parent.parent
PEERS = ROOT / "benchmarks" / "peers"


def rehearse(script: str, folder: Path, *options: str) -> None:
    command = [sys.executable, ROOT / "benchmarks" / script, *options, "--out", str(folder)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_gpu_benchmark_in_rehearsal(tmp_path):
    rehearse(
        "gpu_speed.py", tmp_path, "--device", "cpu", "--archs", "A", "--width", "0.0625",
        "--sides", "256", "--batches", "1", "--ways", "eager;ONNX Runtime",
    )  # fmt: skip
    table = pd.read_csv(tmp_path / "gpu_speed_cpu.csv")
    found = set(zip(table.net, table.way, table.precision, strict=True))
    assert found == {
        ("A", "eager", "bf16"), ("A", "ONNX Runtime", "fp16"), ("A", "eager", "fp32"),
        ("A", "ONNX Runtime", "fp32"),
    }  # fmt: skip
    assert (table.end_to_end_ms > 0).all() and (table.score_difference < 0.02).all()
    assert (table[table.precision == "fp32"].score_difference < 1e-5).all()
    text = (tmp_path / "gpu_speed_cpu.md").read_text()
    assert "| A | ONNX Runtime | fp16 | 256 | 1 |" in text and '"versions"' in text


@pytest.mark.parametrize("changes", [
    ("pool_first",), ("padded_input",), ("fused_relu",), ("pool_first", "fused_relu"),
    ("padded_input", "pool_first", "fused_relu"),
])  # fmt: skip
def test_gpu_variants_are_the_same_net(changes, monkeypatch):
    """Oracle: the unchanged net in float64, its scores and the gradients of all weights."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    variants = importlib.import_module("gpu_variants")
    net, changed = thin_net("D").double(), thin_net("D").double()
    for name in changes:
        changed = getattr(variants, name)(changed)
    kinds = {type(module).__name__ for module in changed.modules()}
    assert kinds & {"_PoolBiasReLU", "_PaddedConv", "_ConvReLU"}
    images = 64 * torch.randn(2, 3, 64, 70, generator=torch.Generator().manual_seed(1)).double()
    scores = [each(images) for each in (net, changed)]
    torch.testing.assert_close(scores[1], scores[0], rtol=1e-12, atol=1e-12)
    for each in scores:
        each.square().sum().backward()
    wanted = sorted(float(p.grad.double().norm()) for p in net.parameters())
    found = sorted(float(p.grad.double().norm()) for p in changed.parameters())
    assert len(found) == len(wanted) and np.allclose(found, wanted, rtol=1e-9)


def test_the_gpu_session_in_rehearsal(tmp_path):
    (tmp_path / "out").mkdir()
    rehearse("gpu_session.py", tmp_path / "out", "--rehearsal", "--work", str(tmp_path / "work"),
             "--steps", "train,environment")  # fmt: skip
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert found == {"summary.md", "session.log", "train_step.csv"}
    table = pd.read_csv(tmp_path / "out" / "train_step.csv")
    assert len(table) == 3 and (table.third_loss < table.first_loss).all()
    assert np.allclose(table.third_loss, table.third_loss[0], rtol=0.01)
    text = (tmp_path / "out" / "summary.md").read_text()
    assert "| train |" in text and "| D | ours, pool first, fused ReLU | bf16 |" in text
    assert text.index("| environment |") < text.index("| train |")  # in the order of worth


def test_a_step_over_its_limit_is_ended_with_what_it_started(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    session = importlib.import_module("gpu_session")
    child = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    commands = [[sys.executable, "-c", "raise SystemExit(3)"], [sys.executable, "-c", parent]]
    step = session.Step("slow", 5, commands, beside=[["no-such-program"]])
    start = time.monotonic()
    outcome = session.run_step(step, 5, tmp_path / "slow.log")
    assert time.monotonic() - start < 20
    assert outcome.result == "no-such-program: No such file or directory; exit 3; ended after 5 s"
    pids = [
        int(line) for line in (tmp_path / "slow.log").read_text().splitlines() if line.isdigit()
    ]
    assert len(pids) == 1
    status, patience = Path(f"/proc/{pids[0]}/status"), time.monotonic() + 30
    while status.exists() and "zombie" not in status.read_text():
        assert time.monotonic() < patience  # a kill takes effect when the process is scheduled
        time.sleep(0.1)


def test_the_simulation_of_gates_in_rehearsal(tmp_path):
    rehearse("gate_simulation.py", tmp_path, "--short")
    table = pd.read_csv(tmp_path / "gate_simulation.csv")
    assert (table.gates == 300).all()
    assert (table.pass_pct + table.fail_pct + table.undecided_pct).tolist() == pytest.approx(
        [100] * len(table)
    )
    sequential = table[table.method.str.startswith("sequential")]
    # 300 gates: a share of 1 % is above 3 % once in a thousand
    assert max(sequential.false_pass_pct.max(), sequential.false_fail_pct.max()) < 3
    assert (tmp_path / "gate_simulation.md").read_text().count("\n| sequential |") == 19


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A thin D of the crop 224, its exports, and six square photos in two of its four classes."""
    folder, rng = tmp_path_factory.mktemp("peers"), np.random.default_rng(3)
    weights = save_net(thin_net("D", seed=4, crop=224), folder / "D.pt")
    for kind in ("square", "triangle"):
        (folder / "photos" / kind).mkdir(parents=True)
        for i in range(3):
            picture(kind, rng).resize((256, 256)).save(
                folder / "photos" / kind / f"{7 + 2 * i:03d}.png"
            )
    files = {"weights": weights}
    for form, name in (("uint8", "fp32"), ("normalised", "normalised")):
        files[name] = export_onnx(
            weights, folder / name, ExportOptions(("fp32",), form=form), None, 1, lambda text: None
        )[0].path
    return {**files, "photos": folder / "photos"}


def told_by(script: str, prepared: dict, file: str, monkeypatch, view: str = "crop") -> dict:
    monkeypatch.syspath_prepend(PEERS)
    options = [
        "--model",
        prepared[file],
        "--data",
        prepared["photos"],
        "--view",
        view,
        "--batch",
        "4",
        "--threads",
        "1",
        "--calls",
        "2",
    ]
    done = CliRunner().invoke(
        importlib.import_module(script).main, [str(option) for option in options]
    )
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    told = json.loads(done.output.splitlines()[-1])
    if told["skipped"]:
        pytest.skip(told["skipped"])
    return told


@pytest.fixture(scope="module")
def scores(prepared):
    """Of the photos, which are of the size of Q: PyTorch's, by cutting and sorting by hand."""
    from PIL import Image

    files = sorted(prepared["photos"].glob("*/*"))
    pixels = np.stack(
        [np.asarray(Image.open(file))[16:240, 16:240].transpose(2, 0, 1) for file in files]
    )
    net = load_checkpoint(prepared["weights"]).spec
    found = open_runtime(prepared["weights"])(pixels).posterior
    labels = np.array([net.classes.index(file.parent.name) for file in files])
    assert (
        len(set(found.argmax(1))) > 2 and 0 < (found.argmax(1) == labels).sum() < 6
    )  # or the tests below would show little
    return found.argmax(1), labels


@pytest.mark.parametrize(
    "script, file",
    [("ours", "weights"), ("ours", "fp32"), ("timm_validate", "weights"), ("torchvision_evaluate", "weights"), ("timm_onnx_validate", "normalised"),
     ("onnxruntime_loop", "fp32"), ("polygraphy_runner", "fp32"), ("openvino_loop", "fp32")],
)  # fmt: skip
def test_every_peer_finds_the_same_classes(script, file, prepared, scores, monkeypatch):
    told, (best, labels) = told_by(script, prepared, file, monkeypatch), scores
    assert told["predictions"] == best.tolist()
    assert told["images"] == 6 and told["top1_error_pct"] == pytest.approx(
        100 * (best != labels).mean()
    )
    assert (
        told["images_per_s"] == pytest.approx(6 / told["seconds"])
        and told["version"]
        and told["peak_mib"] > 50
    )


@pytest.mark.parametrize("script", ["onnxruntime_loop", "polygraphy_runner", "openvino_loop"])
def test_peers_score_whole_images_as_ours(script, prepared, monkeypatch):
    ours = told_by("ours", prepared, "fp32", monkeypatch, "dense")
    told = told_by(script, prepared, "fp32", monkeypatch, "dense")
    assert (
        told["predictions"] == ours["predictions"]
        and told["top1_error_pct"] == ours["top1_error_pct"]
    )


def test_benchmark_app_times_the_net_alone(prepared, monkeypatch):
    told = told_by("openvino_benchmark_app", prepared, "fp32", monkeypatch, "net")
    assert told["images"] >= 2 and told["seconds"] > 0 and told["top1_error_pct"] is None


@pytest.mark.parametrize("name", ["torchvision_net", "timm_net"])
def test_the_nets_of_torchvision_and_timm_are_ours(name, prepared, monkeypatch):
    """The inverse of reading their weights: same scores for the same picture, normalised as theirs are."""
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
    command = contract.peer_command(
        "a peer", "no-such-package-1234", ("crop",), lambda task: pytest.fail("was run")
    )
    done = CliRunner().invoke(
        command, ["--model", str(prepared["fp32"]), "--data", str(prepared["photos"])]
    )
    assert (
        json.loads(done.output)["skipped"]
        == "no-such-package-1234 is not installed: pip install no-such-package-1234"
    )


def told_of(
    view: str, way: str, speeds: list[float], predictions: list[int], skipped: str = ""
) -> list[dict]:
    told = {
        "version": "1",
        "images": len(predictions),
        "top1_error_pct": 50.0 if predictions else None,
        "peak_mib": 10.0,
    }
    told |= {"predictions": predictions, "skipped": skipped}
    return [
        {"view": view, "way": way, "round": i, "images_per_s": speed, "process_s": 1.0, **told}
        for i, speed in enumerate(speeds)
    ]


def test_ratios_are_taken_within_rounds(monkeypatch):
    """By hand: ours is 2, 3 and 1 times as fast in three rounds of a machine that slows down."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    peers = importlib.import_module("against_peers")
    told = [
        *told_of("crop", peers.FP32, [8, 6, 1], [1, 2]), *told_of("crop", peers.LOOP, [4, 2, 1], [1, 0]),
        *told_of("crop", "OpenVINO bf16", [0], [], "no such instructions"),
    ]  # fmt: skip
    alone = peers.summary(
        pd.DataFrame([*told_of("net", peers.FP32, [8], []), *told_of("net", peers.LOOP, [4], [])])
    )
    assert (
        "| ONNX Runtime loop fp32 | 1 | 4.00 | 4.00-4.00 | 1.00 | 1.00-1.00 | 2.00 | 2.00-2.00 |  |  | 10 | 1.0 |"
        in peers.tables(alone, 256)
    )
    found = peers.summary(pd.DataFrame(told)).set_index("way")
    loop = found.loc[peers.LOOP]
    assert (
        loop.images_per_s,
        loop.ours_times_as_fast,
        loop.ours_times_as_fast_min,
        loop.ours_times_as_fast_max,
    ) == (2, 2, 1, 3)
    assert (found.loc[peers.FP32].of_loop, loop.of_loop, loop.same_best_class) == (2, 1, 1)
    text = peers.tables(found.reset_index(), 256)
    assert (
        "| ONNX Runtime loop fp32 | 1 | 2.00 | 1.00-4.00 | 1.00 | 1.00-1.00 | 2.00 | 1.00-3.00 | 50.00 | 1 of 2 |"
        in text
    )
    assert "- OpenVINO bf16, not measured: no such instructions" in text


def test_the_comparison_with_peers_in_rehearsal(tmp_path):
    rehearse("against_peers.py", tmp_path, "--width", "0.0625", "--images", "4", "--calls", "2", "--rounds", "1", "--views", "net", "--only", "loop",
             "--threads", "1", "--kept", str(tmp_path / "kept"))  # fmt: skip
    table = pd.read_csv(tmp_path / "peers.csv")
    assert (
        table.way.tolist() == ["ours, ONNX Runtime fp32", "ONNX Runtime loop fp32"]
        and (table.images_per_s > 0).all()
    )
    assert (tmp_path / "peers.png").read_bytes()[
        :4
    ] == b"\x89PNG" and "| ONNX Runtime loop fp32 |" in (tmp_path / "peers.md").read_text()


def test_the_work_of_groups_is_the_work(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    scaling, spec = importlib.import_module("scaling"), thin_net("D", crop=224).spec
    for shape in (scaling.InputShape(1, 224, 224), scaling.InputShape(3, 257, 341)):
        whole = shape.batch * macs(ARCHS["D"], shape.height, shape.width, 4, spec.width, 224)
        assert sum(scaling.group_work(spec, shape).values()) == scaling.work(spec, shape) == whole


def test_lines_and_what_lies_off_them(monkeypatch):
    """By hand: 2 s + 3 s a GMAC and 100 MiB + 5 MiB a GMAC at 1, 2 and 3 GMAC."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    scaling = importlib.import_module("scaling")
    points = [
        scaling.Point(scaling.SIZE, "torch", 1, 224, 224, x, 1, 2 + 3 * x, 0, 9, 100 + 5 * x)
        for x in (1, 2, 3)
    ]
    table = scaling.with_lines(points)
    slope = (1 * 5 + 2 * 8 + 3 * 11) / 14
    assert table.slope_s_per_gmac[0] == pytest.approx(slope) and table.deviation_pct[
        0
    ] == pytest.approx(100 * (5 / slope - 1))
    assert (table.line_intercept_s[0], table.line_slope_s_per_gmac[0]) == pytest.approx(
        (2, 3)
    ) and np.allclose(table.line_deviation_pct, 0)
    assert (table.memory_intercept_mib[0], table.memory_slope_mib_per_gmac[0]) == pytest.approx(
        (100, 5)
    ) and np.allclose(table.memory_deviation_pct, 0)


def test_the_scaling_law_in_rehearsal(tmp_path):
    rehearse("scaling.py", tmp_path, "--width", "0.0625", "--sizes", "224x224,224x288", "--batches", "1,2", "--counts", "8,16", "--rounds", "1",
             "--threads", "1", "--kept", str(tmp_path / "kept"))  # fmt: skip
    table, layers = (
        pd.read_csv(tmp_path / "scaling.csv"),
        pd.read_csv(tmp_path / "scaling_layers.csv"),
    )
    assert table.groupby("series").size().to_dict() == {
        "batch at 224 x 224": 4,
        "images scored": 2,
        "size of one picture": 4,
    }
    one, two = table[(table.series == "batch at 224 x 224") & (table.runtime == "torch")].gmacs
    assert (
        two == pytest.approx(2 * one)
        and (table.median_s > 0).all()
        and (table.peak_mib > 100).all()
    )
    per_call = layers[
        (layers.series == "size of one picture")
        & (layers.runtime == "onnxruntime")
        & (layers.width == 288)
    ]
    assert (
        per_call.group.nunique() == 8 and (per_call.seconds > 0).all()
    )  # the profiler's names were all understood
    assert (tmp_path / "scaling.png").read_bytes()[:4] == b"\x89PNG" and "ms a GMAC" in (
        tmp_path / "scaling.md"
    ).read_text()


def test_ncnn_against_onnx_runtime_in_rehearsal(tmp_path, photos):
    pytest.importorskip("ncnn")
    weights = save_net(thin_net("A", seed=2, crop=32), tmp_path / "A.pt")
    options = (
        "--sizes",
        "32x32,32x64",
        "--batches",
        "1,2",
        "--rounds",
        "8",
        "--threads",
        "1",
        "--data",
        str(photos),
    )
    rehearse("cpu_fp32.py", tmp_path, "--weights", str(weights), *options)
    table = pd.read_csv(tmp_path / "cpu_fp32.csv")
    assert list(zip(table.height_px, table.width_px, table.batch, strict=True)) == [
        (32, 32, 1),
        (32, 32, 2),
        (32, 64, 1),
        (32, 64, 2),
    ]
    assert (
        (table.score_difference < 1e-4).all()
        and (table.speedup_low <= table.speedup).all()
        and (table.speedup <= table.speedup_high).all()
    )
    assert "| 32 | 24 | 24 |" in (tmp_path / "cpu_fp32.md").read_text()


def test_the_loaders_in_rehearsal(tmp_path, photos):
    rehearse(
        "loader.py",
        tmp_path,
        "--data",
        str(photos),
        "--images",
        "24",
        "--seconds",
        "0.5",
        "--enlarge",
        "160",
    )
    (table,) = tmp_path.glob("loader_*_cores.csv")
    found = pd.read_csv(table)
    assert list(found.loader) == [
        "training, S 256",
        "training, S [256;512]",
        "evaluation, Q 256",
        "evaluation, Q 256, 384, 512",
    ]
    assert (found.images_per_s > 0).all() and found.main_ms_per_image.notna().sum() == 2
    assert np.allclose(found.per_core * found.cores, found.images_per_s)


def test_planted_faults_in_rehearsal(tmp_path):
    """On a net that has not learnt the posteriors show what they always show."""
    net = save_net(thin_net("A", crop=96, classes=PICTURED), tmp_path / "A.pt")
    rehearse(
        "planted_faults.py",
        tmp_path,
        "--net",
        str(net),
        "--short",
        "--only",
        "temperature",
        "--work",
        str(tmp_path / "work"),
    )
    table = pd.read_csv(tmp_path / "planted_faults.csv")
    assert set(table.file) == {"temperature x 3", "temperature x 1.1", "temperature x 1.01"}
    assert (
        (table.verdict == "fail").all()
        and (table.exit_code == 1).all()
        and (table.spoke == "posterior difference").all()
    )
    assert "3 of 3 faults fail the gate" in (tmp_path / "planted_faults.md").read_text()
