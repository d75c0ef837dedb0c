"""Exported files in tools that nobody here wrote."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export.release import ExportOptions, export_onnx
from export.settings.export_options import PRECISION_NAMES
from export.tensorrt.triton import TritonModel, configuration, write_repository
from tests.support.nets import photo_of, save_net, thin_net
from vgg_deploy.exported.metadata import Artifact
from vgg_deploy.exported.onnx_metadata import read_onnx_metadata

pytestmark = pytest.mark.slow

POLYGRAPHY = Path(sys.executable).with_name("polygraphy")
needs_polygraphy = pytest.mark.skipif(
    not POLYGRAPHY.exists(),
    reason="polygraphy is not installed: pip install polygraphy onnx_graphsurgeon",
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("tools"), np.random.default_rng(0)
    (folder / "photos").mkdir()
    for i in range(4):
        photo_of("disc", rng).save(folder / "photos" / f"{i}.png")
    options = ExportOptions(PRECISION_NAMES, calibration=folder / "photos")
    source = save_net(thin_net("D"), folder / "net.pt")
    exported = export_onnx(source, folder, options, None, 1, lambda text: None)
    return {file.artifact.precision: file.path for file in exported}


def polygraphy(*args, **environment) -> str:
    done = subprocess.run(
        [POLYGRAPHY, *map(str, args)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


RARE = ("fp16", "int8-cpu", "fp8")  # linted at night


@needs_polygraphy
@pytest.mark.parametrize(
    "precision",
    ["fp32", "int8", *(pytest.param(p, marks=pytest.mark.nightly) for p in RARE)],
)
@pytest.mark.slow
def test_polygraphy_lints_and_runs_every_file(precision, files, tmp_path):
    """Except bf16: polygraphy's NumPy has no such type, ONNX Runtime no such CPU kernels."""
    assert "[E]" not in polygraphy(
        "check", "lint", files[precision], "--input-shapes", "image:[1,3,64,96]"
    )
    inputs, outputs = tmp_path / "in.json", tmp_path / "out.json"
    run = ("run", files[precision], "--onnxrt")
    assert "PASSED" in polygraphy(
        *run,
        "--input-shapes",
        "image:[1,3,64,96]",
        "--validate",
        "--save-inputs",
        inputs,
        "--save-outputs",
        outputs,
    )
    compare = ("--postprocess", "top-3", "--compare", "indices", "--index-tolerance", "0")
    assert "Pass Rate: 100.00%" in polygraphy(
        *run, "--load-inputs", inputs, "--load-outputs", outputs, *compare
    )


@needs_polygraphy
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8", "fp8"])
@pytest.mark.slow
def test_polygraphy_converts_every_file(precision, files, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    shapes = [
        f"--trt-{end}-shapes=image:[{n},3,{side},{side}]"
        for end, n, side in (("min", 1, 32), ("opt", 2, 64), ("max", 4, 96))
    ]
    # polygraphy builds for all GPUs that RTX knows by default; it leaves out those that do not run
    # fp8
    engine = tmp_path / "made.engine"
    polygraphy(
        "convert",
        files[precision],
        "--convert-to",
        "trt",
        "-o",
        engine,
        "--strongly-typed",
        *shapes,
        POLYGRAPHY_USE_TENSORRT_RTX="1",
    )
    assert engine.stat().st_size > 100_000


def test_triton_accepts_the_configuration(files, tmp_path):
    """Its own protobuf schema."""
    schema = pytest.importorskip(
        "tritonclient.grpc.model_config_pb2", reason="tritonclient[grpc] is not installed"
    )
    from google.protobuf import text_format

    write_repository(tmp_path / "models", [files["fp16"], files["int8-cpu"]], 16, lambda text: None)
    assert {p.name for p in (tmp_path / "models").iterdir()} == {"D_fp16_onnx", "D_int8_cpu_onnx"}
    folder = tmp_path / "models" / "D_fp16_onnx"
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) == [
        "1/model.onnx",
        "config.pbtxt",
        "labels.txt",
    ]
    assert (folder / "1" / "model.onnx").read_bytes() == files["fp16"].read_bytes()
    config = text_format.Parse((folder / "config.pbtxt").read_text(), schema.ModelConfig())
    assert (config.name, config.platform, config.max_batch_size) == (
        "D_fp16_onnx",
        "onnxruntime_onnx",
        16,
    )
    assert [(i.name, i.data_type, list(i.dims)) for i in config.input] == [
        ("image", schema.TYPE_UINT8, [3, -1, -1])
    ]
    outputs = [(o.name, o.data_type, list(o.dims), o.label_filename) for o in config.output]
    assert outputs == [
        ("posterior", schema.TYPE_FP32, [4], "labels.txt"),
        ("score_map", schema.TYPE_FP32, [4, -1, -1], ""),
    ]
    assert list(config.dynamic_batching.preferred_batch_size) == [4, 8, 16]
    source = read_onnx_metadata(files["fp16"])[0].source_sha256
    assert config.parameters["vgg_deploy.source_sha256"].string_value == source
    assert (folder / "labels.txt").read_text().splitlines() == list(thin_net("D").spec.names)
    artifact = Artifact(thin_net("D").spec, "normalised", "fp16", "D.pt", "0" * 64)
    plan = configuration(TritonModel(artifact, "D.fp16", max_batch=8, profiles=3))
    config = text_format.Parse(plan, schema.ModelConfig())
    assert (config.name, config.platform) == ("D_fp16_plan", "tensorrt_plan")
    assert list(config.instance_group[0].profile) == ["0", "1", "2"]
    assert config.input[0].data_type == schema.TYPE_FP32
