"""Engines: names of three APIs, builds without a GPU, refusals, manifests."""

import ast
import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from export.release import ExportOptions, export_onnx
from export.tensorrt.build import build_engine, check_types, convolution_types
from export.tensorrt.build_all import EngineOptions, EnginePlan, build_engines
from export.tensorrt.profiles import (
    COMMON,
    Aspects,
    aspects_of,
    covering_profile,
    profiles_per_scale,
)
from export.tensorrt.targets import pick_targets
from tests.support.nets import photo_of, save_net, thin_net
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.exported.metadata import manifest_path
from vgg_deploy.exported.trt_manifest import InputShape, Profile, check_engine, read_engine_manifest
from vgg_deploy.exported.trt_packages import FLAVOURS, collecting_logger
from vgg_deploy.files import sha256
from vgg_deploy.runtimes import open_runtime
from vgg_deploy.sealed_json import sealed

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
RTX = FLAVOURS["rtx"]
needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="tensorrt-rtx is not installed: pip install tensorrt-rtx",
)
needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="engines run on GPUs only, and PyTorch sees none here"
)
PROFILES = [Profile(InputShape(1, 32, 32), InputShape(2, 64, 80), InputShape(4, 96, 96))]

# Which class a variable of the code holds, by file
HOLDS = {
    "export/tensorrt/build.py": {
        "builder": "Builder",
        "parsed.builder": "Builder",
        "network": "INetworkDefinition",
        "parsed.network": "INetworkDefinition",
        "parser": "OnnxParser",
        "config": "IBuilderConfig",
        "profile": "IOptimizationProfile",
        "layer": "ILayer",
        "before": "ILayer",
        "image": "ITensor",
        "tensor": "ITensor",
    },
    "export/tensorrt/targets.py": {},
    "vgg_deploy/exported/trt_packages.py": {},
    "vgg_deploy/runtimes/tensorrt.py": {
        "context": "IExecutionContext",
        "self.engine": "ICudaEngine",
        "loader": "Runtime",
    },
    "vgg_deploy/runtimes/rtx_cache.py": {
        "engine": "ICudaEngine",
        "self.config": "IRuntimeConfig",
        "self.cache": "IRuntimeCache",
    },
}
RTX_ONLY = {
    ("module", "ComputeCapability"),
    ("IBuilderConfig", "num_compute_capabilities"),
    ("IBuilderConfig", "set_compute_capability"),
    ("ICudaEngine", "create_runtime_config"),
    ("IRuntimeConfig", "create_runtime_cache"),
    ("IRuntimeConfig", "set_runtime_cache"),
    ("IRuntimeCache", "deserialize"),
    ("IRuntimeCache", "serialize"),
}


def names_used(path: str) -> set[tuple[str, str]]:
    """(class or "module", name) of everything that a file takes from TensorRT."""
    used = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Attribute):
            of = ast.unparse(node.value)
            if of == "trt":
                used.add(("module", node.attr))
            elif of.startswith("trt.") and not node.attr.startswith("__"):
                used.add((of.removeprefix("trt."), node.attr))
            elif of in HOLDS[path]:
                used.add((HOLDS[path][of], node.attr))
    return used


@pytest.mark.parametrize("path", HOLDS)
def test_every_name_exists_in_every_api(path):
    """The lists are of what `dir()` shows of tensorrt 10.16, tensorrt 11.4 and tensorrt_rtx 1.7."""
    known = json.loads((Path(__file__).parent / "tensorrt_names.json").read_text())
    used = {(of, name) for of, name in names_used(path) if of != "ILogger"}
    assert used
    for api, classes in known.items():
        for of, name in used:
            if api.startswith("tensorrt_rtx") or (of, name) not in RTX_ONLY:
                assert of in classes and name in classes[of], f"{api}: {of}.{name}"


@needs_rtx
def test_the_installed_api_is_the_listed_one():
    """The installed tensorrt_rtx has the names that are listed for it."""
    import tensorrt_rtx as trt

    known = json.loads((Path(__file__).parent / "tensorrt_names.json").read_text())[
        "tensorrt_rtx 1.7"
    ]
    for of, names in known.items():
        found = dir(trt if of == "module" else getattr(trt, of))
        assert set(names) <= set(found), of


@pytest.fixture(scope="module", params=["D", "A-LRN"])
def exported(request, tmp_path_factory):
    """Every precision of a thin net."""
    folder = tmp_path_factory.mktemp(request.param)
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for i in range(6):
        photo_of("disc", rng).save(folder / "photos" / f"{i}.png")
    options = ExportOptions(
        ("fp32", "fp16", "bf16", "int8", "fp8", "int8-cpu"),
        keep=("conv1_1",),
        calibration=folder / "photos",
    )
    files = export_onnx(
        save_net(thin_net(request.param), folder / "net.pt"),
        folder,
        options,
        None,
        1,
        lambda text: None,
    )
    return {e.artifact.precision: e.path for e in files}


# Least compute capability, from NVIDIA's tables of tensor cores
RUNS = {"fp32": 75, "fp16": 75, "bf16": 80, "int8": 75, "fp8": 89}
TYPES = {"fp32": "FLOAT", "fp16": "HALF", "bf16": "BF16", "int8": "INT8", "fp8": "FP8"}


@needs_rtx
@pytest.mark.parametrize("target", ["sm75", "sm80", "sm86", "sm89", "sm120", "sm121"])
@pytest.mark.parametrize("precision", RUNS)
@pytest.mark.slow
def test_build_matrix(exported, precision, target):
    path = exported[precision]
    if int(target[2:]) < RUNS[precision]:
        with pytest.raises(
            InputError, match=f"--precision {precision} is not on {target}"
        ) as refused:
            build_engine(path, RTX, PROFILES, (target,), lambda text: None)
        assert refused.value.exit_code == 2 and "sm120" in refused.value.details
        return
    built = build_engine(path, RTX, PROFILES, (target,), lambda text: None)
    m = built.manifest
    assert m == read_engine_manifest(built.path) == check_engine(built.path)
    assert (m.targets, m.profiles) == ((target,), tuple(PROFILES))
    assert (m.bytes, m.sha256) == (built.path.stat().st_size, sha256(built.path))
    assert (m.onnx_sha256, m.version) == (sha256(path), RTX.version())
    assert len(m.activation_bytes) == 1 and m.activation_bytes[0] > 0
    kept = {"fp32": set(), "int8": {"fc8", "conv1_1"}, "fp8": {"fc8", "conv1_1"}}
    others = {name for name, type in m.convolutions.items() if type != TYPES[precision]}
    assert others == kept.get(precision, {"fc8"})
    assert m.convolutions["fc8"] == "FLOAT"
    assert m.inputs == {"image": "UINT8 [-1, 3, -1, -1]"}
    assert set(m.outputs) == {"posterior", "score_map"}
    assert not [p for p in built.path.parent.iterdir() if "partial" in p.name]


@needs_rtx
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_an_engine_gives_the_features_of_its_file(precision, tmp_path):
    """Convolutions that feed two readers keep their type, and outputs are float32."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(6):
        photo_of("disc", rng).save(tmp_path / "photos" / f"{i}.png")
    layers = ("relu1_2", "conv3_3", "pool3", "relu5_3")
    options = ExportOptions((precision,), features=layers, calibration=tmp_path / "photos")
    source = save_net(thin_net("D"), tmp_path / "net.pt")
    (file,) = export_onnx(source, tmp_path, options, None, 1, lambda text: None)
    built = build_engine(file.path, RTX, PROFILES, ("sm120",), lambda text: None)
    assert built.manifest.outputs == {
        "relu1_2": "FLOAT [-1, 4, -1, -1]",
        "conv3_3": "FLOAT [-1, 16, -1, -1]",
        "pool3": "FLOAT [-1, 16, -1, -1]",
        "relu5_3": "FLOAT [-1, 32, -1, -1]",
    }
    assert set(built.manifest.convolutions.values()) == {TYPES[precision]}
    assert "fc6" not in built.manifest.convolutions
    assert check_engine(built.path).artifact.outputs == layers


@needs_rtx
def test_refusals_that_need_no_build(exported):
    import tensorrt_rtx as trt

    with pytest.raises(
        InputError,
        match="int8-cpu is the file of ONNX Runtime's CPU kernels; export --precision int8",
    ):
        build_engine(exported["int8-cpu"], RTX, PROFILES, (), lambda text: None)
    with pytest.raises(InputError, match="--target sm90: tensorrt-rtx .* builds for sm75, sm80"):
        pick_targets(RTX, trt, ("sm90",), "fp16")
    assert pick_targets(RTX, trt, (), "fp8") == ("sm89", "sm120", "sm121")
    with pytest.raises(InputError, match="not on sm75, sm80"):
        pick_targets(RTX, trt, ("sm75", "sm80", "sm89"), "fp8")


@pytest.mark.skipif(
    torch.cuda.is_available(), reason="this machine has the GPU whose absence is tested"
)
def test_tensorrt_without_a_gpu_is_refused_with_a_hint():
    with pytest.raises(InputError, match="builds on the GPU that it is for.*--trt-flavour rtx"):
        pick_targets(FLAVOURS["tensorrt"], None, (), "fp16")


@needs_rtx
def test_a_scale_of_shape_1_is_found(exported, tmp_path):
    """TensorRT builds it silently and computes in half precision."""
    model = onnx.load(exported["int8"])
    for tensor in model.graph.initializer:
        if re.fullmatch(r"conv3_1\.(de)?quantize\.scale", tensor.name):
            tensor.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(tensor).reshape(1), tensor.name)
            )
    path = tmp_path / "D.int8.onnx"
    onnx.save(model, path)
    with pytest.raises(CheckFailed, match="conv3_1 in HALF, expected INT8"):
        build_engine(path, RTX, PROFILES, ("sm80",), lambda text: None)
    assert not path.with_suffix(".rtx.engine").exists()


@needs_rtx
def test_a_convolution_in_floats_that_nobody_asked_for_is_found(exported, tmp_path):
    """Without its Q and DQ TensorRT would run it in half precision."""
    model = onnx.load(exported["int8"])
    conv = next(node for node in model.graph.node if node.name == "conv3_1")
    quantize = next(node for node in model.graph.node if node.name == "conv3_1.quantize")
    conv.input[0] = quantize.input[0]
    path = tmp_path / "D.int8.onnx"
    onnx.save(model, path)
    with pytest.raises(CheckFailed, match="conv3_1 in HALF, expected INT8"):
        build_engine(path, RTX, PROFILES, ("sm80",), lambda text: None)


@needs_rtx
def test_types_are_read_from_the_network(exported):
    """Every convolution that the ONNX graph feeds from a Q is int8 for TensorRT, and only those."""
    import tensorrt_rtx as trt

    log = collecting_logger(trt)
    network = trt.Builder(log).create_network(
        1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    )
    parser = trt.OnnxParser(network, log)
    assert parser.parse_from_file(str(exported["int8"]))
    found = convolution_types(trt, network)
    fed = {
        n.name.removesuffix(".quantize")
        for n in onnx.load(exported["int8"]).graph.node
        if n.op_type == "QuantizeLinear"
    }
    assert {name for name, type in found.items() if type == "INT8"} == fed
    check_types(found, "int8", ("conv1_1", "fc8"), Path("x"))
    with pytest.raises(CheckFailed, match="would run conv1_1 in HALF"):
        check_types(found, "int8", ("fc8",), Path("x"))
    with pytest.raises(CheckFailed, match="no convolution at all"):
        check_types({}, "int8", (), Path("x"))


@needs_rtx
def test_an_impossible_profile_is_an_error_and_the_old_engine_stays(tmp_path):
    """TensorRT only warns: an image smaller than the crop has no score map."""
    net = save_net(thin_net("A", crop=96), tmp_path / "net.pt")
    path = export_onnx(net, tmp_path, ExportOptions(("fp16",)), None, 1, lambda text: None)[0].path
    good = [Profile(*(InputShape(n, 96, 96) for n in (1, 2, 4)))]
    built = build_engine(path, RTX, good, ("sm80",), lambda text: None)
    before = built.path.read_bytes(), manifest_path(built.path).read_text()
    small = [Profile(InputShape(1, 32, 32), *good[0][1:])]
    message = "kMIN.*What helps: the profile's smallest shape has no score map; raise --scales"
    with pytest.raises(CheckFailed, match=message):
        build_engine(path, RTX, small, ("sm80",), lambda text: None)
    assert (built.path.read_bytes(), manifest_path(built.path).read_text()) == before


@pytest.fixture
def engine(exported, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    source = tmp_path / exported["fp16"].name
    source.write_bytes(exported["fp16"].read_bytes())
    return build_engine(source, RTX, PROFILES, ("sm80",), lambda text: None).path


def refusal(path, device="cpu", about="") -> str:
    """The message of the error of opening a file.

    Args:
        path: The file.
        device: To open it on.
        about: The setting that the error is about, if that matters.
    """
    with pytest.raises(InputError) as refused:
        open_runtime(path, device)
    assert refused.value.exit_code == 2
    assert about in ("", refused.value.about)
    return refused.value.message


def test_loading_checks_the_manifest(engine, tmp_path):
    assert "run on GPUs only" in refusal(engine, about="cuda")
    whole, manifest = engine.read_bytes(), manifest_path(engine).read_text()
    engine.write_bytes(whole[:-100])
    assert "cut short" in refusal(engine) and "build it again" in refusal(engine)
    engine.write_bytes(whole[:500] + b"x" + whole[501:])
    assert "changed since it was built" in refusal(engine)
    engine.write_bytes(whole)
    document = json.loads(manifest)
    manifest_path(engine).write_text(json.dumps(sealed({**document, "version": "1.0.0"})))
    message = r"built by tensorrt-rtx 1\.0\.0, installed is .*build it again"
    assert re.search(message, refusal(engine, "cuda"))
    for spoilt in (
        "{}",
        "hello",
        json.dumps(sealed({**document, "profiles": [1]})),
        json.dumps(sealed({**document, "manifest": 7})),
        json.dumps(sealed({**document, "artifact": 3})),
    ):
        manifest_path(engine).write_text(spoilt)
        message = refusal(engine)
        assert "build it again" in message or "export it again" in message
    manifest_path(engine).unlink()
    assert "has no manifest" in refusal(engine)
    manifest_path(engine).write_text(manifest)
    (source,) = tmp_path.glob("*.fp16.onnx")
    source.write_bytes(source.read_bytes() + b" ")
    assert "another" in refusal(engine) and "the one beside it now" in refusal(engine)


@pytest.mark.skipif(
    torch.cuda.is_available(), reason="this machine has the GPU whose absence is tested"
)
def test_an_engine_without_a_gpu_is_an_error(engine):
    assert "PyTorch sees no CUDA GPU" in refusal(engine, "cuda")


@needs_gpu
def test_an_engine_of_another_gpu_is_an_error(engine):
    manifest = read_engine_manifest(engine)
    manifest_path(engine).write_text(replace(manifest, targets=("sm1",)).to_json())
    assert "was built for sm1" in refusal(engine, "cuda")


def test_profiles_follow_scales_and_aspect_ratios(tmp_path):
    """Worked out by hand: 4:3 at 256 is 341, 2:1 at 384 is 768."""
    small, large = profiles_per_scale((384, 256), 8, 224, COMMON)
    assert small == Profile(
        InputShape(1, 224, 224), InputShape(8, 256, 341), InputShape(8, 512, 512)
    )
    assert large == Profile(
        InputShape(1, 384, 384), InputShape(8, 384, 512), InputShape(8, 768, 768)
    )
    (one,) = covering_profile((256, 384, 512), 4, 224, Aspects((4, 3), (10, 3)))
    assert one == Profile(
        InputShape(1, 224, 224), InputShape(4, 512, 384), InputShape(4, 1707, 1707)
    )
    from PIL import Image

    (tmp_path / "val" / "a").mkdir(parents=True)
    for i, size in enumerate([(500, 375), (500, 375), (300, 500), (640, 200)]):
        Image.new("RGB", size).save(tmp_path / "val" / "a" / f"{i}.png")
    assert aspects_of(tmp_path) == Aspects((375, 500), (200, 640))


def test_every_photo_of_a_data_set_fits_a_profile_of_its_scale():
    """All sizes up to the longest ratio, rescaled as the bench does it."""
    from vgg_deploy.images.geometry import rescaled_size

    aspects = Aspects((3, 4), (31, 100))
    profiles = profiles_per_scale((256, 384, 512), 16, 224, aspects)
    for side, profile in zip((256, 384, 512), profiles, strict=True):
        for height, width in ((31, 100), (100, 31), (77, 100), (1, 1), (50, 161)):
            shape = InputShape(16, *rescaled_size(height, width, side))
            assert profile.takes(shape), (side, height, width)
        assert not profile.takes(InputShape(17, side, side))
        assert not profile.takes(InputShape(1, side, 4 * side))
    assert profiles[0].takes(InputShape(1, 224, 224))
    assert not profiles[1].takes(InputShape(1, 256, 256))


def test_the_nearest_profile_is_picked(engine):
    manifest = replace(
        read_engine_manifest(engine),
        profiles=tuple(profiles_per_scale((256, 384, 512), 8, 224, COMMON)),
    )
    assert manifest.nearest(InputShape(8, 256, 341)) == 0
    assert manifest.nearest(InputShape(8, 384, 512)) == 1  # it fits both
    assert manifest.nearest(InputShape(1, 600, 512)) in (1, 2)
    with pytest.raises(InputError, match=r"9 \w+ of 256x256 fits no profile") as refused:
        manifest.nearest(InputShape(9, 256, 256))
    assert refused.value.about == "profiles"


@needs_rtx
def test_scales_below_the_crop_are_refused(exported):
    options = EngineOptions("rtx", sides=(16,), max_batch=4)
    with pytest.raises(InputError, match="--scales 16: below the crop 32"):
        build_engines([exported["fp16"]], EnginePlan(RTX, COMMON), options, lambda text: None)


@needs_rtx
def test_files_that_are_no_export_of_ours(tmp_path):
    for name, content, message in (
        ("text.onnx", b"hello", "not an ONNX file .*export it with vgg-export"),
        ("empty.onnx", b"", "not a model .*export it again"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            build_engine(tmp_path / name, RTX, PROFILES, (), lambda text: None)
    with pytest.raises(InputError, match="no such file"):
        build_engine(tmp_path / "gone.onnx", RTX, PROFILES, (), lambda text: None)
