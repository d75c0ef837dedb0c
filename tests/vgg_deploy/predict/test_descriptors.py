"""Descriptors against a naive evaluation, in the forms that Python has them, within memory."""

import numpy as np
import pytest
from PIL import Image

from tests.support.naive_descriptors import NaiveDescriptors
from tests.support.nets import save_net, thin_net
from tests.support.written import written_onnx
from vgg_deploy.errors import CheckFailed, InputError, UnreadableImage
from vgg_deploy.net.spec import Preprocessing
from vgg_deploy.predict import descriptors as module
from vgg_deploy.predict.descriptors import DescriptorPlan, described, descriptors
from vgg_deploy.predict.model import load

LAYERS = ("conv1_1", "relu3_1", "pool5", "fc6", "relu6", "relu7")


@pytest.fixture
def model(tmp_path):
    return load(save_net(thin_net("A", seed=3), tmp_path / "A.pt"), threads=1)


def near(found, expected):
    """Equal within the rounding of float32 sums."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=4e-6 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("arch", "crop", "sides", "settings"),
    [
        ("A", 32, (32, 45), {}),
        ("B", 32, (48,), {"flips": False, "l2": True}),
        ("D", 64, (64, 97), {"over_scales": "stack", "l2": True}),
        ("D", 32, (33, 40, 70), {"over_scales": "stack", "flips": False}),
        ("E", 64, (75, 64), {"l2": True}),
    ],
)
def test_descriptors_equal_the_naive_evaluation(arch, crop, sides, settings, noisy, tmp_path):
    net = thin_net(arch, seed=2, crop=crop)
    model = load(save_net(net, tmp_path / "net.pt"), threads=1)
    paths = noisy[: 5 if crop == 32 else 3]
    found = model.descriptors(paths, layers=LAYERS, sides=sides, batch=2, **settings)
    naive = NaiveDescriptors(net)
    given = {"flips": settings.get("flips", True), "l2": settings.get("l2", False)}
    given["stack"] = settings.get("over_scales") == "stack"
    assert list(found.layers) == list(LAYERS) and found.images == tuple(map(str, paths))
    for layer in LAYERS:
        expected = [naive.descriptor(path, layer, sorted(sides), **given) for path in paths]
        assert found[layer].dtype == np.float32
        near(found[layer], np.array(expected))


def test_images_have_many_forms(model, noisy):
    by_path = model.descriptors(noisy, sides=40)
    assert list(by_path.layers) == ["relu7"] and by_path["relu7"].shape == (5, 256)
    opened = [Image.open(path) for path in noisy]
    arrays = [np.asarray(Image.open(path).convert("RGB")) for path in noisy]
    for forms in (opened, arrays, noisy[0].parent):
        again = model.descriptors(forms, sides=40)
        np.testing.assert_array_equal(again["relu7"], by_path["relu7"])
    assert model.descriptors(opened, sides=40).images == ("0", "1", "2", "3", "4")
    alone = model.descriptors(noisy[1], sides=40)
    assert len(alone) == 1
    near(alone["relu7"], by_path["relu7"][1:2])


def test_images_of_one_size_share_a_batch(model):
    images = np.random.default_rng(5).integers(0, 256, (5, 40, 50, 3), np.uint8)
    together = model.descriptors(images, sides=32, batch=3)["relu7"]
    alone = [model.descriptors(image, sides=32)["relu7"][0] for image in images]
    near(together, np.array(alone))
    assert np.abs(together[0] - together[1]).max() > 1e-3 * np.abs(together).max()


def test_descriptors_are_a_table(model, noisy):
    found = model.descriptors(noisy, layers=["relu7", "pool5"], sides=(32, 48))
    table = found.to_frame()
    assert table.image.tolist() == [*map(str, noisy)]
    assert [*table.columns[:3]] == ["image", "pool5_0", "pool5_1"]  # layers in running order
    numbers = np.concatenate([found["pool5"], found["relu7"]], axis=1)
    np.testing.assert_array_equal(table.drop(columns="image").to_numpy(), numbers)
    assert set(table.dtypes[1:]) == {np.dtype("f4")}


def test_scales_stand_side_by_side_with_the_smallest_first(model, noisy):
    parts = [model.descriptors(noisy, sides=side)["relu7"] for side in (32, 48)]
    stacked = model.descriptors(noisy, sides=(48, 32), over_scales="stack")["relu7"]
    np.testing.assert_array_equal(stacked, np.concatenate(parts, axis=1))
    unit = model.descriptors(noisy, sides=(32, 48), over_scales="stack", l2=True)["relu7"]
    np.testing.assert_allclose((unit.astype(float) ** 2).sum(axis=1), 1, atol=1e-6)


def test_a_descriptor_of_zeros_stays(tmp_path):
    net = thin_net("A")
    for parameter in net.fc7.parameters():
        parameter.data.zero_()
    model = load(save_net(net, tmp_path / "A.pt"), threads=1)
    grey = np.full((40, 40, 3), 128, np.uint8)
    assert not model.descriptors(grey, sides=32, l2=True)["relu7"].any()


def test_the_default_layers_are_those_of_the_file(tmp_path, noisy):
    net = thin_net("A")
    weights = load(save_net(net, tmp_path / "A.pt"), threads=1)
    path = written_onnx(tmp_path / "A.onnx", net, outputs=("relu3_1", "pool5"))
    shipped = load(path, threads=1)
    found, expected = (
        one.descriptors(noisy, layers=layers, sides=32)
        for one, layers in ((shipped, None), (weights, ("pool5", "relu3_1")))
    )
    assert list(found.layers) == ["relu3_1", "pool5"]
    for layer in found.layers:
        near(found[layer], expected[layer])
    with pytest.raises(InputError, match="gives relu3_1, pool5 and no relu7; open the weights"):
        shipped.descriptors(noisy, layers="relu7")
    scores = load(written_onnx(tmp_path / "scores.onnx", net), threads=1)
    with pytest.raises(InputError, match="gives posterior, score_map and no relu7; open the wei"):
        scores.descriptors(noisy)


def test_convolutions_alone_are_described_by_pool5(tmp_path, noisy):
    """Weights of Caffe's layout without fc6 to fc8, whose input is BGR."""
    net = thin_net("D", preprocessing=Preprocessing(mean=(123.68, 116.779, 103.939)))
    arrays = {
        name.replace(".weight", "_W").replace(".bias", "_b"): tensor.numpy()
        for name, tensor in net.state_dict().items()
        if name.startswith("conv")
    }
    arrays["conv1_1_W"] = arrays["conv1_1_W"][:, ::-1]
    np.savez(tmp_path / "D.npz", **arrays)
    found = load(tmp_path / "D.npz", threads=1).descriptors(noisy, sides=40)
    expected = [NaiveDescriptors(net).descriptor(path, "pool5", (40,)) for path in noisy]
    assert list(found.layers) == ["pool5"]
    near(found["pool5"], np.array(expected))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layers": ("relu9",)}, "net A has no layer 'relu9'; choose from conv1_1, "),
        ({"layers": ()}, "no layer is named"),
        ({"layers": ("relu7", "relu7")}, "names the layer relu7 twice"),
        ({"sides": 31}, "Q 31 gives no value of relu7, which needs images of 32 pixels; the smal"),
        ({"sides": ()}, "no Q is named"),
        ({"over_scales": "sum"}, "over_scales 'sum' is unknown; choose from average, stack"),
        ({"batch": 0}, "a batch of 0 images is empty"),
    ],
)
def test_settings_are_checked(given, message, model):
    with pytest.raises(InputError, match=message):
        DescriptorPlan.of(model.runtime, **given)


def test_layers_ahead_of_fc6_take_images_smaller_than_the_crop(tmp_path, noisy):
    net = thin_net("A", crop=64)
    model = load(save_net(net, tmp_path / "A.pt"), threads=1)
    found = model.descriptors(noisy, layers="pool3", sides=20)
    expected = [NaiveDescriptors(net).descriptor(path, "pool3", (20,)) for path in noisy]
    near(found["pool3"], np.array(expected))
    with pytest.raises(InputError, match="Q 7 gives no value of pool3, which needs images of 8 "):
        model.descriptors(noisy, layers="pool3", sides=7)


def test_the_default_scale_is_the_papers_rule(model):
    plan = DescriptorPlan.of(model.runtime)
    assert plan.sides == (48,) and plan.layers == ("relu7",)  # the middle of S in [32;64]


def test_no_images_are_refused(model):
    with pytest.raises(InputError, match="no images to describe; give at least one"):
        model.descriptors([])


class Noting:
    """A runtime that notes how many images it was called with."""

    def __init__(self, runtime, spoil=None):
        self.runtime, self.spoil, self.calls = runtime, spoil, []
        self.spec, self.where, self.outputs = runtime.spec, runtime.where, runtime.outputs
        self.artifact = None

    def run(self, images, outputs):
        self.calls.append(len(images))
        found = self.runtime.run(images, outputs)
        if self.spoil is not None:
            found["relu7"][0, 5, 0, 0] = self.spoil
        return found


def test_the_maps_of_a_call_are_bounded(model, monkeypatch):
    """At Q 64 conv1_1 of the thin net takes 4 x 64 x 64 float32 per image."""
    images = {64: np.random.default_rng(0).integers(0, 256, (5, 3, 64, 64), np.uint8)}
    plan = DescriptorPlan.of(model.runtime, "conv1_1", 64, flips=False)
    whole = described(Noting(model.runtime), images, plan)
    for most, calls in ((2 * 4 * 4 * 64 * 64, [2, 2, 1]), (1, [1] * 5)):
        monkeypatch.setattr(module, "MOST_MAP_BYTES", most)
        noting = Noting(model.runtime)
        near(described(noting, images, plan)["conv1_1"], whole["conv1_1"])
        assert noting.calls == calls


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_no_descriptor(value, model):
    images = {32: np.zeros((2, 3, 32, 32), np.uint8)}
    plan = DescriptorPlan.of(model.runtime, sides=32)
    with pytest.raises(CheckFailed, match="gives values of relu7 that are not finite; use a pre"):
        described(Noting(model.runtime, value), images, plan)


def test_unreadable_images_keep_their_place(model):
    bad, grey = UnreadableImage("x.jpg: damaged"), np.full((3, 32, 32), 9, np.uint8)
    plan = DescriptorPlan.of(model.runtime, sides=32)
    first, second, third = descriptors(model.runtime, [{32: grey}, bad, {32: grey}], plan)
    assert second is bad
    np.testing.assert_array_equal(first["relu7"], third["relu7"])
