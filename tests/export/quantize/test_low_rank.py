"""fc6 and fc7 in two factors.

Oracle: NumPy's SVD of the layer's outputs in float64, and the net written as plain functions.
"""

import json

import numpy as np
import onnx
import pytest
import torch

from export.cli import main as export
from export.quantize.low_rank import factor, factored
from export.release import ExportOptions, export_onnx
from tests.support.layer_oracle import plain_forward
from tests.support.nets import photo_of, save_net, thin_net
from tests.support.run import run
from vgg_deploy.errors import InputError
from vgg_deploy.runtimes import open_runtime

RANKS = (("fc6", 48), ("fc7", 64))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(16):
        photo_of("square", rng).resize((96, 80)).save(root / f"{i:02d}.png")
    return root


@pytest.fixture(scope="module")
def net():
    return thin_net("A", crop=64)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(3).integers(0, 256, (2, 3, 97, 130), np.uint8)


def points(values: np.ndarray) -> np.ndarray:
    """(positions, channels)."""
    return values.transpose(0, 2, 3, 1).reshape(-1, values.shape[1])


def test_no_factors_of_the_rank_change_the_outputs_less(net):
    """The error on the images is what the SVD of the centred outputs leaves out."""
    images = np.random.default_rng(5).integers(0, 256, (12, 3, 97, 130), np.uint8)
    layers = plain_forward(net, images)
    (found,) = factor(net, {"fc6": 5}, [images]).values()
    outputs = points(layers["fc6"])
    centred = outputs - outputs.mean(0)
    singular = np.linalg.svd(centred, compute_uv=False)
    least = float((singular[5:] ** 2).sum())
    first = torch.nn.functional.conv2d(torch.from_numpy(layers["pool5"]), found.first.double())
    second = torch.nn.functional.conv2d(first, found.second.double(), found.bias.double())
    error = float(((points(second.numpy()) - outputs) ** 2).sum())
    assert least * 0.999 <= error <= least * 1.02
    assert found.kept == pytest.approx(1 - least / (singular**2).sum(), abs=1e-3)


def test_a_full_rank_is_the_layer_itself(net, images):
    expected = plain_forward(net, images)
    factors = factor(net, {"fc6": 256}, [images])
    with factored(net, factors), torch.inference_mode():
        pixels = torch.from_numpy(images).float()
        mean = torch.tensor(net.spec.preprocessing.mean).view(1, 3, 1, 1)
        found = net(pixels - mean).numpy()
    assert [name for name, _ in net.named_children()].index("fc6") > 0
    assert np.abs(found - expected["fc8"]).max() < 1e-4 * np.abs(expected["fc8"]).max()
    assert isinstance(net.fc6, torch.nn.Conv2d)


@pytest.mark.slow
def test_files_of_all_forms(net, photos, images, tmp_path):
    source = save_net(net, tmp_path / "net.pt")
    options = ExportOptions(
        ("fp32", "fp16", "int8-cpu", "int8"), calibration=photos, low_rank=RANKS
    )
    files = export_onnx(source, tmp_path / "out", options, None, 1, lambda text: None)
    expected = plain_forward(net, images)["fc8"].mean((2, 3))
    whole = {
        "fp32": 4 * 128 * 256,
        "fp16": 2 * 128 * 256,
        "int8-cpu": 128 * 256,
        "int8": 128 * 256,
    }
    for file in files:
        model = onnx.load(file.path)
        shapes = {t.name.split(".quantized")[0]: list(t.dims) for t in model.graph.initializer}
        assert shapes["fc6.a.weight"] == [48, 32, 2, 2]
        assert shapes["fc6.b.weight"] == [256, 48, 1, 1]
        assert shapes["fc7.a.weight"] == [64, 256, 1, 1]
        assert "fc6.weight" not in shapes
        sizes = [len(t.raw_data) for t in model.graph.initializer if t.name.startswith("fc6.")]
        assert sum(sizes) < 0.75 * whole[file.artifact.precision]
        found = open_runtime(file.path)(images).score_map.mean((2, 3))
        error = np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean())
        assert error < 0.5
        assert file.cost.images == 8  # against the net as it was, so fp32 has a cost too
        assert 0.3 < file.cost.score_error_pct < 40
        manifest = json.loads(file.path.with_suffix(".json").read_text())
        assert manifest["low_rank"]["fc6"]["rank"] == 48
        assert 0.5 < manifest["low_rank"]["fc6"]["variance_kept"] <= 1


@pytest.mark.slow
def test_features_of_factored_layers(net, photos, images, tmp_path):
    source = save_net(net, tmp_path / "net.pt")
    options = ExportOptions(
        ("fp32", "int8-cpu"), calibration=photos, low_rank=(("fc6", 80),), features=("fc6", "fc7")
    )
    files = export_onnx(source, tmp_path / "out", options, None, 1, lambda text: None)
    expected = plain_forward(net, images)
    for file in files:
        for name, values in open_runtime(file.path).run(images, ("fc6", "fc7")).items():
            assert values.shape == expected[name].shape
            error = np.sqrt(((values - expected[name]) ** 2).mean() / (expected[name] ** 2).mean())
            assert error < 0.5


@pytest.mark.parametrize(
    "ranks, more, message",
    [
        ("fc6", (), "'fc6' is not fc6 or fc7 with a rank above 0"),
        ("fc8:3", (), "'fc8:3' is not fc6 or fc7 with a rank above 0"),
        ("fc6:0", (), "'fc6:0' is not fc6 or fc7 with a rank above 0"),
        ("fc6:5,fc6:6", (), "names no layer, or one twice"),
        ("fc6:100", (), "two factors of rank 100 are no smaller than fc6; choose at most 85"),
        ("fc6:9", ("--precision", "int4-cpu"), "low-rank does not go with int4-cpu"),
        ("fc6:9", ("--features", "relu3_1"), "--low-rank fc6: these outputs do not need fc6"),
        ("fc6:9", ("--sensitivity",), "--sensitivity: does not go with --low-rank"),
        ("fc6:9", ("--ncnn",), "--ncnn: does not go with --low-rank"),
    ],
)
def test_what_cannot_be_factored_is_refused(ranks, more, message, net, photos, tmp_path):
    source = save_net(net, tmp_path / "net.pt")
    words = ("--onnx", "--low-rank", ranks, "--calibration", photos, "--out", tmp_path / "out")
    assert message in run(export, source, *words, *more, code=2)
    assert not list(tmp_path.glob("out/*.onnx"))


def test_a_distance_has_no_layers_to_factor():
    from export.settings.distance_choice import DistanceChoice

    with pytest.raises(InputError, match="a distance has no fc6 and fc7; leave low-rank out"):
        ExportOptions(distance=DistanceChoice("lpips"), low_rank=RANKS)
