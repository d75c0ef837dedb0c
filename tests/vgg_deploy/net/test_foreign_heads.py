"""Heads of other projects: what is fc6, fc7, fc8 and a softmax is read, all else refused in words.

The nets are torchvision's own layers around a thin trunk.
"""

import math
import shutil

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from export.cli import main as vgg_export
from tests.support.foreign import caffe_arrays, randomise, thin_cfg, torchvision_net
from tests.support.nets import save_net, thin_net
from tests.support.run import run
from train.first_weights import weights_of
from vgg_deploy.errors import InputError
from vgg_deploy.net.foreign_weights import read_foreign
from vgg_deploy.net.input_convention import StatedInput
from vgg_deploy.net.open_net import is_own, open_net
from vgg_deploy.net.unstated import Unstated

C = 32  # channels of conv5


def net_with(classifier: nn.Module, pool: int = 7, batch_norm: bool = False) -> nn.Module:
    """torchvision's VGG-11 with a pool of `pool` x `pool` and another classifier."""
    features = torchvision.models.vgg.make_layers(thin_cfg("A"), batch_norm)
    with torch.device("meta"):
        net = torchvision.models.VGG(features, init_weights=False)
    net.avgpool = nn.AdaptiveAvgPool2d(pool)
    net.classifier = classifier
    return randomise(net, seed=3)


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers as torchvision has them: with ReLU and dropout between, at 0, 3, 6 ..."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout()]
    return nn.Sequential(*layers[:-2])


HEADS = {
    "one linear layer": (nn.Linear(C * 49, 10), "classifier (1568 -> 10)"),
    "one in a Sequential": (nn.Sequential(nn.Linear(C * 49, 10)), "classifier.0 (1568 -> 10)"),
    "two layers": (mlp(C * 49, 256, 10), "classifier.0 (1568 -> 256), classifier.3 (256 -> 10)"),
    "four layers": (mlp(C * 49, 256, 256, 64, 10), "classifier.9 (64 -> 10)"),
    "without dropout": (
        nn.Sequential(
            nn.Linear(C * 49, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
        ),
        "classifier.2 (256 -> 256)",
    ),
    "Sequential as the last": (
        nn.Sequential(
            *mlp(C * 49, 256, 256, 10)[:6],
            nn.Sequential(nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10)),
        ),
        "classifier.6.0 (256 -> 64), classifier.6.2 (64 -> 10)",
    ),
    "batch norm between": (
        nn.Sequential(nn.Linear(C * 49, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 10)),
        "classifier.0 (1568 -> 256), classifier.1",
    ),
    "dropout first": (
        nn.Sequential(nn.Dropout(), *mlp(C * 49, 256, 256, 10)),
        "classifier.1 (1568 -> 256), classifier.4 (256 -> 256), classifier.7 (256 -> 10)",
    ),
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_other_heads_are_named_with_what_is_wanted(tmp_path, name, batch_norm):
    classifier, found = HEADS[name]
    path = tmp_path / "net.pth"
    torch.save(net_with(classifier, batch_norm=batch_norm).state_dict(), path)
    with pytest.raises(InputError) as caught:
        read_foreign(path)
    message = caught.value.message
    assert message.startswith(f"{path}: is net A with another head: ") and found in message
    assert "fc6, fc7 and fc8, with ReLU after the first two and a softmax after the last" in message
    assert "save its convolutions alone and train a head on them" in message


def test_only_the_last_layer_of_a_head(tmp_path):
    state = torchvision_net("A", batch_norm=False).state_dict()
    for name in ("classifier.0", "classifier.3"):
        del state[f"{name}.weight"], state[f"{name}.bias"]
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(InputError, match="is net A with another head: classifier.6 "):
        read_foreign(tmp_path / "net.pth")


def test_a_surplus_layer_of_a_caffe_head(tmp_path):
    more = {"fc9_W": np.ones((3, 7), np.float32), "fc9_b": np.ones(3, np.float32)}
    np.savez(tmp_path / "net.npz", **caffe_arrays("A"), **more)
    with pytest.raises(InputError, match=r"is net A with another head: .*fc9 \(7 -> 3\)"):
        read_foreign(tmp_path / "net.npz")


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_head_after_global_average_pooling(tmp_path, batch_norm):
    """Its arithmetic is another: torchvision's own forward and the dense one differ."""
    net = net_with(mlp(C, 256, 256, 10), pool=1, batch_norm=batch_norm)
    path = tmp_path / "gap.pth"
    torch.save(net.state_dict(), path)
    with pytest.raises(Unstated) as caught:
        open_net(path)
    assert caught.value.about == "crop" and "--" not in caught.value.message
    assert "a head after global average pooling, which is no fc6, or a net trained at crop 32" in (
        caught.value.message
    )
    output = run(vgg_export, path, "--onnx", "--out", tmp_path / "out", code=2)
    assert output.endswith("if the net was trained at crop 32, add --crop 32")
    assert not (tmp_path / "out").exists()


def test_a_net_that_was_trained_at_crop_32(tmp_path):
    """The user or the file's metadata state it. Oracle: torchvision at 32, where pool5 is 1x1."""
    net = net_with(mlp(C, 256, 256, 10), pool=1)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    ours = open_net(tmp_path / "net.pth", stated=StatedInput(crop=32))
    assert ours.spec.crop == 32
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    usual = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    mean = torch.tensor(ours.spec.preprocessing.mean).view(1, 3, 1, 1)
    with torch.inference_mode():
        expected = net(usual(images / 255))
        torch.testing.assert_close(ours(images - mean).flatten(1), expected, rtol=1e-4, atol=1e-4)
    save_file(net.state_dict(), tmp_path / "net.safetensors", {"crop": "32"})
    assert open_net(tmp_path / "net.safetensors").spec.crop == 32
    with pytest.raises(InputError, match="has fc6 for a crop of 224, not 32"):
        torch.save(torchvision_net("A", False).state_dict(), tmp_path / "seven.pth")
        open_net(tmp_path / "seven.pth", stated=StatedInput(crop=32))


def test_caffes_layers_at_crop_32_need_no_statement(tmp_path):
    """fc6 is a layer of its own name there, not what follows torchvision's pool."""
    np.savez(tmp_path / "net.npz", **caffe_arrays("A", crop=32))
    assert open_net(tmp_path / "net.npz").spec.crop == 32


@pytest.mark.parametrize("suffix", [".pth", ".npz"])
def test_one_output_is_no_softmax(tmp_path, suffix):
    path = tmp_path / f"net{suffix}"
    if suffix == ".pth":
        torch.save(net_with(mlp(C * 49, 256, 256, 1)).state_dict(), path)
    else:
        arrays = caffe_arrays("A", crop=32)
        arrays |= {"fc8_W": arrays["fc8_W"][:1], "fc8_b": arrays["fc8_b"][:1]}
        np.savez(path, **arrays)
    output = run(vgg_export, path, "--onnx", "--out", tmp_path / "out", code=2)
    assert "its head has one output, for a sigmoid; a softmax over one output is 1" in output
    assert not (tmp_path / "out").exists()
    assert read_foreign(path).class_count == 1  # its layers may still start a training


def test_the_hint_for_one_output_is_right():
    """The softmax of (0, s) is (1 - sigmoid(s), sigmoid(s))."""
    for score in (-3.0, 0.0, 1.7):
        posterior = torch.softmax(torch.tensor([0.0, score]), 0)[1].item()
        assert math.isclose(posterior, 1 / (1 + math.exp(-score)), rel_tol=1e-6)


def test_other_hidden_widths_are_named(tmp_path):
    torch.save(net_with(mlp(C * 49, 100, 64, 10)).state_dict(), tmp_path / "net.pth")
    with pytest.raises(InputError) as caught:
        read_foreign(tmp_path / "net.pth")
    assert "its hidden layers have 100 and 64 outputs, a net of width 0.0625 has 256 in both" in (
        caught.value.message
    )


def test_assumptions_about_a_head_are_reported(tmp_path):
    torch.save(net_with(mlp(C * 49, 256, 256, 10)).state_dict(), tmp_path / "net.pth")
    lines = read_foreign(tmp_path / "net.pth").assumed.lines("net.pth", "state another")
    assert lines[0] == (
        "net.pth: input RGB, (x/255 - mean)/std with mean 0.485, 0.456, 0.406 and std 0.229, "
        "0.224, 0.225 (R, G, B of 0-1) (that of torchvision; state another)"
    )
    assert "ReLU between fc6, fc7, fc8 and a softmax are assumed" in lines[1]


# Files that are no state dicts


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".tar"])
def test_a_checkpoint_is_one_under_every_suffix(tmp_path, suffix):
    checkpoint = save_net(thin_net("A"), tmp_path / "A.pt")
    path = tmp_path / f"copy{suffix}"
    if path != checkpoint:
        shutil.copy(checkpoint, path)
    assert is_own(path)
    assert open_net(path).spec == weights_spec(checkpoint)
    assert weights_of(path).assumed is None


def weights_spec(path):
    return open_net(path).spec


class Whole(nn.Module):
    """A net of the user's own class."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x):
        return self.layer(x)


def test_a_whole_pickled_model(tmp_path):
    path = tmp_path / "whole.pth"
    for old in (True, False):
        torch.save(Whole(), path, _use_new_zipfile_serialization=not old)
        for read in (open_net, read_foreign, weights_of):
            with pytest.raises(InputError) as caught:
                read(path)
            assert "no code of a file is run" in (caught.value.message)
            assert 'torch.save(net.state_dict(), "weights.pth")' in caught.value.message


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_a_torchscript_program(tmp_path):
    path = tmp_path / "program.pt"
    torch.jit.save(torch.jit.trace(Whole(), torch.ones(1, 2)), path)
    for read in (open_net, read_foreign, weights_of):
        with pytest.raises(InputError, match="it is a TorchScript program; where you trust"):
            read(path)
