"""OpenVINO: its own files, precisions, 8-bit products, and what it must not do."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from export.onnx.graph import onnx_graph
from export.onnx.onnx_file import write_onnx
from export.quantize.ranges import clip, measure_ranges
from export.quantize.rounding import LAST, Quantization
from export.settings.precision import PRECISIONS
from tests.support.nets import CLASSES, photo_of, thin_net
from vgg_deploy.errors import InputError
from vgg_deploy.exported.interface import WHOLE, Interface
from vgg_deploy.exported.metadata import KEY, Artifact
from vgg_deploy.predict.model import load
from vgg_deploy.runtimes import open_runtime, openvino_integers
from vgg_deploy.runtimes.openvino_package import load_openvino

if importlib.util.find_spec("openvino") is None:
    pytest.skip("openvino is not installed: pip install openvino", allow_module_level=True)

ROOT = Path(__file__).parents[3]
QEMU = shutil.which("qemu-x86_64")
ov = load_openvino()
HAS_BFLOAT16 = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
IMAGES = np.random.default_rng(1).integers(0, 256, (2, 3, 64, 97), np.uint8)


def photos(count):
    rng = np.random.default_rng(0)
    images = [photo_of(CLASSES[i % len(CLASSES)], rng).resize((64, 64)) for i in range(count)]
    return np.stack([np.asarray(image).transpose(2, 0, 1) for image in images])


def write(folder, precision="fp32", arch="B", **more):
    """A thin net as an ONNX file."""
    net, form = thin_net(arch), PRECISIONS[precision]
    artifact = replace(Artifact(net.spec, "uint8", precision, "net.pt", "0" * 64), **more)
    quantization = None
    if form.is_quantized:
        thresholds = clip(measure_ranges(net, iter([photos(8)])), "mse", form)
        inner = {name: t for name, t in thresholds.items() if name != LAST}
        quantization = Quantization(inner, True, thresholds[LAST] if form.fused else None)
    path = folder / f"{arch}.{precision}.onnx"
    write_onnx(path, onnx_graph(net, artifact, form, quantization))
    return path


def converted(path, halved=False):
    """OpenVINO's own files, made from an ONNX file as its users do."""
    model = ov.Core().read_model(path)
    ov.save_model(model, path.with_suffix(".xml"), compress_to_fp16=halved)
    return path.with_suffix(".xml")


def rms(found, expected):
    return float(np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)))


def refusal(path, **more) -> str:
    with pytest.raises(InputError) as caught:
        open_runtime(path, **{"runtime": "openvino", **more})
    assert caught.value.exit_code == 2
    assert "\n" not in caught.value.message
    return caught.value.message


def test_its_own_files_give_what_the_onnx_file_gives(tmp_path):
    """The description comes through the conversion, with names in any script."""
    classes = ("disc", "Straße", 'a "quoted" <b>&amp;', "画像")
    path = write(tmp_path, **classes_net(classes))
    expected = open_runtime(path)(IMAGES)
    runtime = open_runtime(converted(path))
    assert (runtime.name, runtime.precision, runtime.spec.classes) == ("openvino", "fp32", classes)
    assert runtime.artifact == open_runtime(path).artifact
    found = runtime(IMAGES)
    np.testing.assert_allclose(found.score_map, expected.score_map, atol=2e-5)
    model = load(path.with_suffix(".xml"), threads=1)
    np.testing.assert_array_equal(model.scores(IMAGES).posterior, found.posterior)


def classes_net(classes):
    return {"spec": replace(thin_net("B").spec, classes=classes)}


def test_halved_weights_are_not_called_float32(tmp_path):
    """`save_model` halves weights unless told otherwise. Oracle: NumPy's rounding of them."""
    path = write(tmp_path)
    runtime = open_runtime(converted(path, halved=True), runtime="openvino")
    assert runtime.precision == "fp16"
    net = thin_net("B")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.from_numpy(parameter.numpy().astype("f2").astype("f4")))
        mean = torch.tensor(net.spec.preprocessing.mean).view(1, 3, 1, 1)
        expected = net(torch.from_numpy(IMAGES) - mean).numpy()
    np.testing.assert_allclose(runtime(IMAGES).score_map, expected, atol=2e-5)


def test_weights_that_another_program_quantized_are_not_called_float32(tmp_path):
    """FakeQuantize around a convolution, as NNCF writes it."""
    from openvino import opset13 as ops

    path = write(tmp_path)
    model = ov.Core().read_model(path)
    first = next(op for op in model.get_ordered_ops() if op.get_type_name() == "Convolution")
    low, high = np.float32(-130), np.float32(140)
    rounded = ops.fake_quantize(first.input_value(0), low, high, low, high, 256)
    first.input(0).replace_source_output(rounded.output(0))
    ov.save_model(model, tmp_path / "theirs.xml")
    assert open_runtime(tmp_path / "theirs.xml").precision == "int8"


@pytest.mark.parametrize(
    ("precision", "most"), [("fp16", 2e-3), ("bf16", 3e-2), ("int8-cpu", 0.12), ("int8", 0.12)]
)
def test_reduced_files(tmp_path, precision, most):
    """Oracle: PyTorch in float32; the file's rounding is what remains."""
    if precision == "bf16" and not HAS_BFLOAT16:
        pytest.skip("this CPU has no bfloat16 instructions")
    if precision == "int8" and openvino_integers.saturates(ov):
        pytest.skip("this CPU saturates, which another test looks at")
    images, net = photos(4), thin_net("B")
    runtime = open_runtime(write(tmp_path, precision), runtime="openvino")
    assert runtime.precision == precision
    mean = torch.tensor(net.spec.preprocessing.mean).view(1, 3, 1, 1)
    with torch.no_grad():
        expected = net(torch.from_numpy(images) - mean).numpy()
    error = rms(runtime(images).score_map, expected)
    assert 1e-6 < error < most


def test_float32_is_float32_where_the_cpu_has_bfloat16(tmp_path):
    """By itself OpenVINO would round to bfloat16 there; both are asked for by name."""
    path = write(tmp_path)
    expected = open_runtime(path)(IMAGES).score_map
    exact = open_runtime(path, runtime="openvino")
    assert rms(exact(IMAGES).score_map, expected) < 1e-5
    assert dict(exact.settings) == {"inference_precision": "f32"}
    if not HAS_BFLOAT16:
        return
    rounded = open_runtime(path, runtime="openvino-bf16")
    assert (rounded.name, rounded.precision) == ("openvino-bf16", "bf16")
    assert 1e-3 < rms(rounded(IMAGES).score_map, expected) < 3e-2


def test_bfloat16_without_its_instructions_is_refused(tmp_path, monkeypatch):
    path, rounded = write(tmp_path), write(tmp_path, "bf16")
    capabilities = property_without(monkeypatch, "BF16")
    message = "has no bfloat16 instructions on this CPU and would compute in float32"
    assert message in refusal(path, runtime="openvino-bf16")
    assert message in refusal(rounded)
    assert capabilities
    open_runtime(path, runtime="openvino")


def property_without(monkeypatch, missing):
    """OpenVINO on a CPU without some instructions, as it describes itself."""
    own, asked = ov.Core.get_property, []

    def get_property(core, *words):
        asked.append(words)
        found = own(core, *words)
        return [one for one in found if one != missing] if isinstance(found, list) else found

    monkeypatch.setattr(ov.Core, "get_property", get_property)
    return asked if own(ov.Core(), "CPU", "OPTIMIZATION_CAPABILITIES") else []


def test_quantized_files_are_not_computed_in_bfloat16(tmp_path):
    message = refusal(write(tmp_path, "int8-cpu"), runtime="openvino-bf16")
    assert "is int8-cpu, and openvino-bf16 computes float files in bfloat16" in message


def test_features_by_name(tmp_path):
    """Oracle: PyTorch's layers. fc6 is shown too, whose ReLU OpenVINO would fuse."""
    layers = ("conv1_2", "relu1_2", "pool3", "conv5_2", "fc6", "relu7")
    path = write(tmp_path, outputs=(*layers,))
    expected = open_runtime_of_net()
    for file in (path, converted(path)):
        model = load(file, threads=1, runtime="openvino")
        found = model.features(IMAGES, ["pool3", "fc6"])
        assert list(found) == ["pool3", "fc6"]
        for name in layers:
            own = model.features(IMAGES, [name])[name]
            wanted = expected.run(IMAGES, [name])[name]
            np.testing.assert_allclose(own, wanted, atol=1e-5 * np.abs(wanted).max(), err_msg=name)
    message = "gives conv1_2, relu1_2, pool3, conv5_2, fc6, relu7 and no scores"
    with pytest.raises(InputError, match=message):
        open_runtime(path, runtime="openvino")(IMAGES)


def test_one_shape_and_logits(tmp_path):
    """Oracle: PyTorch. Five images are three calls of two, the last of them filled up."""
    interface = Interface(shape=(2, 64, 64), logits=True)
    runtime = open_runtime(write(tmp_path, interface=interface), runtime="openvino")
    images = photos(5)
    expected = open_runtime_of_net()(images)
    found = runtime(images)
    np.testing.assert_allclose(found.posterior, expected.posterior, atol=1e-6)
    np.testing.assert_allclose(found.score_map, expected.score_map, atol=1e-5)
    with pytest.raises(InputError, match="takes images of 64x64 only, these have 64x32"):
        runtime(images[:, :, :, :32])


def test_whole_images_are_refused(tmp_path):
    """OpenVINO computes other pixels: up to 5 % of six images' values, by 1 or 2 levels."""
    path = write(tmp_path, interface=Interface(side=64), input=WHOLE)
    assert "OpenVINO does not rescale them to the same pixels" in refusal(path)


def open_runtime_of_net():
    from vgg_deploy.runtimes import TorchRuntime

    return TorchRuntime(thin_net("B"))


def test_results_stay_when_the_next_batch_runs(tmp_path):
    runtime = open_runtime(write(tmp_path), runtime="openvino")
    first = runtime(IMAGES)
    kept = first.posterior.copy(), first.score_map.copy()
    runtime(255 - IMAGES)
    np.testing.assert_array_equal(first.posterior, kept[0])
    np.testing.assert_array_equal(first.score_map, kept[1])


def test_files_that_are_refused(tmp_path):
    path = write(tmp_path)
    assert "has no vgg_deploy metadata, so its preprocessing is unknown" in refusal(
        without_metadata(path, tmp_path / "other.onnx")
    )
    xml = converted(path)
    assert "OpenVINO runs it on CPUs only; run it on the CPU" in refusal(xml, device="cuda")
    assert "the runtime onnxruntime does not open it; choose from openvino, openvino-bf16" in (
        refusal(xml, runtime="onnxruntime")
    )
    weights = xml.with_suffix(".bin")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    assert "not a model that OpenVINO can load (Incorrect weights in bin file!)" in refusal(xml)
    weights.unlink()
    assert "its weights B.fp32.bin are not in the same folder; copy both" in refusal(xml)
    xml.write_text("hello")
    weights.write_bytes(whole)
    assert "B.fp32.xml: not a model that OpenVINO can load (No document element" in refusal(xml)
    path.write_bytes(path.read_bytes()[:-1000])
    assert str(path) in refusal(path)


def without_metadata(path, other):
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, other)
    return other


def test_metadata_that_does_not_fit_the_graph_is_refused(tmp_path):
    model = onnx.load(write(tmp_path))
    metadata = json.loads(model.metadata_props[0].value)
    helper.set_model_props(model, {KEY: json.dumps({**metadata, "input": "float32"})})
    onnx.save(model, tmp_path / "changed.onnx")
    message = refusal(tmp_path / "changed.onnx")
    assert "promises input {'image': 'tensor(float)'}, the graph has" in message
    spec = json.loads(thin_net("B", classes=("a", "b", "c")).spec.to_json())
    helper.set_model_props(model, {KEY: json.dumps({**metadata, "spec": spec})})
    onnx.save(model, tmp_path / "changed.onnx")
    assert "promises posterior of 3 channels" in refusal(tmp_path / "changed.onnx")


def test_errors_in_a_call_name_the_file(tmp_path):
    """OpenVINO refuses an input that the graph does not have."""
    runtime = open_runtime(write(tmp_path), runtime="openvino")
    message = "B.fp32.onnx: OpenVINO cannot run it on 2 images of 32x48 "
    with pytest.raises(InputError, match=message) as failed:
        runtime.net({"picture": np.zeros((2, 3, 32, 48), np.uint8)}, ["posterior"], "images")
    assert "picture" in failed.value.message and "\n" not in failed.value.message


@pytest.mark.parametrize("kind", ["onnx", "xml", "bin"])
def test_damaged_bytes_are_refused_or_load(tmp_path, kind):
    """Random damages: never an exception without a message."""
    path = write(tmp_path)
    path = path if kind == "onnx" else converted(path)
    victim, rng = path.with_suffix(f".{kind}"), np.random.default_rng(0)
    whole, refused = victim.read_bytes(), 0
    for _ in range(8 if kind == "bin" else 60):  # whose weights are compiled each time
        spoilt = bytearray(whole)
        for at in rng.integers(0, 6000, 4):
            spoilt[at] = rng.integers(0, 256)
        victim.write_bytes(spoilt)
        try:
            open_runtime(path, runtime="openvino")
        except InputError as error:
            refused += str(path) in error.message and "\n" not in error.message
    assert refused > 20 or kind == "bin"


STACKS = """
import ctypes, sys
import numpy as np
from pathlib import Path
from bench.layers.openvino_times import OpenVinoTimer
from vgg_deploy.runtimes import open_runtime

def stack():
    found = (ctypes.c_size_t * 3)()
    ctypes.CDLL(None).sigaltstack(None, found)
    return list(found)

before, images = stack(), np.zeros((1, 3, 64, 64), np.uint8)
runtime = open_runtime(Path(sys.argv[1]), runtime="openvino")
print(stack() == before)
runtime(images)
print(stack() == before)
OpenVinoTimer(runtime)(images)
print(stack() == before)
"""


@pytest.mark.slow
def test_signal_handlers_keep_their_stack(tmp_path):
    """OpenVINO leaves one of its own and frees it; Ctrl-C then ended the process with SIGSEGV.

    Oracle: what the system says of this thread's stack for signals.
    """
    assert alone(tmp_path, STACKS, write(tmp_path)).split() == ["True"] * 3


ALONE = textwrap.dedent("""
    import os, sys
    import numpy as np
    from pathlib import Path
    from vgg_deploy.runtimes import open_runtime
    asked = []
    sys.addaudithook(lambda event, _: asked.append(event) if event.startswith("socket.") else None)
    for folder in map(Path, sys.argv[1:]):
        path = next(folder.glob("*.xml"), None) or next(folder.glob("*.onnx"))
        runtime = open_runtime(path, runtime="openvino")
        before = runtime(np.zeros((1, 3, 64, 64), np.uint8)).posterior
        for file in folder.iterdir():
            os.truncate(file, 10)
        after = runtime(np.zeros((1, 3, 96, 64), np.uint8)).posterior
        assert np.isfinite(after).all() and np.isfinite(before).all()
    import openvino
    assert openvino.convert_model and "openvino_telemetry" not in sys.modules
    print("asked", asked)
""")


def alone(home, *words, command=()):
    """Run `ALONE` in a process with a home folder of its own."""
    env = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT)}
    env = {name: value for name, value in env.items() if name not in ("CI", "OMP_NUM_THREADS")}
    done = subprocess.run(
        [*command, sys.executable, "-c", *map(str, words)], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_no_telemetry_and_no_mapped_weights(tmp_path):
    """A file that shrinks later would end the process with SIGBUS if OpenVINO had mapped it."""
    for name in ("home", "inside", "outside", "own"):
        (tmp_path / name).mkdir()
    path = write(tmp_path / "inside")
    outside = tmp_path / "outside" / path.name
    onnx.save(
        onnx.load(path), outside, save_as_external_data=True, location=f"{path.name}.data",
        size_threshold=0,
    )  # fmt: skip
    ov.save_model(ov.Core().read_model(path), tmp_path / "own" / "B.xml")
    folders = (tmp_path / name for name in ("inside", "outside", "own"))
    assert alone(tmp_path / "home", ALONE, *folders).strip() == "asked []"
    assert list((tmp_path / "home").rglob("*")) == []


def test_it_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(InputError, match=r"pip install vgg-deploy\[openvino\], or openvino alone"):
        load_openvino()
    assert "openvino_telemetry" not in sys.modules or sys.modules["openvino_telemetry"]


def test_large_weights_are_refused_where_products_saturate(tmp_path, monkeypatch):
    """What such a CPU does is simulated here; the next test emulates one."""
    monkeypatch.setattr(openvino_integers, "saturates", lambda ov: True)
    monkeypatch.setattr(openvino_integers, "cpu_instructions", lambda: ["avx2", "fma"])
    message = refusal(write(tmp_path, "int8"))
    assert r"this CPU (avx2, fma) add two products of 8-bit weights in 16 bits" in message
    assert "use an int8-cpu file, whose weights end at 64" in message
    assert PRECISIONS["int8-cpu"].weights.largest == openvino_integers.SAFE
    for precision in ("int8-cpu", "fp32", "fp8"):
        open_runtime(write(tmp_path, precision), runtime="openvino")


ELSEWHERE = textwrap.dedent("""
    import importlib.util, sys
    from pathlib import Path
    import numpy as np
    import openvino as ov
    images, core = np.load(sys.argv[2]), ov.Core()
    # without its package, which imports PyTorch
    spec = importlib.util.spec_from_file_location("openvino_integers", sys.argv[1])
    integers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(integers)
    found = {"saturates": integers.saturates(ov)}
    for path in map(Path, sys.argv[4:]):
        net = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        found[path.stem] = net(images)["score_map"]
    np.savez(sys.argv[3], **found)
""")


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.skipif(
    QEMU is None, reason="qemu-x86_64 is not installed, so no CPU without VNNI can be emulated"
)
def test_a_cpu_without_vnni(tmp_path):
    """There OpenVINO itself is wrong with 8-bit weights, and the trial convolution shows it."""
    files, images = [write(tmp_path, name) for name in ("fp32", "int8", "int8-cpu")], photos(2)
    np.save(tmp_path / "images.npy", images)
    command = [QEMU, "-cpu", "Haswell"]
    stored = (tmp_path / "images.npy", tmp_path / "found.npz")
    words = (openvino_integers.__file__, *stored, *files)
    alone(tmp_path, ELSEWHERE, *words, command=command)
    found = np.load(tmp_path / "found.npz")
    exact = open_runtime(files[0])(images).score_map
    assert found["saturates"]
    here = open_runtime(files[2], runtime="openvino")(images).score_map
    assert rms(found["B.int8-cpu"], here) < 1e-3
    written = open_runtime(files[1])(images).score_map
    assert rms(found["B.int8"], exact) > 2 * rms(written, exact)
