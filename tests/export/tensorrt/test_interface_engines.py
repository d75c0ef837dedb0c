"""Engines and Triton's configuration of files with one shape, logits or whole images."""

import importlib.util

import pytest

from export.release import ExportOptions, export_onnx
from export.settings.export_options import EngineOptions
from export.tensorrt.build_all import build_engines, plan_engines
from export.tensorrt.triton import write_repository
from tests.support.nets import save_net, thin_net
from vgg_deploy.errors import InputError
from vgg_deploy.exported.trt_manifest import read_engine_manifest

pytestmark = pytest.mark.slow

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed"
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("interfaces")
    source = save_net(thin_net("D"), folder / "net.pt")
    settings = {
        "fixed": {"fixed_shape": (2, 32, 48), "logits": True, "opset": 17},
        "logits": {"logits": True, "opset": 23},
        "whole": {"whole_images": 48},
    }
    return {
        name: export_onnx(source, folder, ExportOptions(**one), None, 1, lambda text: None)[0].path
        for name, one in settings.items()
    }


@needs_rtx
def test_engines_of_one_shape_and_of_logits(files):
    """TensorRT-RTX itself reads opset 17 and 23. Oracle: the shapes that it reports."""
    options = EngineOptions(flavour="rtx", targets=("sm80",), sides=(32,), max_batch=4)
    plan = plan_engines(options, ("fp32",))
    wanted = [files["fixed"], files["logits"]]
    fixed, logits = build_engines(wanted, plan, options, lambda text: None)
    assert fixed.manifest.inputs == {"image": "UINT8 [2, 3, 32, 48]"}
    assert fixed.manifest.outputs == {
        "logits": "FLOAT [2, 4]",
        "score_map": "FLOAT [2, 4, 1, 1]",
    }
    assert [tuple(fixed.manifest.profiles[0])] == [((2, 32, 48),) * 3]
    assert set(logits.manifest.outputs) == {"logits", "score_map"}
    read = read_engine_manifest(fixed.path).artifact
    assert read.interface == fixed.manifest.artifact.interface and read.interface.logits


@needs_rtx
def test_whole_images_are_refused_for_engines(files):
    options = EngineOptions(flavour="rtx", targets=("sm80",))
    with pytest.raises(InputError, match="TensorRT lacks the arithmetic"):
        build_engines([files["whole"]], plan_engines(options, ()), options, lambda text: None)


def test_triton_takes_whole_images_and_logits(files, tmp_path):
    """Oracle: Triton's own description of its configuration."""
    described = pytest.importorskip(
        "tritonclient.grpc.model_config_pb2", reason="tritonclient[grpc] is not installed"
    )
    from google.protobuf import text_format

    write_repository(tmp_path, [files["whole"], files["logits"]], 8, lambda text: None)
    found = {}
    for folder in tmp_path.iterdir():
        text = (folder / "config.pbtxt").read_text()
        found[folder.name] = text_format.Parse(text, described.ModelConfig())
    whole, logits = found["D_whole_fp32_onnx"], found["D_logits_fp32_onnx"]
    assert [list(one.dims) for one in whole.input] == [[-1, -1, 3]]
    assert whole.input[0].data_type == described.TYPE_UINT8
    assert {one.name: list(one.dims) for one in logits.output} == {
        "logits": [4],
        "score_map": [4, -1, -1],
    }
    with pytest.raises(InputError, match="takes batches of 2x3x32x48 only, and Triton forms"):
        write_repository(tmp_path / "other", [files["fixed"]], 8, lambda text: None)
