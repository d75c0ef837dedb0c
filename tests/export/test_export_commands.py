"""vgg-export with engines and reduced precisions, and vgg-bench on its files, as users run them."""

import importlib.util
import json

import numpy as np
import pandas as pd
import pytest

from bench.cli import main as vgg_bench
from export.cli import main as vgg_export
from tests.support.nets import CLASSES, save_net, thin_net
from tests.support.run import run

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="tensorrt-rtx is not installed: pip install tensorrt-rtx",
)


@pytest.fixture
def model(here):
    return save_net(thin_net("A", classes=CLASSES), here / "A.pt")


@needs_rtx
@pytest.mark.slow
def test_onnx_files_engines_and_a_triton_repository(here, model, photos):
    quantization = ("--calibration", photos, "--calibration-images", 16, "--keep", "conv1_1")
    shapes = ("--scales", "32,64", "--max-batch", 2, "--data", photos)
    output = run(
        vgg_export,
        model,
        "--onnx",
        *("--trt", "--trt-flavour", "rtx", *shapes),
        *("--precision", "fp16,int8", *quantization, "--sensitivity"),
        *("--triton", "models"),
    )
    assert "calibrating on 8 images" in output
    assert "What quantizing one layer alone costs" in output
    assert "in either orientation" in output
    endings = ("onnx", "json", "rtx.engine", "rtx.json")
    names = {f"A.{precision}.{ending}" for precision in ("fp16", "int8") for ending in endings}
    names |= {"A.calibration.json", "A.sensitivity.csv", "export.json"}
    assert {p.name for p in (here / "exported").iterdir()} == names
    rows = {row["file"]: row for row in json.loads((here / "exported" / "export.json").read_text())}
    assert list(rows) == ["A.fp16.onnx", "A.int8.onnx", "A.fp16.rtx.engine", "A.int8.rtx.engine"]
    assert rows["A.int8.onnx"]["kept"] == ["conv1_1", "fc8"]
    assert len(rows["A.int8.rtx.engine"]["profiles"]) == 2
    targets = ["sm75", "sm80", "sm86", "sm89", "sm120", "sm121"]
    assert rows["A.fp16.rtx.engine"]["targets"] == targets
    table = pd.read_csv(here / "exported" / "A.sensitivity.csv")
    assert set(table.layer) == {
        *("conv1_1", "conv2_1", "conv3_1", "conv3_2"),
        *("conv4_1", "conv4_2", "conv5_1", "conv5_2"),
        *("fc6", "fc7"),
    }
    assert table.sqnr_db.notna().all() and table.images.between(6, 16).all()
    assert {p.name for p in (here / "models").iterdir()} == {"A_fp16_onnx", "A_int8_onnx"}
    assert "Triton runs engines of tensorrt only" in output

    output = run(vgg_bench, "--data", photos, "--scales", "32", "--measure", "accuracy")
    assert "Not on the CPU" in output
    assert "A.fp16.rtx.engine" in output and "A.int8.onnx" in output
    assert set(pd.read_csv("results/accuracy.csv").precision) == {"fp16", "int8"}
    shapes = pd.read_csv("results/shapes.csv")
    assert {"height_px", "width_px", "batch", "first_ms", "warm_median_ms"} <= set(shapes)
    assert (shapes.first_ms > 0).all()
    assert "first runs" in output
    output = run(vgg_bench, "exported/A.fp16.rtx.engine", code=2)
    assert "A.fp16.rtx.engine: TensorRT engines run on GPUs only" in output


@needs_rtx
def test_engines_from_onnx_files(here, model):
    run(vgg_export, model, "--onnx", "--precision", "fp16")
    rtx = ("--trt", "--trt-flavour", "rtx")
    run(vgg_export, "exported/A.fp16.onnx", *rtx, "--target", "sm86", "--scales", "32")
    profiles = ("--profiles", "covering", "--scales", "32,64")
    output = run(vgg_export, "exported/A.fp16.onnx", *rtx, "--target", "sm89", *profiles)
    assert "the last build took" in output
    source, row = json.loads((here / "exported" / "export.json").read_text())
    assert (row["file"], row["targets"]) == ("A.fp16.rtx.engine", ["sm89"])
    assert len(row["profiles"]) == 1
    assert source == {"file": "A.fp16.onnx"}
    run(vgg_export, *rtx, "--target", "sm80", "--scales", "32")  # the same ONNX file again
    assert json.loads((here / "exported" / "A.fp16.rtx.json").read_text())["targets"] == ["sm80"]
    (here / "exported" / "export.json").write_text('[{"file": "A.fp16.rtx.engine"}]')
    assert "lists no ONNX files" in run(vgg_export, "--trt", "--trt-flavour", "rtx", code=2)
    assert "none of the newest exports runs on the CPU" in run(vgg_bench, code=2)


@needs_rtx
def test_what_a_target_cannot_run_is_refused_before_anything_is_exported(here, model):
    args = (model, "--onnx", "--trt", "--trt-flavour", "rtx")
    output = run(vgg_export, *args, "--precision", "fp16,fp8", "--target", "sm80", code=2)
    assert "--precision fp8 is not on sm80" in output
    assert "Turing" in output and "Ada" in output
    assert "sm90" in run(vgg_export, *args, "--target", "sm90", code=2)
    assert not (here / "exported").exists()


@needs_rtx
def test_images_for_engines_that_cannot_be_read_are_refused_before_anything_is_exported(
    here, model
):
    args = (model, "--onnx", "--trt", "--trt-flavour", "rtx", "--data")
    assert "nowhere: cannot be listed" in run(vgg_export, *args, "nowhere", code=2)
    assert not (here / "exported").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--data", "nowhere"),
        ("--scales", "32"),
        ("--target", "sm80"),
        ("--profiles", "covering"),
        ("--trt-flavour", "rtx"),
    ],
)
def test_an_option_of_engines_is_refused_where_none_is_built(here, model, option, value):
    output = run(vgg_export, model, "--onnx", option, value, code=2)
    assert f"{option} is for TensorRT engines; add --trt, or leave it out" in output
    assert not (here / "exported").exists()


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt") is not None,
    reason="this machine has the package whose absence is tested",
)
def test_a_flavour_that_is_not_installed(here, model):
    output = run(vgg_export, model, "--onnx", "--trt", "--trt-flavour", "tensorrt", code=2)
    assert "pip install tensorrt" in output
    assert not (here / "exported").exists()


@pytest.mark.slow
def test_options_that_do_not_fit(here, model, photos):
    assert "nothing to write; add --onnx, --trt or --ncnn" in run(vgg_export, model, code=2)
    assert "add --onnx, or name the .onnx file" in run(vgg_export, model, "--trt", code=2)
    (here / "x.onnx").write_bytes(b"x")
    assert "leave --onnx out" in run(vgg_export, "x.onnx", "--onnx", code=2)
    entropy = ("--calibration", photos, "--calibration-method", "entropy")
    nowhere = ("--calibration", "nowhere")
    for args, message in (
        (("--precision", "fp4"), "'fp4' is unknown; choose from fp32, fp16"),
        (("--precision", "int8"), "--calibration DIR is missing"),
        (("--sensitivity",), "nothing is quantized"),
        (("--scales", "big"), "write 256,384,512"),
        (("--precision", "fp8", *entropy), "compares with evenly spaced levels"),
        (("--precision", "int8", *nowhere), "--calibration nowhere: does not exist"),
    ):
        assert message in run(vgg_export, model, "--onnx", *args, code=2)


@pytest.mark.nightly
@pytest.mark.slow
def test_pytorch_in_three_precisions_and_side_by_side(here, model, photos):
    run(vgg_export, model, "--onnx")
    output = run(
        vgg_bench,
        *(model, "exported/A.fp32.onnx", "--torch-precision", "fp32,bf16"),
        *("--data", photos, "--scales", "32", "--batch-sizes", "1"),
        *("--side-by-side", "--max-top1-drop", 20, "--latency-seconds", "0.1"),
    )
    assert "In turn with A.pt torch fp32" in output
    accuracy = pd.read_csv("results/accuracy.csv")
    assert accuracy.model.unique().tolist() == ["A.pt torch fp32", "A.pt torch bf16", "A.fp32.onnx"]
    rows = pd.read_csv("results/side_by_side.csv")
    samples = pd.read_csv("results/side_by_side_samples.csv")
    assert rows.model.tolist() == ["A.pt torch bf16", "A.fp32.onnx"]
    assert (rows.reference == "A.pt torch fp32").all()
    ms = samples.pivot_table(index="round", columns="model", values="ms")
    ratios = ms["A.pt torch fp32"] / ms["A.fp32.onnx"]
    row = rows[rows.model == "A.fp32.onnx"].iloc[0]
    assert row.speedup == pytest.approx(np.median(ratios))
    assert row.slowest_round == pytest.approx(ratios.min())
    assert row.rounds == len(ratios)
    assert row.speedup_low <= row.speedup <= row.speedup_high
    report = (here / "results" / "report.md").read_text()
    assert "In turn with" in report and "times as fast" in report


def test_runtimes_by_name(here, model):
    output = run(vgg_bench, "A.pt", "--runtimes", "onnxruntime", code=2)
    assert "none of them opens A.pt; choose from torch, torch-compile" in output
    output = run(vgg_bench, "A.pt", "--runtimes", "tvm", code=2)
    assert "'tvm' is" in output and "choose from torch" in output
    assert "'fp64' is" in run(vgg_bench, "A.pt", "--torch-precision", "fp64", code=2)
    output = run(vgg_bench, "A.pt", "--side-by-side", code=2)
    assert "--side-by-side compares with the first model" in output
    assert "CUDA graphs: not for torch on cpu" in run(vgg_bench, "A.pt", "--cuda-graphs", code=2)
    run(vgg_export, model, "--onnx")
    args = ("exported/A.fp32.onnx", "--runtimes", "onnxruntime-tensorrt")
    assert "needs a GPU; add --device cuda" in run(vgg_bench, *args, code=2)
