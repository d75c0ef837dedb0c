"""Files that give the distance of two images, against formulas written out in the tests."""

import json

import numpy as np
import onnxruntime as ort
import pytest

from export import distance_files
from export.distance import pairs
from export.distance.graph import distance_graph
from export.distance_files import export_distances
from export.released_files import DistancesPartlyExported
from export.settings.distance_choice import DistanceChoice
from export.settings.export_options import ExportOptions
from tests.support.naive_distances import naive_distances
from tests.support.nets import photo_of, save_net, thin_net
from vgg_deploy.errors import InputError
from vgg_deploy.exported.distance_metadata import read_distance
from vgg_deploy.exported.onnx_metadata import read_onnx_metadata
from vgg_deploy.runtimes import OnnxRuntime
from vgg_deploy.runtimes.distances import OnnxDistance

TERMS = {"relu1_2": 1.0, "conv3_3": 0.25, "pool4": 2.5}
CHOICES = {
    "perceptual": DistanceChoice("perceptual", (("pool4", 2.5), ("relu1_2", 1), ("conv3_3", 0.25))),
    "gram": DistanceChoice("gram", (("relu1_2", 1.0), ("conv3_3", 0.25), ("pool4", 2.5))),
}
SILENT = {"threads": 2, "log": lambda text: None}


@pytest.fixture(autouse=True)
def _one_photo(monkeypatch):
    monkeypatch.setattr(pairs, "BUILT_IN_PHOTOS", 1)


@pytest.fixture(scope="module")
def net():
    return thin_net("D", seed=3)


@pytest.fixture(scope="module")
def source(net, tmp_path_factory):
    return save_net(net, tmp_path_factory.mktemp("net") / "net.pt")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(5)
    for number in range(12):
        photo_of(("disc", "square", "triangle")[number % 3], rng).save(folder / f"{number}.png")
    return folder


def some_pairs(seed: int, count: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 256, (count, 3, height, width), np.uint8)
    noise = rng.integers(-40, 40, first.shape)
    return first, (first + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("form", ["uint8", "float32", "normalised"])
@pytest.mark.parametrize("kind", ["perceptual", "gram"])
def test_distances_are_those_of_the_formulas(kind, form, net, source, tmp_path):
    options = ExportOptions(("fp32",), form=form, distance=CHOICES[kind])
    (file,) = export_distances(source, tmp_path, options, CHOICES[kind], **SILENT)
    assert [tuple(term) for term in file.artifact.terms] == list(TERMS.items())
    assert read_distance(file.path) == file.artifact
    assert file.distorted.spearman > 0.999
    run = OnnxDistance(file.path)
    for count, height, width in ((1, 16, 16), (3, 17, 45), (2, 64, 33)):
        first, second = some_pairs(height, count, height, width)
        expected = naive_distances(net, kind, TERMS, first, second)
        tolerance = {"perceptual": 2e-5, "gram": 2e-4}[kind]  # Gram matrices nearly cancel
        np.testing.assert_allclose(run(first, second), expected, rtol=tolerance)
    assert run(first, first).tolist() == [0, 0]


def test_every_precision_is_checked_and_described(net, source, photos, tmp_path):
    precisions = ("fp32", "fp16", "bf16", "int8", "int8-cpu", "fp8")
    choice = CHOICES["perceptual"]
    options = ExportOptions(
        precisions, keep=("conv1_1",), calibration=photos, calibration_images=8, distance=choice
    )
    files = export_distances(source, tmp_path, options, choice, **SILENT)
    assert [file.path.name for file in files] == [f"D.perceptual.{p}.onnx" for p in precisions]
    for file in files:
        manifest = json.loads(file.path.with_suffix(".json").read_text())
        assert manifest["distance"] == "perceptual"
        assert manifest["distorted"]["pairs"] == 60  # four held-out photos
        assert manifest["distorted"]["spearman"] == file.distorted.spearman > 0.97
        assert manifest["distorted"]["blur_sigma_px"] == [0.7, 1.5, 3.0]
        is_quantized = file.path.name.split(".")[2] in ("int8", "int8-cpu", "fp8")
        assert ("quantization" in manifest) == is_quantized
        assert file.kept == (("conv1_1",) if is_quantized else ())
    errors = {file.artifact.precision: file.distorted.error_pct for file in files}
    assert errors["fp32"] < 1e-3 < errors["fp16"] < errors["bf16"]  # 11 and 8 bits
    assert errors["fp16"] < errors["int8"] < 10


def test_a_graph_that_lacks_a_term_is_refused(source, tmp_path, monkeypatch):
    def without_last(net, artifact, *others):
        from dataclasses import replace

        return distance_graph(net, replace(artifact, terms=artifact.terms[:-1]), *others)

    monkeypatch.setattr(distance_files, "distance_graph", without_last)
    options = ExportOptions(("fp32",), distance=CHOICES["gram"])
    with pytest.raises(DistancesPartlyExported, match="differs from PyTorch on images of"):
        export_distances(source, tmp_path / "out", options, CHOICES["gram"], **SILENT)
    assert list((tmp_path / "out").iterdir()) == []


def test_weights_beside_the_graph(source, tmp_path):
    choice = DistanceChoice("perceptual", (("relu2_2", 1.0),))
    inside, outside = (
        export_distances(
            source,
            tmp_path,
            ExportOptions(("fp32",), name=name, external_data=name == "outside", distance=choice),
            choice,
            **SILENT,
        )[0].path
        for name in ("inside", "outside")
    )
    assert (tmp_path / "outside.perceptual.fp32.onnx.data").is_file()
    first, second = some_pairs(0, 2, 20, 24)
    assert np.array_equal(OnnxDistance(inside)(first, second), OnnxDistance(outside)(first, second))
    (tmp_path / "outside.perceptual.fp32.onnx.data").unlink()
    with pytest.raises(InputError, match="its weights are in .* which is missing"):
        OnnxDistance(outside)


@pytest.fixture(scope="module")
def distance_file(source, tmp_path_factory):
    choice = DistanceChoice("perceptual", (("relu2_2", 1.0),))
    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "BUILT_IN_PHOTOS", 1)
        options = ExportOptions(("fp32",), distance=choice)
        return export_distances(source, folder, options, choice, **SILENT)[0].path


def test_batches_of_different_sizes_are_not_mixed_up(distance_file):
    """2 + 4 images would split into 3 + 3 if only their sum counted."""
    session = ort.InferenceSession(distance_file, providers=["CPUExecutionProvider"])
    first, _ = some_pairs(0, 2, 16, 16)
    second, _ = some_pairs(1, 4, 16, 16)
    with pytest.raises(Exception, match="(?i)broadcast|dimension|shape"):
        session.run(None, {"image0": first, "image1": second})


def test_a_distance_is_not_taken_for_a_classifier(distance_file):
    with pytest.raises(InputError, match="gives the distance of two images and neither scores"):
        OnnxRuntime(distance_file)
    with pytest.raises(InputError, match="gives the distance of two images and neither scores"):
        read_onnx_metadata(distance_file)


@pytest.mark.parametrize(
    ("choice", "arch", "words"),
    [
        (("lpips", ()), "A", "is net A; the linear heads of LPIPS belong to"),
        (("lpips", ()), "D", "has 0.0625 times the channels of net D"),
        (("gram", (("relu6", 1.0),)), "D", "net D has no layer 'relu6' ahead of fc6"),
        (("gram", (("relu3_4", 1.0),)), "D", "no layer 'relu3_4' ahead of fc6.* did you mean relu"),
    ],
)
def test_what_a_net_lacks_is_refused(choice, arch, words, tmp_path):
    source = save_net(thin_net(arch), tmp_path / "net.pt")
    chosen = DistanceChoice(*choice)
    with pytest.raises(InputError, match=words):
        export_distances(source, tmp_path / "out", ExportOptions(), chosen, **SILENT)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "terms", "words"),
    [
        ("lpips", (("relu1_2", 1.0),), "has layers of its own"),
        ("gram", (), "names no layer"),
        ("gram", (("relu1_2", 0.0),), "the weight 0.0 of relu1_2 is not a number above 0"),
        ("gram", (("relu1_2", float("nan")),), "the weight nan"),
        ("gram", (("relu1_2", float("inf")),), "the weight inf"),
        ("gram", (("relu1_2", 1.0), ("relu1_2", 2.0)), "names the layer relu1_2 twice"),
        ("dists", (), "distance 'dists' is unknown"),
    ],
)
def test_a_choice_checks_itself(kind, terms, words):
    with pytest.raises(InputError, match=words):
        DistanceChoice(kind, terms)
