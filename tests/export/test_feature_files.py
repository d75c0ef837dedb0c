"""Files that give outputs of layers, against Table 1 written as plain functions in float64."""

import json

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file

from bench.cli import main as bench
from export import release
from export.cli import main as export
from export.onnx.chain import NodeChain
from export.release import ExportOptions, export_onnx
from export.verify.float32_twin import twin_outputs
from export.write_ncnn import export_ncnn
from tests.support.layer_oracle import plain_forward
from tests.support.nets import photo_of, save_net, thin_net
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.net.outputs import SCORES, layer_names, least_side, output_shape
from vgg_deploy.net.spec import Preprocessing
from vgg_deploy.predict.model import load
from vgg_deploy.runtimes import open_runtime

REDUCED = ("fp16", "bf16", "int8", "int8-cpu", "fp8")
FEATURES = ("relu1_2", "conv2_2", "pool3", "relu5_3", "pool5", "fc6", "relu7")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(16):
        photo_of("square", rng).resize((64, 64)).save(root / f"{i:02d}.png")
    return root


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(3).integers(0, 256, (2, 3, 71, 96), np.uint8)


def written(folder, net, *precisions, **settings):
    source = save_net(net, folder / "net.pt")
    options = ExportOptions(precisions or ("fp32",), **settings)
    return export_onnx(source, folder / "out", options, None, 1, lambda text: None)


@pytest.mark.parametrize("arch", ["A-LRN", "C", "E"])
@pytest.mark.parametrize("form", ["uint8", "normalised"])
def test_every_layer_is_given_by_its_name(arch, form, images, tmp_path):
    net = thin_net(arch, seed=5)
    names = layer_names(net.spec)
    (file,) = written(tmp_path, net, features=names[::-1], form=form)
    runtime = open_runtime(file.path)
    assert runtime.outputs == names  # in running order, whatever the order of the names
    found, expected = runtime.run(images, names), plain_forward(net, images)
    assert set(expected) == set(names)
    for name in names:
        assert found[name].shape == output_shape(net.spec, name, images.shape)
        largest = np.abs(expected[name]).max()
        assert np.abs(found[name] - expected[name]).max() <= 2e-5 * largest, name
    graph = onnx.load(file.path).graph
    assert [output.name for output in graph.output] == list(names)


def test_later_layers_are_left_out(images, tmp_path):
    net = thin_net("D")
    (file,) = written(tmp_path, net, features=("relu3_3", "conv2_1"))
    graph = onnx.load(file.path).graph
    stored = {tensor.name.split(".")[0] for tensor in graph.initializer}
    convolutions = [node.name for node in graph.node if node.op_type == "Conv"]
    assert convolutions == [c for c in net.convolutions() if c < "conv4"]
    assert stored == {*convolutions, "subtract_mean"}
    assert file.path.name == "D.features.fp32.onnx" and not file.comparisons


def test_convolutions_take_images_below_the_crop(tmp_path):
    """The crop is 64: only fc6 needs a window of it. Two pools need four pixels."""
    net = thin_net("D", crop=64)
    (file,) = written(tmp_path, net, features=("relu3_3",))
    assert least_side(net.spec, ("relu3_3",)) == 4 and least_side(net.spec, ("fc6",)) == 64
    small = np.random.default_rng(0).integers(0, 256, (3, 3, 4, 7), np.uint8)
    expected = plain_forward(net, np.pad(small, ((0, 0), (0, 0), (0, 60), (0, 57))))["conv1_1"]
    found = load(file.path, threads=1).features(small)
    assert list(found) == ["relu3_3"] and found["relu3_3"].shape == (3, 16, 1, 1)
    again = load(tmp_path / "net.pt", threads=1).features(small, ("relu3_3", "conv1_1"))
    np.testing.assert_allclose(found["relu3_3"], again["relu3_3"], rtol=1e-4, atol=1e-3)
    # away from the border the padding is the same
    np.testing.assert_allclose(again["conv1_1"][..., :3, :6], expected[..., :3, :6], rtol=1e-4)
    with pytest.raises(InputError, match="3 x 7, and the net needs sides of 4 or more"):
        load(file.path, threads=1).features(small[:, :, :3])


def test_scores_beside_features_are_those_of_the_classifier(images, tmp_path):
    net = thin_net("D")
    (both,) = written(tmp_path, net, features=("pool5", "fc7"), with_scores=True)
    (plain,) = written(tmp_path, net)
    assert both.artifact.outputs == (*SCORES, "pool5", "fc7") and both.comparisons
    expected, found = open_runtime(plain.path)(images), open_runtime(both.path)(images)
    np.testing.assert_array_equal(found.posterior, expected.posterior)
    np.testing.assert_array_equal(found.score_map, expected.score_map)


@pytest.mark.parametrize("arch", ["A-LRN", "D"])
@pytest.mark.slow
def test_every_precision_gives_features_near_those_of_float64(arch, photos, images, tmp_path):
    """Errors in the manifest are recomputed here from the held-out photos themselves."""
    net = thin_net(arch)
    names = tuple(n for n in FEATURES if n in layer_names(net.spec))
    files = written(tmp_path, net, "fp32", *REDUCED, features=names, calibration=photos)
    assert [f.artifact.precision for f in files] == ["fp32", *REDUCED]
    held_out = np.stack(
        [np.asarray(_opened(photos / f"{i:02d}.png")).transpose(2, 0, 1) for i in range(1, 16, 2)]
    )
    expected = plain_forward(net, held_out)
    limits = {"fp32": 1e-5, "fp16": 2e-3, "bf16": 2e-2, "int8": 0.4, "int8-cpu": 0.4, "fp8": 0.4}
    for file in files:
        precision = file.artifact.precision
        manifest = json.loads(file.path.with_suffix(".json").read_text())
        assert manifest["outputs"] == list(names)
        worst = max(r.error for r in file.features)
        if precision in ("fp32", "fp16", "bf16"):
            assert 0 < worst < limits[precision]
            assert {r["layer"] for r in manifest["check_features"]} == set(names)
            continue
        own = open_runtime(file.path).run(held_out, names)
        is_twin = manifest["check_of"] == "float32 twin"
        (found,) = twin_outputs(file.path, None, [held_out], 1) if is_twin else (own,)
        for cost in manifest["held_out_features"]:
            layer = cost["layer"]
            difference = found[layer].astype(np.float64) - expected[layer]
            error = np.sqrt((difference**2).sum() / (expected[layer] ** 2).sum())
            assert 0 < error < limits[precision] and cost["images"] == len(held_out)
            assert cost["error_pct"] == pytest.approx(100 * error, rel=1e-3)
            own_error = np.linalg.norm(own[layer] - expected[layer]) / np.linalg.norm(
                expected[layer]
            )
            assert own_error == pytest.approx(error, rel=0.05)
            assert cost["sqnr_db"] == pytest.approx(-20 * np.log10(error), abs=0.01)
            flat, other = (v.reshape(len(v), -1) for v in (found[layer], expected[layer]))
            cosines = torch.cosine_similarity(torch.tensor(flat).double(), torch.tensor(other))
            assert cost["least_cosine"] == pytest.approx(float(cosines.min()), abs=1e-6)
            assert cost["mean_cosine"] == pytest.approx(float(cosines.mean()), abs=1e-6)


def _opened(path):
    """At Q 48, the net's own."""
    return Image.open(path).convert("RGB").resize((48, 48), Image.Resampling.BILINEAR)


@pytest.mark.slow
def test_a_feature_is_not_rounded_for_the_next_layer(photos, images, tmp_path):
    """In int8-cpu a ReLU is rounded to 8 bits ahead of its pool, but not for who asks for it."""
    (file,) = written(
        tmp_path, thin_net("D"), "int8-cpu", features=("relu2_2", "pool2"), calibration=photos
    )
    found = open_runtime(file.path).run(images, ("relu2_2", "pool2"))
    assert len(np.unique(found["relu2_2"])) > 256
    pooled = torch.nn.functional.max_pool2d(torch.tensor(found["relu2_2"]), 2)
    np.testing.assert_array_equal(found["pool2"], pooled.numpy())


@pytest.mark.parametrize("with_scores", [False, True])
def test_ncnn_gives_the_same_features(with_scores, images, tmp_path):
    net = thin_net("A-LRN", seed=2)
    names = ("conv1_1", "relu1_1", "norm1", "relu3_1", "pool4", "fc6", "relu6", "fc8")
    (file,) = written(tmp_path, net, features=names, with_scores=with_scores)
    exported = export_ncnn(file.path, 1, lambda text: None)
    assert {r.layer for r in exported.features} == set(names)
    runtime, expected = open_runtime(exported.path), plain_forward(net, images)
    found = runtime.run(images, runtime.outputs)
    for name in names:
        largest = np.abs(expected[name]).max()
        assert np.abs(found[name] - expected[name]).max() <= 1e-4 * largest, name
    if with_scores:
        np.testing.assert_allclose(found["score_map"], found["fc8"])
        assert runtime(images).posterior.shape == (2, 4)


def test_a_file_that_shows_another_value_is_not_released(tmp_path, monkeypatch):
    """A ReLU's name on the convolution before it, the usual mistake."""
    show = NodeChain.show

    def before_the_relu(chain, name):
        after, chain.value = chain.value, chain.nodes[-1].input[0]
        show(chain, name)
        chain.value = after

    monkeypatch.setattr(NodeChain, "show", before_the_relu)
    with pytest.raises(CheckFailed, match=r"relu3_3 differs from PyTorch on images of"):
        written(tmp_path, thin_net("D"), features=("relu3_3",))
    with pytest.raises(CheckFailed, match=r"relu3_3 differs from PyTorch by .* on images of"):
        written(tmp_path, thin_net("D"), "bf16", features=("relu3_3",))
    assert not list((tmp_path / "out").glob("*.onnx"))


@pytest.mark.slow
def test_limits_hold_for_features(photos, tmp_path):
    with pytest.raises(CheckFailed, match=r"relu5_3 differs .* --max-cost allows 0.5 %"):
        written(
            tmp_path,
            thin_net("D"),
            "int8",
            features=("relu5_3",),
            calibration=photos,
            max_cost=0.5,
        )


def test_another_set_of_layers_does_not_replace_a_file_in_silence(tmp_path):
    lines = []
    source = save_net(thin_net("D"), tmp_path / "net.pt")
    for layers in (("relu3_3",), ("relu3_3",), ("relu2_2",)):
        options = ExportOptions(("fp32",), features=layers)
        release.export_onnx(source, tmp_path, options, None, 1, lines.append)
    (warning,) = [line for line in lines if line.startswith("Warning")]
    assert "an export of the same source that gives relu3_3, will be replaced" in warning


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--onnx", "--features", "relu9_9"], "--features: net D has no layer 'relu9_9'"),
        (["--trt", "--features", "relu3_3"], "engines and ncnn's files are made from ONNX files"),
        (["--onnx", "--with-scores"], "--with-scores adds posterior and score map"),
        (["--onnx", "--features", "relu3_3", "--sensitivity"], "leave --features out"),
        (
            ["--onnx", "--features", "conv1_1", "--precision", "int8", "--keep", "conv1_1"],
            "leaves no layer to quantize",
        ),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_sentence(arguments, said, tmp_path):
    source = save_net(thin_net("D"), tmp_path / "net.pt")
    result = CliRunner().invoke(export, [str(source), *arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == 2 and said in result.stderr, result.stderr
    assert not list(tmp_path.glob("out/*.onnx"))


def test_a_file_of_features_is_no_classifier(tmp_path, photos):
    (file,) = written(tmp_path, thin_net("D"), features=("relu3_3",))
    result = CliRunner().invoke(bench, [str(file.path), "--data", str(photos)])
    assert result.exit_code == 2
    assert "D.features.fp32.onnx: gives relu3_3 and no scores" in result.stderr
    model = load(file.path, threads=1)
    with pytest.raises(InputError, match="gives relu3_3 and no scores"):
        model.predict(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(InputError, match="gives relu3_3 and no scores"):
        model.scores(np.zeros((1, 3, 64, 64), np.uint8))
    with pytest.raises(InputError, match="gives relu3_3 and no relu4_1; open the weights"):
        model.features(np.zeros((1, 3, 64, 64), np.uint8), ("relu4_1",))


@pytest.mark.slow
def test_convolutions_alone_give_features_and_no_scores(photos, images, tmp_path):
    """As style transfer and perceptual losses use them: no fc6 to fc8 in the file."""
    net = thin_net("D", seed=4, preprocessing=Preprocessing())
    tensors = {
        name: tensor.flip(1).contiguous() if name == "conv1_1.weight" else tensor
        for name, tensor in net.state_dict().items()
        if name.startswith("conv")
    }  # Caffe's layer names, so BGR
    source = tmp_path / "convolutions.safetensors"
    save_file(tensors, source)
    expected = plain_forward(net, images)
    model = load(source, threads=1)
    assert model.runtime.outputs[-1] == "pool5" and not model.classes
    found = model.features(images, ("conv1_1", "pool5"))
    np.testing.assert_allclose(found["pool5"], expected["pool5"], rtol=1e-4, atol=1e-4)
    options = ExportOptions(
        ("fp32", "int8", "int8-cpu"), features=("relu3_3", "pool5"), calibration=photos
    )
    files = export_onnx(source, tmp_path / "out", options, None, 1, lambda text: None)
    for file in files:
        layers = open_runtime(file.path).run(images, ("relu3_3", "pool5"))
        assert layers["pool5"].shape == expected["pool5"].shape
        if file.artifact.precision == "fp32":
            np.testing.assert_allclose(layers["pool5"], expected["pool5"], rtol=1e-4, atol=1e-4)
        else:
            assert max(cost.error_pct for cost in file.feature_costs) < 40
    assert open_runtime(export_ncnn(files[0].path, 1, lambda text: None).path)
    with pytest.raises(InputError, match="convolutions of D only, without fc6-fc8"):
        model.predict(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(InputError, match="convolutions of D only, without fc6-fc8"):
        model.scores(np.zeros((1, 3, 224, 224), np.uint8))
    for wanted in ({}, {"features": ("pool5",), "with_scores": True}):
        with pytest.raises(InputError, match="convolutions of D only, without fc6-fc8"):
            export_onnx(source, tmp_path, ExportOptions(**wanted), None, 1, lambda text: None)
    with pytest.raises(InputError, match="net D has no layer 'fc7'; choose from conv1_1"):
        options = ExportOptions(features=("fc7",))
        export_onnx(source, tmp_path, options, None, 1, lambda text: None)
    result = CliRunner().invoke(bench, [str(source), "--data", str(photos)])
    assert result.exit_code == 2 and "without fc6-fc8" in result.stderr
