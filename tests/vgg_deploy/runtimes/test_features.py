"""Every layer of every net by the paper's name, against a plain functional forward."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.support.nets import save_net, thin_net
from vgg_deploy.errors import InputError
from vgg_deploy.net.archs import ARCHS
from vgg_deploy.predict.model import load
from vgg_deploy.runtimes.features import layers_of
from vgg_deploy.runtimes.pytorch import TorchRuntime


def plain_forward(net, images) -> dict[str, np.ndarray]:
    """Outputs of all layers in float64, by their names: Table 1 written as functions."""
    state = {name: tensor.double() for name, tensor in net.state_dict().items()}
    mean = torch.tensor(net.spec.preprocessing.mean, dtype=torch.float64).view(1, 3, 1, 1)
    x = torch.from_numpy(images).double() - mean
    found = {}
    for s, kernels in enumerate(ARCHS[net.spec.arch].kernels, start=1):
        for i, kernel in enumerate(kernels, start=1):
            name = f"{s}_{i}"
            weight, bias = state[f"conv{name}.weight"], state[f"conv{name}.bias"]
            found[f"conv{name}"] = F.conv2d(x, weight, bias, padding=kernel // 2)
            found[f"relu{name}"] = x = found[f"conv{name}"].clamp(min=0)
            if net.spec.arch == "A-LRN" and name == "1_1":
                squares = F.pad(x**2, (0, 0, 0, 0, 2, 2))
                summed = sum(squares[:, c : c + x.shape[1]] for c in range(5))
                found["norm1"] = x = x / (2 + 1e-4 * summed) ** 0.75
        found[f"pool{s}"] = x = F.max_pool2d(x, 2)
    for n in (6, 7, 8):
        found[f"fc{n}"] = x = F.conv2d(x, state[f"fc{n}.weight"], state[f"fc{n}.bias"])
        if n < 8:
            found[f"relu{n}"] = x = x.clamp(min=0)
    return {name: values.numpy() for name, values in found.items()}


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
