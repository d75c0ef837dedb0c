"""The nets against the numbers known of them, against NumPy, and against each other."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vgg_deploy.net.archs import ARCHS, macs, map_side, parameters
from vgg_deploy.net.model import (
    FROM_A,
    INITS,
    INPUT_STD,
    VGG,
    initialise,
    posterior,
    start_from_a,
    subtract_mean,
)
from vgg_deploy.net.spec import NetSpec, Preprocessing, numbered

THIN = 1 / 16


def spec(arch: str, width: float = THIN, classes: int = 5, **other) -> NetSpec:
    return NetSpec(arch, numbered(classes), width=width, **other)


@torch.no_grad()
def lively(net: VGG, seed: int = 0) -> VGG:
    """Convert to float64, with weights that keep signals alive, and biases that show."""
    draw = torch.Generator().manual_seed(seed)
    initialise(net, "he", draw)
    for name, parameter in net.named_parameters():
        if name.endswith(".bias"):
            parameter.normal_(0, 0.3, generator=draw)
    return net.double().eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Noise as large as images minus their mean."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=draw, dtype=torch.float64) * 60


# Sizes


SIZES = {  # arch: (Table 2 in millions, parameters, multiply-accumulates at 224 x 224)
    "A": (133, 132_863_336, 7_609_090_048),
    "A-LRN": (133, 132_863_336, 7_609_090_048),
    "B": (133, 133_047_848, 11_308_466_176),
    "C": (134, 133_638_952, 11_770_888_192),
    "D": (138, 138_357_544, 15_470_264_320),
    "E": (144, 143_667_240, 19_632_062_464),
}


@pytest.mark.parametrize("arch", ARCHS)
def test_sizes_are_the_published_ones(arch):
    """Sizes of the table, and of the module built from it.

    torchvision documents the totals of A, B, D and E as well.
    """
    millions, total, cost = SIZES[arch]
    assert round(total / 1e6) == millions
    assert parameters(ARCHS[arch]) == total
    assert macs(ARCHS[arch], 224, 224) == cost
    with torch.device("meta"):
        net = VGG(spec(arch, width=1, classes=1000))
    assert sum(p.numel() for p in net.parameters()) == total


@pytest.mark.parametrize(
    ("arch", "weights", "biases"),
    [
        ("A", 9_217_728, 2_752),
        ("B", 9_402_048, 2_944),
        ("C", 9_991_872, 4_224),
        ("D", 14_710_464, 4_224),
        ("E", 20_018_880, 5_504),
    ],
)
def test_sizes_of_trunk_and_head(arch, weights, biases):
    with torch.device("meta"):
        net = VGG(spec(arch, width=1, classes=1000))
    by_kind = {
        kind: sum(p.numel() for name, p in net.trunk.named_parameters() if name.endswith(kind))
        for kind in ("weight", "bias")
    }
    assert by_kind == {"weight": weights, "bias": biases}
    assert sum(p.numel() for p in net.head.parameters()) == 123_633_664 + 9_192


@pytest.mark.parametrize(
    ("side", "score_side", "gmacs"),
    [
        (224, 1, {"A": 7.609, "D": 15.470, "E": 19.632}),
        (256, 2, {"A": 10.271, "D": 20.539, "E": 25.975}),
        (288, 3, {"A": 13.487, "D": 26.482, "E": 33.361}),
        (352, 5, {"A": 21.575, "D": 40.988, "E": 51.265}),
        (384, 6, {"A": 26.449, "D": 49.551, "E": 61.782}),
        (416, 7, {"A": 31.875, "D": 58.988, "E": 73.342}),
        (480, 9, {"A": 44.386, "D": 80.484, "E": 99.594}),
        (512, 10, {"A": 51.471, "D": 92.542, "E": 114.285}),
        (640, 14, {"A": 85.338, "D": 149.511, "E": 183.485}),
        (768, 18, {"A": 128.050, "D": 220.459, "E": 269.381}),
    ],
)
def test_cost_of_dense_evaluation(side, score_side, gmacs):
    assert map_side(side) == score_side
    assert {arch: round(macs(ARCHS[arch], side, side) / 1e9, 3) for arch in gmacs} == gmacs


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(
    ("height", "width", "crop"), [(224, 224, 224), (375, 500, 224), (255, 287, 224), (100, 67, 64)]
)
def test_cost_and_map_are_those_of_the_module(arch, height, width, crop):
    """Oracle: torch's own counter, with two operations per multiply-accumulate."""
    with torch.device("meta"):
        net = VGG(spec(arch, width=0.25, crop=crop)).eval()
        images = torch.empty(1, 3, height, width)
    with FlopCounterMode(display=False) as counter:
        score_map = net(images)
    assert counter.get_total_flops() == 2 * macs(
        ARCHS[arch], height, width, classes=5, width=0.25, crop=crop
    )
    assert score_map.shape == (1, 5, map_side(height, crop), map_side(width, crop))
    assert sum(p.numel() for p in net.parameters()) == parameters(ARCHS[arch], 5, 0.25, crop)


def test_map_side_is_five_floors():
    for side in range(224, 800):
        halved = side
        for _ in range(5):
            halved //= 2
        assert map_side(side) == halved - 6


# What the nets compute


def test_order_of_layers():
    names = [name for name, _ in VGG(spec("A-LRN")).named_children()]
    assert " ".join(names) == (
        "conv1_1 relu1_1 norm1 pool1 conv2_1 relu2_1 pool2 "
        "conv3_1 relu3_1 conv3_2 relu3_2 pool3 conv4_1 relu4_1 conv4_2 relu4_2 pool4 "
        "conv5_1 relu5_1 conv5_2 relu5_2 pool5 fc6 relu6 drop6 fc7 relu7 drop7 fc8"
    )


def matrices(net: VGG) -> list[tuple[np.ndarray, np.ndarray]]:
    """fc6, fc7, fc8 as (outputs, inputs) matrices and biases."""
    layers = [net.get_submodule(name) for name in ("fc6", "fc7", "fc8")]
    return [(fc.weight.detach().flatten(1).numpy(), fc.bias.detach().numpy()) for fc in layers]


def fully_connected(net: VGG, pool5: np.ndarray) -> np.ndarray:
    """(C, side, side) -> (classes,): matrix products, without a convolution."""
    (w6, b6), (w7, b7), (w8, b8) = matrices(net)
    fc6 = np.maximum(w6 @ pool5.ravel() + b6, 0)  # channels, rows, columns
    return w8 @ np.maximum(w7 @ fc6 + b7, 0) + b8


@pytest.mark.parametrize("crop", [224, 96])
@torch.inference_mode()
def test_a_crop_scores_as_in_the_fully_connected_net(crop):
    """Oracle: the trunk written out with torch's functions, then matrix products."""
    net = lively(VGG(spec("D", crop=crop)))
    images = noise(2, 3, crop, crop)
    x = images
    for stage in ARCHS["D"].stages(THIN):
        for conv in stage:
            layer = net.get_submodule(conv.name)
            x = F.conv2d(x, layer.weight, layer.bias, padding=1).clamp(min=0)
        x = F.max_pool2d(x, 2)
    expected = [fully_connected(net, pool5.numpy()) for pool5 in x]
    np.testing.assert_allclose(net(images)[:, :, 0, 0], expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("arch", "height", "width"), [("A", 256, 330), ("A-LRN", 225, 255), ("C", 320, 256)]
)
@torch.inference_mode()
def test_score_map_is_the_fully_connected_head_slid_over_pool5(arch, height, width):
    """Oracle: matrix products on each 7x7 window, in NumPy."""
    net = lively(VGG(spec(arch)))
    images = noise(1, 3, height, width)
    pool5 = net.trunk(images)[0].numpy()
    score_map = net(images)[0].numpy()
    assert score_map.shape == (5, height // 32 - 6, width // 32 - 6)
    for y, x in np.ndindex(score_map.shape[1:]):
        np.testing.assert_allclose(
            score_map[:, y, x], fully_connected(net, pool5[:, y : y + 7, x : x + 7]), rtol=1e-9
        )


@pytest.mark.parametrize("arch", ["C", "D", "E"])
@torch.inference_mode()
def test_deeper_nets_with_identities_equal_b(arch):
    """C, D and E are B with more convolutions, which here pass their input on.

    A ReLU after a ReLU changes nothing.
    """
    b, deeper = lively(VGG(spec("B"))), VGG(spec(arch)).double().eval()
    shared = b.state_dict()
    for name, module in deeper.named_children():
        if f"{name}.weight" in shared:
            module.load_state_dict({part: shared[f"{name}.{part}"] for part in ("weight", "bias")})
        elif name.startswith("conv"):
            nn.init.dirac_(module.weight)
            module.bias.zero_()
    images = noise(2, 3, 256, 224)
    torch.testing.assert_close(deeper(images), b(images), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("reading", "alpha"), [("alexnet", 1e-4), ("caffe", 1e-4 / 5)])
@torch.inference_mode()
def test_lrn_follows_its_formula(reading, alpha):
    """Oracle: NumPy, channel by channel.

    b_c = a_c / (2 + alpha * sum of a^2 over the five channels around c) ** 0.75
    """
    net = VGG(spec("A-LRN", lrn=reading)).eval()
    a = np.random.default_rng(0).random((2, 9, 4, 3)) * 300
    expected = np.empty_like(a)
    for c in range(9):
        squares = (a[:, max(0, c - 2) : c + 3] ** 2).sum(axis=1)
        expected[:, c] = a[:, c] / (2 + alpha * squares) ** 0.75
    np.testing.assert_allclose(net.norm1(torch.from_numpy(a)), expected, rtol=1e-9)


@torch.inference_mode()
def test_posterior_averages_logits_before_the_softmax():
    logits = np.random.default_rng(0).normal(0, 3, (2, 5, 3, 4))
    powers = np.exp(logits.mean(axis=(2, 3)))
    np.testing.assert_allclose(
        posterior(torch.from_numpy(logits)), powers / powers.sum(axis=1, keepdims=True), rtol=1e-9
    )


def test_the_mean_is_subtracted_channel_by_channel():
    """Oracle: NumPy."""
    preprocessing = Preprocessing(mean=(1.5, 20.25, 100.0))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5), dtype=np.uint8)
    expected = pixels.astype(np.float32) - np.array([1.5, 20.25, 100.0]).reshape(1, 3, 1, 1)
    images = subtract_mean(torch.from_numpy(pixels), preprocessing)
    assert images.dtype == torch.float32
    np.testing.assert_array_equal(images, expected)


def test_convolutions_are_named_in_running_order():
    net = VGG(spec("B"))
    names = [conv.name for conv in ARCHS["B"].trunk()] + ["fc6", "fc7", "fc8"]
    assert list(net.convolutions()) == names
    assert net.convolution("conv2_1") is net.conv2_1
    with pytest.raises(TypeError, match="relu2_1 is a ReLU"):
        net.convolution("relu2_1")


@torch.inference_mode()
def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    net = lively(VGG(spec("A", crop=32)))
    images = noise(1, 3, 32, 32)
    without = VGG(spec("A", crop=32), dropout=0.0).double()
    without.load_state_dict(net.state_dict())
    assert torch.equal(net(images), net(images))
    assert torch.equal(net(images), without.train()(images))
    net.train()
    assert not torch.equal(net(images), net(images))
    ones = torch.ones(20_000)
    for name in ("drop6", "drop7"):
        dropped = net.get_submodule(name)(ones)
        assert set(dropped.unique().tolist()) == {0.0, 2.0}
        assert dropped.mean() == pytest.approx(1, abs=0.05)


def test_trunk_and_head_share_the_weights():
    net = VGG(spec("B"))
    parts = dict(net.trunk.named_parameters()) | dict(net.head.named_parameters())
    assert parts.keys() == dict(net.named_parameters()).keys()
    assert all(parts[name] is parameter for name, parameter in net.named_parameters())


# Where training starts


@pytest.mark.parametrize("init", INITS)
def test_initialisations_draw_what_they_promise(init):
    """Standard deviations by the formulas of their papers; biases zero.

    Glorot's and He's assume inputs of unit variance. Here each of C's 16 layers contributes its
    share of the correction for pixels.
    """
    share = INPUT_STD ** (-1 / 16)
    net = VGG(spec("C", width=0.25, crop=64))
    initialise(net, init, torch.Generator().manual_seed(0))
    for name, layer in net.named_children():
        if not isinstance(layer, nn.Conv2d):
            continue
        outputs, inputs, height, width = layer.weight.shape
        fan_in, fan_out = inputs * height * width, outputs * height * width
        wider = 1 if name == "conv1_1" else 2  # a quarter of the channels
        std = {
            "paper-std": 0.01 * wider,
            "paper-var": 0.1 * wider,
            "glorot": share * math.sqrt(2 / (fan_in + fan_out)),
            "he": share * math.sqrt(2 / fan_in),
        }[init]
        count = layer.weight.numel()
        four_standard_errors = 4 / math.sqrt(2 * count)
        assert layer.weight.std().item() == pytest.approx(std, rel=four_standard_errors), name
        assert abs(layer.weight.mean().item()) < 4 * std / math.sqrt(count), name
        assert not layer.bias.any()
        if init == "glorot":
            assert layer.weight.abs().max() <= share * math.sqrt(6 / (fan_in + fan_out))


@torch.inference_mode()
def test_he_keeps_pixels_from_inflating_the_logits():
    """Inputs with a standard deviation of INPUT_STD should give logits of order one."""
    net = VGG(spec("D", width=0.25, classes=100, crop=32))
    initialise(net, "he", torch.Generator().manual_seed(0))
    draw = torch.Generator().manual_seed(1)
    logits = net.eval()(INPUT_STD * torch.randn(8, 3, 32, 32, generator=draw))
    assert 0.1 < logits.std() < 10


def test_initialisation_repeats_and_unknown_ones_are_refused():
    first, second = VGG(spec("A")), VGG(spec("A"))
    for net in (first, second):
        initialise(net, "he", torch.Generator().manual_seed(3))
    assert all(
        torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True)
    )
    with pytest.raises(ValueError, match="'xavier' is not one of"):
        initialise(first, "xavier")


@pytest.mark.parametrize("arch", ["B", "C", "D", "E"])
def test_deeper_nets_start_from_just_these_layers_of_a(arch):
    net, before, net_a = VGG(spec(arch)), VGG(spec(arch)), lively(VGG(spec("A"))).float()
    before.load_state_dict(net.state_dict())
    start_from_a(net, net_a)
    copied = {"conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8"}
    assert set(FROM_A) == copied
    for name, parameter in net.named_parameters():
        source = net_a if name.split(".")[0] in copied else before
        assert torch.equal(parameter, source.get_parameter(name)), name
        assert parameter.data_ptr() != source.get_parameter(name).data_ptr()
