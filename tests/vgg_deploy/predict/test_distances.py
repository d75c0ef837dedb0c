"""Distances from Python, and files that are not what is asked for."""

import importlib.util
import json

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import vgg_deploy as vd
from export.distance import pairs
from export.distance_files import export_distances
from export.release import export_onnx
from export.settings.distance_choice import DistanceChoice
from export.settings.export_options import ExportOptions
from tests.support.naive_distances import naive_distances
from tests.support.nets import save_net, thin_net
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.exported.distance_metadata import DISTANCE_KEY
from vgg_deploy.runtimes import open_runtime
from vgg_deploy.runtimes.distances import OnnxDistance

CHOICE = DistanceChoice("perceptual", (("relu2_2", 1.0), ("relu4_3", 0.5)))


@pytest.fixture(scope="module")
def net():
    return thin_net("D", seed=2)


@pytest.fixture(scope="module")
def file(net, tmp_path_factory):
    folder = tmp_path_factory.mktemp("distance")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "BUILT_IN_PHOTOS", 1)
        source = save_net(net, folder / "net.pt")
        options = ExportOptions(distance=CHOICE)
        (exported,) = export_distances(source, folder, options, CHOICE, 2, lambda text: None)
    return exported.path


def images(seed, count, height, width):
    return np.random.default_rng(seed).integers(0, 256, (count, 3, height, width), np.uint8)


@pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None,
    reason="openvino is not installed: pip install openvino",
)
def test_openvino_gives_the_same(net, file):
    model = vd.load(file, threads=1, runtime="openvino")
    first, second = images(0, 3, 24, 40), images(1, 3, 24, 40)
    expected = naive_distances(net, "perceptual", dict(CHOICE.terms), first, second)
    np.testing.assert_allclose(model.distance(first, second), expected, rtol=2e-5)
    assert model.runtime.name == "openvino"
    with pytest.raises(InputError, match="gives the distance of two images and neither scores"):
        open_runtime(file, runtime="openvino")


def test_batches_files_and_pictures_give_the_same(net, file, tmp_path):
    model = vd.load(file, threads=1)
    first, second = images(0, 3, 24, 40), images(1, 3, 24, 40)
    expected = naive_distances(net, "perceptual", dict(CHOICE.terms), first, second)
    found = model.distance(first, second)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    np.testing.assert_allclose(
        model.distance(torch.from_numpy(first), torch.from_numpy(second)), expected, rtol=2e-5
    )
    paths = []
    for side, batch in (("a", first), ("b", second)):
        for n, image in enumerate(batch):
            (tmp_path / side).mkdir(exist_ok=True)
            Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / side / f"{n}.png")
        paths.append(tmp_path / side)
    np.testing.assert_allclose(model.distance(*paths), expected, rtol=2e-5)
    one = Image.open(tmp_path / "a" / "1.png")
    np.testing.assert_allclose(model.distance(one, second[1]), expected[1:2], rtol=2e-5)
    assert "perceptual distance of net D" in repr(model)


def test_pairs_that_are_none_are_refused(file):
    model = vd.load(file)
    with pytest.raises(InputError, match="the shapes .* give pairs of equal size"):
        model.distance(images(0, 2, 20, 20), images(1, 2, 20, 21))
    with pytest.raises(InputError, match="the shapes"):
        model.distance(images(0, 2, 20, 20), images(1, 4, 20, 20))
    with pytest.raises(InputError, match="2: has no partner"):
        model.distance(list(images(0, 3, 20, 20)), list(images(1, 2, 20, 20)))
    with pytest.raises(InputError, match="0 is 20 x 20 and 0 is 20 x 22"):
        model.distance(images(0, 1, 20, 20)[0], images(1, 1, 20, 22)[0])
    with pytest.raises(InputError, match="needs sides of 8 or more"):
        model.distance(images(0, 1, 7, 20), images(1, 1, 7, 20))
    with pytest.raises(InputError, match="no images to compare"):
        model.distance([], [])


def test_a_distance_has_no_scores_and_a_classifier_no_distance(file, tmp_path):
    model = vd.load(file)
    for call in (
        lambda: model.scores(images(0, 1, 32, 32)),
        lambda: model.features(images(0, 1, 32, 32), ["relu1_2"]),
        lambda: model.features(images(0, 1, 32, 32)),
        lambda: model.predict(images(0, 1, 32, 32)),
    ):
        with pytest.raises(InputError, match="gives distance and no"):
            call()
    with pytest.raises(InputError, match="state neither classes nor an input"):
        vd.load(file, classes=["cat"])
    source = save_net(thin_net("A"), tmp_path / "net.pt")
    with pytest.raises(InputError, match="net.pt: gives no distance of two images"):
        vd.load(source).distance(images(0, 1, 32, 32), images(1, 1, 32, 32))
    (classifier,) = export_onnx(
        source, tmp_path, ExportOptions(("fp32",)), None, 2, lambda text: None
    )
    with pytest.raises(InputError, match="gives no distance of two images"):
        OnnxDistance(classifier.path)


def changed(file, path, change):
    """A copy of a file with a changed description."""
    model = onnx.load(file)
    (entry,) = (prop for prop in model.metadata_props if prop.key == DISTANCE_KEY)
    described = json.loads(entry.value)
    change(described)
    entry.value = json.dumps(described)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(version=2), "metadata version 2"),
        (lambda d: d.update(distance="ssim"), "distance 'ssim' is unknown"),
        (lambda d: d.update(input="bgr"), "input 'bgr' is unknown"),
        (lambda d: d.update(terms=[]), r"the terms \[\] are not layers"),
        (lambda d: d.update(terms=[["relu4_3", 1], ["relu2_2", 1]]), "in running order"),
        (lambda d: d.update(terms=[["relu2_2", True]]), "the terms"),
        (lambda d: d.update(terms=[["relu2_2", -1]]), "positive weights"),
        (lambda d: d.update(terms=[["fc6", 1]]), "the terms"),
        (lambda d: d.update(net={"arch": "D"}), "its net has the fields"),
        (lambda d: d["net"].update(arch="F"), "arch 'F' is not in Table 1"),
        (lambda d: d.pop("heads"), "heads"),
    ],
)
def test_damaged_descriptions_are_refused(change, words, file, tmp_path):
    path = changed(file, tmp_path / "changed.onnx", change)
    with pytest.raises(InputError, match=words):
        vd.load(path)


def test_a_graph_that_breaks_its_promise_is_refused(file, tmp_path):
    model = onnx.load(file)
    model.graph.output[0].name = "relu2_2"
    onnx.save(model, tmp_path / "feature.onnx")
    with pytest.raises(InputError, match="promises the inputs .* the graph has"):
        vd.load(tmp_path / "feature.onnx")


def test_a_distance_that_is_not_finite_is_told(file, tmp_path):
    model = onnx.load(file)
    for tensor in model.graph.initializer:
        if tensor.name == "conv1_1.bias":
            values = onnx.numpy_helper.to_array(tensor) * np.float32(np.nan)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, tmp_path / "nan.onnx")
    with pytest.raises(CheckFailed, match="nan.onnx: gives a distance that is not finite"):
        vd.load(tmp_path / "nan.onnx").distance(images(0, 1, 32, 32), images(1, 1, 32, 32))
