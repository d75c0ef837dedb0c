"""Explained images: a planted wrong layer is named, and margins follow a closed form."""

import shutil

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from onnx import numpy_helper

from bench.cli import main as vgg_bench
from bench.layers.explain import explain
from bench.layers.reference import float_net
from bench.layers.watchers import layer_values
from bench.models.model import ModelOptions, open_models
from tests.support.layer_oracle import plain_forward
from tests.support.run import run
from vgg_deploy.net.open_net import open_net


def changed(file, folder, name, change):
    """A copy of an ONNX file, which says the same about itself, with one array changed."""
    model = onnx.load(file)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            array = numpy_helper.to_array(tensor).copy()
            change(array)
            tensor.CopyFrom(numpy_helper.from_array(array, name))
    onnx.save(model, folder / f"changed.{file.name}")
    return folder / f"changed.{file.name}"


def explained(paths, image, options=None):
    models = open_models(paths, options or ModelOptions())
    model = models[-1]
    return explain(model, layer_values(model.runtime), float_net(models, model), image, "photo")


def scores_of(layer_files, image):
    net = open_net(layer_files["A.pt"])
    return plain_forward(net, image)["fc8"].mean((2, 3))[0], net.spec.classes


@pytest.mark.parametrize(
    "name", ["A.fp32.onnx", "A.int8.onnx", "A.int8-cpu.onnx", "A.fp32.ncnn.param"]
)
def test_rounding_leaves_no_bound(layer_files, squares_of_photos, name):
    for image in squares_of_photos:
        one, effects = explained([layer_files["A.pt"], layer_files[name]], image)
        assert one.beyond == "" and 0 < one.largest_of_bound < 1, one.sentence()
        assert "stays within its rounding bound" in one.sentence()
        total = one.margin + sum(effect.change for effect in effects)
        assert total == pytest.approx(effects[-1].lead, abs=1e-9)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_leaves_no_bound(layer_files, squares_of_photos, precision):
    options = ModelOptions(precisions=("fp32", precision))
    one, _ = explained([layer_files["A.pt"]], squares_of_photos[0], options)
    assert one.beyond == "" and 0 < one.largest_of_bound < 1


def test_bfloat16_in_ncnn_leaves_no_bound(layer_files, squares_of_photos):
    options = ModelOptions(runtimes=("torch", "ncnn-bf16"))
    for image in squares_of_photos:
        files = [layer_files["A.pt"], layer_files["A.fp32.ncnn.param"]]
        one, _ = explained(files, image, options)
        assert one.beyond == "" and 0 < one.largest_of_bound < 1, one.sentence()


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("A.fp32.onnx", "conv3_2.weight"),
        ("A.int8.onnx", "conv3_2.weight.quantized"),
        ("A.int8-cpu.onnx", "conv3_2.weight.quantized"),
    ],
)
def test_a_planted_wrong_weight_is_named(layer_files, squares_of_photos, tmp_path, name, array):
    def plant(weight):
        sizes = np.abs(weight.astype(np.float64))
        at = np.unravel_index(sizes.argmax(), weight.shape)
        weight[at] = -weight[at]

    wrong = changed(layer_files[name], tmp_path, array, plant)
    image = squares_of_photos[0]
    one, effects = explained([layer_files["A.pt"], wrong], image)
    assert one.beyond == "conv3_2 + relu3_2" and one.largest_of_bound > 1
    assert "rounding does not explain" in one.sentence()
    # all other layers take what this one gives, and treat it rightly
    assert [e.layer for e in effects if e.of_bound > 1] == ["conv3_2 + relu3_2"]


@pytest.mark.parametrize(("beyond_margin", "place"), [(0.9, 2), (1.1, 2), (1.1, 3)])
def test_the_margin_that_a_bias_crosses_has_a_closed_form(
    layer_files, squares_of_photos, tmp_path, beyond_margin, place
):
    """Oracle: scores in float64. A bias of fc8 moves one score by exactly its change."""
    image = squares_of_photos[1]
    scores, classes = scores_of(layer_files, image)
    best, second = np.argsort(scores)[[-1, -place]]
    margin = float(scores[best] - scores[second])

    def plant(bias):
        bias[second] += beyond_margin * margin

    wrong = changed(layer_files["A.fp32.onnx"], tmp_path, "fc8.bias", plant)
    one, effects = explained([layer_files["A.pt"], wrong], image)
    assert one.differs == (beyond_margin > 1)
    assert one.margin == pytest.approx(margin, rel=1e-4)
    assert one.change == pytest.approx(-beyond_margin * margin, rel=1e-4)
    assert one.reference_best == classes[best] and one.rival == classes[second]
    assert one.model_best == classes[second if beyond_margin > 1 else best]
    assert one.most == one.beyond == "fc8" and one.most_change == pytest.approx(
        one.change, rel=1e-3
    )
    assert one.crosses == ("fc8" if beyond_margin > 1 else "")
    assert all(abs(effect.change) < 1e-4 * margin for effect in effects[:-1])


def test_each_layers_change_is_that_of_the_float32_net_behind_it(layer_files, squares_of_photos):
    """Oracle: the checkpoint's layers, continued by hand from the file's values."""
    image = squares_of_photos[2]
    files = [layer_files["A.pt"], layer_files["A.int8-cpu.onnx"]]
    one, effects = explained(files, image)
    net, classes = open_net(files[0]), scores_of(layer_files, image)[1]
    values = layer_values(open_models(files, ModelOptions())[1].runtime)
    shown = dict(zip((p[-1] for p in values.parts), values.all_values(image), strict=True))
    layers = dict(net.named_children())
    behind = list(layers)[list(layers).index("pool3") + 1 :]
    x = torch.from_numpy(shown["pool3"])
    for name in behind:
        x = layers[name](x)
    scores = x.mean((2, 3))[0]
    best, rival = classes.index(one.reference_best), classes.index(one.rival)
    (effect,) = [effect for effect in effects if effect.layer == "pool3"]
    assert effect.lead == pytest.approx(float(scores[best] - scores[rival]), abs=1e-5)


@pytest.mark.slow
def test_the_first_images_that_differ_are_explained_unasked(layer_files, photos, tmp_path, here):
    def plant(bias):
        bias[:] = [0, 0, 0, 50]

    wrong = changed(layer_files["A.fp32.onnx"], tmp_path, "fc8.bias", plant)
    options = ["--data", photos, "--scales", "48", "--measure", "accuracy", "--per-layer"]
    options += ["--threads", "1", "--latency-seconds", "0.01"]
    output = run(vgg_bench, layer_files["A.pt"], wrong, *options)
    table = pd.read_csv("results/explained.csv")
    differing = pd.read_csv("results/differences.csv").image.unique()
    assert set(table.image) <= set(differing) and len(table) == min(3, len(differing)) > 0
    assert set(table.beyond) == {"fc8"} and (table.model_best == "triangle").all()
    assert "fc8 is the first layer whose error leaves its rounding bound" in " ".join(
        output.split()
    )


def test_an_image_that_cannot_be_read_is_named(layer_files, here):
    args = ["--explain", "no.jpeg", "--measure", "latency", "--latency-seconds", "0.01"]
    args += ["--scales", "48", "--batch-sizes", "1", "--threads", "1"]
    output = run(vgg_bench, layer_files["A.pt"], layer_files["A.fp32.onnx"], *args, code=2)
    assert "no.jpeg" in output and "Traceback" not in output
    assert not (here / "results").exists()


def test_one_file_alone_has_nothing_to_explain(layer_files, photos, here):
    shutil.copy(photos / "val" / "disc" / "000.jpeg", "disc.jpeg")
    args = ["--explain", "disc.jpeg", "--measure", "latency", "--latency-seconds", "0.01"]
    args += ["--scales", "48", "--batch-sizes", "1", "--threads", "1"]
    output = run(vgg_bench, layer_files["A.pt"], *args)
    assert "Nothing is explained" in output
