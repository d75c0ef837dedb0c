"""ncnn's files: nets and forms, what their check catches, what is refused before ncnn reads it."""

import importlib.util
import json
import sys

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from onnx import numpy_helper

from bench.cli import main as vgg_bench
from bench.models.model import ModelOptions, open_models, runnable
from export import write_ncnn as ncnn_export
from export.cli import main as vgg_export
from export.onnx.graph import onnx_graph
from export.onnx.onnx_file import write_onnx
from export.settings.precision import PRECISIONS
from export.write_ncnn import export_ncnn
from tests.support.nets import CLASSES, save_net, thin_net
from tests.support.run import run
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.exported.metadata import Artifact, manifest_path, weights_path
from vgg_deploy.exported.ncnn_files import ncnn_graph
from vgg_deploy.files import sha256
from vgg_deploy.net.model import posterior
from vgg_deploy.runtimes import open_runtime
from vgg_deploy.sealed_json import sealed

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ncnn") is None, reason="ncnn is not installed: pip install ncnn"
)


def write(folder, net, form="uint8", precision="fp32"):
    path = folder / f"{net.spec.arch}.{precision}.onnx"
    artifact = Artifact(net.spec, form, precision, "net.pt", "0" * 64)
    write_onnx(path, onnx_graph(net, artifact, PRECISIONS[precision]))
    return path


def exported(folder, net, form="uint8"):
    return export_ncnn(write(folder, net, form), 1, lambda text: None).path


@pytest.mark.parametrize(
    ("arch", "form", "more"),
    [
        ("A", "uint8", {}),
        ("A-LRN", "float32", {"lrn": "alexnet"}),
        ("A-LRN", "normalised", {"lrn": "caffe"}),
        ("B", "normalised", {"width": 1 / 8}),
        ("C", "uint8", {"crop": 64}),
        ("D", "float32", {"crop": 96, "classes": ("only",)}),
        ("E", "uint8", {"width": 0.03}),
    ],
)
@pytest.mark.slow
def test_every_net_and_form(tmp_path, arch, form, more):
    """Oracle: the net itself in float64, on sizes that the export did not check."""
    net = thin_net(arch, **more)
    runtime = open_runtime(exported(tmp_path, net, form))
    crop, mean = net.spec.crop, torch.tensor(net.spec.preprocessing.mean).double().view(1, 3, 1, 1)
    for n, h, w in ((1, crop, crop), (2, crop + 17, crop + 64), (3, crop + 40, crop + 5)):
        pixels = np.random.default_rng(h).integers(0, 256, (n, h, w, 3), np.uint8)
        images = pixels.transpose(0, 3, 1, 2)  # not contiguous
        with torch.inference_mode():
            expected = net.double()(torch.from_numpy(images).double() - mean)
        found = runtime(images)
        assert found.score_map.shape == expected.shape
        assert found.score_map.dtype == found.posterior.dtype == np.float32
        tolerance = 5e-5 * expected.abs().max().item()
        np.testing.assert_allclose(found.score_map, expected, atol=tolerance)
        np.testing.assert_allclose(found.posterior, posterior(expected), atol=1e-4)
    assert runtime.artifact.input == ("normalised" if form == "normalised" else "float32")


def test_the_readings_of_lrn_differ(tmp_path):
    """Else the test above could not tell them apart."""
    images, scores = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32), np.uint8), []
    for reading in ("alexnet", "caffe"):
        (tmp_path / reading).mkdir()
        path = exported(tmp_path / reading, thin_net("A-LRN", lrn=reading))
        scores.append(open_runtime(path)(images).score_map)
    assert np.abs(scores[0] - scores[1]).max() > 1e-2 * np.abs(scores[0]).max()


def test_the_text_is_what_ncnn_documents():
    """Worked out by hand for one layer of each kind.

    5=1 makes pools drop a rest, 9=1 is the ReLU.
    """
    artifact = Artifact(thin_net("A-LRN").spec, "float32", "fp32", "net.pt", "0" * 64)
    lines = ncnn_graph(artifact).text.splitlines()
    # input, mean, 8 + 3 convolutions, LRN, 5 pools, split (into two values), average, softmax
    assert lines[:2] == ["7767517", "22 23"]
    assert lines[3] == "Bias subtract_mean 1 1 image subtract_mean.out 0=3"
    assert lines[4:7] == [
        "Convolution conv1_1 1 1 subtract_mean.out conv1_1.out 0=4 1=3 2=1 3=1 4=1 5=1 6=108 9=1",
        "LRN norm1 1 1 conv1_1.out norm1.out 0=0 1=5 2=0.0005 3=0.75 4=2.0",
        "Pooling pool1 1 1 norm1.out pool1.out 0=0 1=2 2=2 3=0 5=1",
    ]
    assert lines[-4] == "Convolution fc8 1 1 fc7.out fc8.out 0=4 1=1 2=1 3=1 4=0 5=1 6=1024"


right_bytes = ncnn_export.array_bytes


def mean_added(stored, array):
    return array.astype("<f4").tobytes() if stored.negated else right_bytes(stored, array)


def one_layer_zero(stored, array):
    return right_bytes(stored, array * (stored.name != "conv4_2.weight"))


def classes_moved(stored, array):
    return right_bytes(
        stored, np.roll(array, 1, axis=0) if stored.name.startswith("fc8") else array
    )


def rows_for_columns(stored, array):
    is_3x3 = array.ndim == 4 and array.shape[3] == 3
    return right_bytes(stored, array.swapaxes(2, 3) if is_3x3 else array)


@pytest.mark.parametrize("fault", [mean_added, one_layer_zero, classes_moved, rows_for_columns])
def test_a_wrong_file_is_not_released(tmp_path, monkeypatch, fault):
    source = write(tmp_path, thin_net("D"))
    monkeypatch.setattr(ncnn_export, "array_bytes", fault)
    with pytest.raises(CheckFailed, match="differs from ONNX Runtime on images of"):
        export_ncnn(source, 1, lambda text: None)
    assert [p.name for p in tmp_path.iterdir()] == ["D.fp32.onnx"]


def test_an_older_export_stays_when_the_new_one_fails(tmp_path, monkeypatch):
    path = exported(tmp_path, thin_net("A"))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    monkeypatch.setattr(ncnn_export, "array_bytes", one_layer_zero)
    with pytest.raises(CheckFailed):
        export_ncnn(tmp_path / "A.fp32.onnx", 1, lambda text: None)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert open_runtime(path)


def test_only_float32_files_of_ours_are_taken(tmp_path):
    def refused(path) -> str:
        with pytest.raises(InputError) as error:
            export_ncnn(path, 1, lambda text: None)
        assert error.value.exit_code == 2 and not list(tmp_path.glob("*ncnn*"))
        return error.value.message

    assert "is fp16, ncnn's files are made of float32" in refused(
        write(tmp_path, thin_net("A"), precision="fp16")
    )
    source = write(tmp_path, thin_net("A"))
    manifest_path(source).write_text(json.dumps({"sha256": "0" * 64}))
    assert "changed since it was exported" in refused(source)
    manifest_path(source).unlink()
    model = onnx.load(source)
    tensor = next(t for t in model.graph.initializer if t.name == "fc8.bias")
    model.graph.initializer.remove(tensor)
    onnx.save(model, tmp_path / "less.onnx")
    assert "has no float32 fc8.bias" in refused(tmp_path / "less.onnx")
    model.graph.initializer.add().CopyFrom(tensor)
    model.graph.initializer[-1].dims[0] += 1
    onnx.save(model, tmp_path / "other.onnx")
    assert "fc8.bias: 16 bytes are stored, its shape [5] takes 20" in refused(
        tmp_path / "other.onnx"
    )
    model.graph.initializer[-1].CopyFrom(
        numpy_helper.from_array(np.zeros(5, np.float32), "fc8.bias")
    )
    onnx.save(model, tmp_path / "other.onnx")
    assert "fc8.bias is (5,), its net has (4,)" in refused(tmp_path / "other.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    assert "not an ONNX file" in refused(tmp_path / "text.onnx")


def refusal(path, **more) -> str:
    with pytest.raises(InputError) as refused:
        open_runtime(path, **more)
    assert refused.value.exit_code == 2
    return refused.value.message


def signed(path, **changes) -> None:
    """Write a manifest with fitting hashes, as an attacker would."""
    manifest = json.loads(manifest_path(path).read_text())
    manifest["files"] = {file.name: {"sha256": sha256(file)} for file in (path, weights_path(path))}
    manifest_path(path).write_text(json.dumps(sealed({**manifest, **changes})))


def test_what_ncnn_would_trust_is_checked_before(tmp_path):
    path = exported(tmp_path, thin_net("A"))
    param, manifest = path.read_text(), manifest_path(path).read_text()
    weights = weights_path(path).read_bytes()
    for text in (
        param.replace("6=108", "6=1000000000"),
        param.replace("21 22", "2000000000 22"),
        param + "x",
        param[:-9],
        "",
        "hello",
    ):
        path.write_text(text)
        signed(path)
        assert "is not net A as its manifest describes it; export it again" in refusal(path)
    path.write_text(param)
    for data in (weights[:-4], weights + b"1234", b""):
        weights_path(path).write_bytes(data)
        signed(path)
        assert "the file is cut short" in refusal(path)
    half_precision_follows = b"\x47\x6b\x30\x01"
    weights_path(path).write_bytes(weights[:12] + half_precision_follows + weights[16:])
    signed(path)
    assert "conv1_1.weight is not stored as float32" in refusal(path)
    weights_path(path).write_bytes(weights[:-1] + b"\x01")
    manifest_path(path).write_text(manifest)
    assert "A.fp32.ncnn.bin: changed since it was exported" in refusal(path)
    weights_path(path).write_bytes(weights)
    spec = json.loads(manifest)["spec"]
    signed(path, spec={**spec, "classes": ["a"], "names": ["a"]})
    assert "is not net A as" in refusal(path)
    for spoilt in (
        "{}",
        "hello",
        "[]",
        json.dumps(sealed({**json.loads(manifest), "files": 3})),
        json.dumps(sealed({**json.loads(manifest), "version": 9})),
    ):
        manifest_path(path).write_text(spoilt)
        assert "export it again" in refusal(path)
    manifest_path(path).unlink()
    assert "has no manifest" in refusal(path)
    manifest_path(path).write_text(manifest)
    weights_path(path).unlink()
    assert "are not in the same folder" in refusal(path)


def test_ncnn_runs_on_cpus_and_from_the_crop_up(tmp_path, monkeypatch):
    path = exported(tmp_path, thin_net("A", crop=64))
    with pytest.raises(InputError, match="ncnn runs it on CPUs only") as refused:
        open_runtime(path, "cuda")
    assert refused.value.about == "cpu"
    assert "the runtime onnxruntime does not open it" in refusal(path, runtime="onnxruntime")
    with pytest.raises(InputError, match="of 63x200 have a side below 64"):
        open_runtime(path)(np.zeros((1, 3, 63, 200), np.uint8))
    monkeypatch.setitem(sys.modules, "ncnn", None)  # as where it is not installed
    assert "pip install vgg-deploy[ncnn]" in refusal(path)


def test_same_text_other_weights_is_another_model(tmp_path):
    """The bench stores posteriors by the model's hash. All nets of a kind have one .param."""
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        exported(tmp_path / str(seed), thin_net("A", seed))
    paths = [tmp_path / seed / "A.fp32.ncnn.param" for seed in ("0", "1")]
    one, other = open_models(paths, ModelOptions())
    assert one.path.read_bytes() == other.path.read_bytes() and one.identity != other.identity
    assert one.identity["runtime"] == "ncnn" and one.identity["version"]
    assert runnable([one.path], "cuda") == ([], [one.path])
    assert runnable([one.path], "cpu") == ([one.path], [])


@pytest.mark.slow
def test_from_checkpoint_to_tables(here, photos):
    source, folder = save_net(thin_net("A", classes=CLASSES), here / "A.pt"), here / "exported"
    output = run(vgg_export, source, "--onnx", "--ncnn", "--precision", "fp16,fp32", "--threads", 1)
    assert "A.fp32.ncnn.param against ONNX Runtime" in output
    assert "A.fp32.onnx against PyTorch" in output
    endings = ("onnx", "json", "ncnn.param", "ncnn.bin", "ncnn.json")
    names = {f"A.fp32.{ending}" for ending in endings}
    names |= {"A.fp16.onnx", "A.fp16.json", "export.json"}
    assert {p.name for p in folder.iterdir()} == names
    manifest = json.loads((folder / "A.fp32.ncnn.json").read_text())
    assert manifest["onnx_sha256"] == sha256(folder / "A.fp32.onnx")
    assert manifest["versions"]["ncnn"]
    for name, entry in manifest["files"].items():
        assert entry["sha256"] == sha256(folder / name)
    assert len(manifest["check"]) == 6 and all(c["agree"] == c["batch"] for c in manifest["check"])

    run(vgg_bench, "--data", photos, "--scales", "32,64", "--measure", "accuracy", "--threads", 1)
    table = pd.read_csv("results/accuracy.csv").set_index(["model", "scales"]).top1_error_pct
    models = {"A.fp16.onnx", "A.fp32.onnx", "A.fp32.ncnn.param"}
    assert set(table.index.get_level_values(0)) == models
    assert (table["A.fp32.ncnn.param"] == table["A.fp32.onnx"]).all()

    (folder / "A.fp32.ncnn.param").unlink()
    run(vgg_export, "exported/A.fp32.onnx", "--ncnn", "--threads", 1)
    rows = json.loads((folder / "export.json").read_text())
    assert [row["file"] for row in rows] == ["A.fp32.ncnn.param", "A.fp32.onnx"]
    output = run(vgg_export, "A.pt", "--onnx", "--ncnn", "--precision", "fp16", code=2)
    assert "--ncnn is made from float32" in output
    assert "is fp16" in run(vgg_export, "exported/A.fp16.onnx", "--ncnn", code=2)
