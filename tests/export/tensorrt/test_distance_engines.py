"""Distance files as RTX engines, built without a GPU, and in Triton's repository."""

import importlib.util
import json

import numpy as np
import pytest
import torch

from export.distance import pairs
from export.distance.graph import distance_graph
from export.distance.heads import Heads
from export.distance_files import export_distances
from export.onnx.onnx_file import write_onnx
from export.settings.distance_choice import LPIPS_LAYERS, DistanceChoice
from export.settings.export_options import EngineOptions, ExportOptions
from export.settings.precision import PRECISIONS
from export.tensorrt.build_all import EnginePlan, build_engines
from export.tensorrt.profiles import COMMON
from export.tensorrt.triton import write_repository
from tests.support.nets import photo_of, save_net, thin_net
from vgg_deploy.errors import InputError
from vgg_deploy.exported.distance_metadata import DistanceArtifact, Term, read_distance
from vgg_deploy.exported.trt_manifest import check_engine
from vgg_deploy.exported.trt_packages import FLAVOURS
from vgg_deploy.net.open_trunk import build_trunk, trunk_spec
from vgg_deploy.runtimes import open_runtime
from vgg_deploy.runtimes.distance_files import open_distance

pytestmark = pytest.mark.slow

RTX = FLAVOURS["rtx"]
needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="tensorrt-rtx is not installed: pip install tensorrt-rtx",
)
QUIET = {"threads": 2, "log": lambda text: None}


@pytest.fixture(scope="module")
def net():
    return thin_net("D", seed=6)


@pytest.fixture(scope="module")
def exported(net, tmp_path_factory):
    """A perceptual distance, whole and quantized."""
    folder = tmp_path_factory.mktemp("distances")
    rng = np.random.default_rng(3)
    (folder / "photos").mkdir()
    for number in range(4):
        photo_of("disc", rng).save(folder / "photos" / f"{number}.png")
    choice = DistanceChoice("perceptual", (("relu2_2", 1.0), ("relu3_3", 0.5)))
    options = ExportOptions(("fp32", "int8"), calibration=folder / "photos", distance=choice)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "MOST_PHOTOS", 1)
        source = save_net(net, folder / "net.pt")
        return [file.path for file in export_distances(source, folder, options, choice, **QUIET)]


def built(files, **options):
    settings = EngineOptions(sides=(64,), max_batch=2, **options)
    return build_engines(files, EnginePlan(RTX, COMMON), settings, lambda text: None)


@needs_rtx
def test_engines_are_built_without_a_gpu(exported):
    for path in exported:
        (engine,) = built([path], targets=("sm86",))
        manifest = check_engine(engine.path)
        assert manifest.artifact == read_distance(path) == read_distance(engine.path)
        assert set(manifest.inputs) == {"image0", "image1"}
        assert list(manifest.outputs) == ["distance"]
        assert manifest.outputs["distance"].startswith("FLOAT")
        assert manifest.profiles[0].min == (1, 4, 4)  # relu3_3 needs 4 pixels
        with pytest.raises(InputError, match="run on GPUs only"):
            open_distance(engine.path)
        with pytest.raises(InputError, match="run on GPUs only"):
            open_runtime(engine.path)


@needs_rtx
@pytest.mark.parametrize(
    ("kind", "precision", "type"), [("lpips", "fp16", "HALF"), ("gram", "bf16", "BF16")]
)
def test_engines_of_other_distances_are_built(kind, precision, type, net, tmp_path):
    spec = trunk_spec("D", net.spec.width, preprocessing=net.spec.preprocessing)
    trunk = build_trunk(spec, net.state_dict(), LPIPS_LAYERS[-1])
    terms = tuple(Term(layer, 1.0) for layer in LPIPS_LAYERS)
    artifact = DistanceArtifact(kind, spec, "uint8", precision, "net.pt", "0" * 64, terms)
    widths = [
        trunk.convolution(layer.replace("relu", "conv")).out_channels for layer in LPIPS_LAYERS
    ]
    heads = Heads(tuple(np.ones(width, np.float32) for width in widths), "ones")
    path = tmp_path / f"D.{kind}.{precision}.onnx"
    write_onnx(path, distance_graph(trunk, artifact, PRECISIONS[precision], None, heads))
    (engine,) = built([path], targets=("sm86",))
    types = check_engine(engine.path).convolutions
    assert len(types) == 13 and set(types.values()) == {type}


@needs_rtx
def test_a_scale_below_the_least_side_is_refused(exported):
    settings = EngineOptions(sides=(3,))
    with pytest.raises(InputError, match="the smallest Q is 4"):
        build_engines(exported[:1], EnginePlan(RTX, COMMON), settings, lambda text: None)


@needs_rtx
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU")
def test_engines_give_the_distances_of_their_files(exported):
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 2, 3, 64, 72), np.uint8)
    expected = open_distance(exported[0])(first, second)
    for path in exported:
        (engine,) = built([path])
        found = open_distance(engine.path, "cuda")(first, second)
        np.testing.assert_allclose(found, expected, rtol=0.2)


def test_triton_gets_two_inputs_and_a_number_per_pair(exported, tmp_path):
    pytest.importorskip("tritonclient.grpc")
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2 as schema

    lines = []
    write_repository(tmp_path, exported[:1], 8, lines.append)
    (folder,) = tmp_path.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["1", "config.pbtxt"]
    config = text_format.Parse((folder / "config.pbtxt").read_text(), schema.ModelConfig())
    assert [(one.name, list(one.dims)) for one in config.input] == [
        ("image0", [3, -1, -1]),
        ("image1", [3, -1, -1]),
    ]
    (output,) = config.output
    assert (output.name, list(output.dims)) == ("distance", [1])
    assert output.HasField("reshape") and list(output.reshape.shape) == []
    write_repository(tmp_path, exported[:1], 8, lines.append)  # again: nothing is in the way
    assert not any("Warning" in line for line in lines)


def test_a_damaged_engine_manifest_is_one_sentence(exported, tmp_path):
    described = json.loads(exported[0].with_suffix(".json").read_text())
    assert described["distance"] == "perceptual"
    path = tmp_path / "D.rtx.engine"
    path.write_bytes(b"engine")
    manifest = {"manifest": 1, "artifact": {**described, "terms": [["fc6", 1]]}}
    path.with_suffix(".json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="the terms .* are not layers"):
        open_distance(path)
