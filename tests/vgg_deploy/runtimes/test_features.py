"""Every layer of every net by the paper's name, against a plain functional forward."""

import numpy as np
import pytest

from tests.support.layer_oracle import plain_forward
from tests.support.nets import save_net, thin_net
from vgg_deploy.errors import InputError
from vgg_deploy.net.archs import ARCHS
from vgg_deploy.predict.model import load
from vgg_deploy.runtimes.features import layers_of
from vgg_deploy.runtimes.pytorch import TorchRuntime


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(3).integers(0, 256, (2, 3, 71, 96), np.uint8)


@pytest.mark.parametrize("arch", ARCHS)
def test_every_layer_of_every_net_is_what_its_name_says(arch, images, tmp_path):
    net = thin_net(arch, seed=5)
    expected = plain_forward(net, images)
    model = load(save_net(net, tmp_path / "net.pt"), threads=1)
    assert layers_of(model.runtime) == tuple(expected)
    found = model.features(images, list(expected))
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == np.float32 and found[name].shape == values.shape, name
        np.testing.assert_allclose(found[name], values, rtol=0, atol=2e-6 * np.abs(values).max())
        alone = model.features(images, (name,))[name]  # the net stops there
        np.testing.assert_array_equal(alone, found[name])


def test_features_of_fc8_are_the_score_map(images, tmp_path):
    model = load(save_net(thin_net("D"), tmp_path / "net.pt"), threads=1)
    found = model.features(images, "fc8")["fc8"]
    np.testing.assert_array_equal(found, model.scores(images).score_map)


def test_a_convolution_is_before_its_relu(images, tmp_path):
    """What hooks on an in-place ReLU get wrong: see the module."""
    model = load(save_net(thin_net("D"), tmp_path / "net.pt"), threads=1)
    assert list(model.features(images)) == ["pool5", "relu7"]
    found = model.features(images, ["conv5_3", "relu5_3", "fc7"])
    assert list(found) == ["conv5_3", "relu5_3", "fc7"]
    assert found["conv5_3"].min() < 0 and found["fc7"].min() < 0
    np.testing.assert_array_equal(found["relu5_3"], np.maximum(found["conv5_3"], 0))


def test_half_precision_gives_float32(images, tmp_path):
    path = save_net(thin_net("D"), tmp_path / "net.pt")
    exact = load(path, threads=1).features(images, ("relu3_3",))["relu3_3"]
    half = load(path, threads=1, precision="bf16").features(images, ("relu3_3",))["relu3_3"]
    assert half.dtype == np.float32 and 0 < np.abs(half - exact).max() < 0.1 * exact.max()


def test_unknown_layers_and_files_without_layers_are_refused(images, tmp_path):
    model = load(save_net(thin_net("A"), tmp_path / "net.pt"), threads=1)
    assert isinstance(model.runtime, TorchRuntime)
    with pytest.raises(InputError, match=r"net A has no layer 'conv5_3'; choose from conv1_1, "):
        model.features(images, ("conv5_3",))
    with pytest.raises(InputError, match="no layer is named"):
        model.features(images, ())
    with pytest.raises(InputError, match="images are float32; give uint8 RGB"):
        model.features(images.astype(np.float32), ("pool5",))
