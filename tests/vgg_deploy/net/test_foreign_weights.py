"""Foreign weights against the nets they come from.

Oracles are torchvision's and timm's own models, and Caffe's arithmetic written out. Nets are a
sixteenth as wide as the paper's where width does not matter. They are compared in double precision,
so that only the rounding of our float32 weights remains as a difference.
"""

import math
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.support.foreign import (
    CLASSES,
    HIDDEN,
    assert_same,
    caffe_arrays,
    caffe_scores,
    our_net,
    our_trunk,
    photos,
    randomise,
    thin_cfg,
    torchvision_net,
)
from vgg_deploy.errors import InputError
from vgg_deploy.net.checkpoint import Checkpoint, save_checkpoint
from vgg_deploy.net.foreign_weights import Foreign, read_foreign
from vgg_deploy.net.model import VGG
from vgg_deploy.net.spec import NetSpec, numbered


def centred(images: Tensor, foreign: Foreign) -> Tensor:
    return images - torch.tensor(foreign.preprocessing.mean, dtype=torch.float64).view(1, 3, 1, 1)


def normalised(images: Tensor) -> Tensor:
    """What torchvision's and timm's nets were trained on."""
    mean, std = torch.tensor(
        [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], dtype=torch.float64
    ).view(2, 1, 3, 1, 1)
    return (images / 255 - mean) / std


def read_state(state: dict, path: Path, arch: str | None = None) -> Foreign:
    torch.save(state, path)
    return read_foreign(path, arch)


# torchvision


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("arch", "ABDE")
@torch.inference_mode()
@pytest.mark.slow
def test_torchvision_net_scores_the_same(tmp_path, arch, batch_norm):
    """Oracle: torchvision's net; beyond 224 its classifier on every 7x7 window of its pool5."""
    net = torchvision_net(arch, batch_norm)
    foreign = read_state(net.state_dict(), tmp_path / "net.pth")
    assert (foreign.arch, foreign.width, foreign.crop, foreign.class_count) == (
        arch,
        1 / 16,
        224,
        CLASSES,
    )
    assert foreign.layout == ("torchvision bn" if batch_norm else "torchvision")
    assert foreign.preprocessing.mean == pytest.approx((123.675, 116.28, 103.53))
    ours = our_net(foreign)
    net.double()
    crops = photos(224, 224)
    assert_same(ours(centred(crops, foreign)).flatten(1), net(normalised(crops)))
    for side in ((256, 256), (320, 256)):
        images = photos(*side)
        pool5 = net.features(normalised(images))
        rows = [
            torch.stack(
                [
                    net.classifier(pool5[:, :, y : y + 7, x : x + 7].flatten(1))
                    for x in range(pool5.shape[3] - 6)
                ],
                dim=-1,
            )
            for y in range(pool5.shape[2] - 6)
        ]
        assert_same(ours(centred(images, foreign)), torch.stack(rows, dim=-2))


@pytest.mark.nightly
@torch.inference_mode()
@pytest.mark.slow
def test_full_vgg16(tmp_path):
    """At full width and in single precision. Oracle: torchvision's own vgg16."""
    torch.manual_seed(0)
    net = torchvision.models.vgg16(weights=None).eval()
    path = tmp_path / "vgg16.pth"
    foreign = read_state(net.state_dict(), path)
    path.unlink()  # half a gigabyte; the tensors keep what they map
    assert (foreign.arch, foreign.width, foreign.crop, foreign.class_count) == ("D", 1.0, 224, 1000)
    spec = NetSpec("D", numbered(1000))
    with torch.device("meta"):
        ours = VGG(spec)
    ours.load_state_dict(foreign.weights, assign=True)
    crop = photos(224, 224, count=1)
    theirs = net(normalised(crop).float())
    assert theirs.std() > 1e-3
    scores = ours.eval()(centred(crop, foreign).float()).flatten(1)
    assert (scores - theirs).abs().max() <= 2e-5 * theirs.abs().max()


@torch.inference_mode()
def test_scale_folding_is_exact_along_the_border(tmp_path):
    """White images are far from the mean.

    A mean folded into the bias would show where zeros are padded.
    """
    net = torchvision_net("A", batch_norm=False)
    foreign = read_state(net.state_dict(), tmp_path / "net.pth")
    white = torch.full((1, 3, 32, 32), 255, dtype=torch.float64)
    theirs = net.double().features[0](normalised(white))
    conv1_1 = (foreign.weights["conv1_1.weight"].double(), foreign.weights["conv1_1.bias"].double())
    ours = F.conv2d(centred(white, foreign), *conv1_1, padding=1)
    assert (
        theirs[..., 0, 0] - theirs[..., 1, 1]
    ).abs().max() > 0.5  # the border does differ from the inside
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@torch.inference_mode()
def test_classifier_full_of_nan_is_a_trunk_with_means_of_its_own(tmp_path):
    """torchvision's IMAGENET1K_FEATURES. Oracle: its features on (x / 255 - mean) / (1 / 255)."""
    net = torchvision_net("D", batch_norm=False)
    for p in net.classifier.parameters():
        p.fill_(math.nan)
    foreign = read_state(net.state_dict(), tmp_path / "features.pth")
    assert (foreign.arch, foreign.crop, foreign.class_count, foreign.layout) == (
        "D",
        None,
        None,
        "torchvision features",
    )
    images = photos(64, 96)
    mean = torch.tensor([0.48235, 0.45882, 0.40784], dtype=torch.float64).view(1, 3, 1, 1)
    assert_same(
        our_trunk(foreign)(centred(images, foreign)),
        net.double().features((images / 255 - mean) / (1 / 255)),
    )


def test_trunk_alone(tmp_path):
    state = {
        name: t
        for name, t in torchvision_net("E", batch_norm=True).state_dict().items()
        if name.startswith("features.")
    }
    foreign = read_state(state, tmp_path / "trunk.pt")
    assert (
        foreign.arch,
        foreign.width,
        foreign.crop,
        foreign.class_count,
        len(foreign.weights),
    ) == ("E", 1 / 16, None, None, 32)


def test_a_lrn_must_be_asked_for(tmp_path):
    state = torchvision_net("A", batch_norm=False).state_dict()
    plain, normalising = (
        read_state(state, tmp_path / "a.pth"),
        read_state(state, tmp_path / "a.pth", arch="A-LRN"),
    )
    assert (plain.arch, normalising.arch) == ("A", "A-LRN")
    assert all(
        torch.equal(plain.weights[name], normalising.weights[name]) for name in plain.weights
    )


@pytest.mark.slow
def test_files_of_old_torch_and_other_precisions(tmp_path):
    """The first VGG files of torchvision are no zip archives; all precisions become float32."""
    state = torchvision_net("A", batch_norm=True).state_dict()
    new = read_state(state, tmp_path / "new.pth").weights
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(tmp_path / "old.pth")
    half = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    double = {
        name: t.double() for name, t in state.items() if t.is_floating_point()
    }  # and without batch counters
    strided = {
        name: t.repeat_interleave(2, dim=0)[::2] if t.ndim else t for name, t in state.items()
    }
    save_file({name: t.clone() for name, t in state.items()}, tmp_path / "net.safetensors")
    for weights, tolerance in (
        (read_foreign(tmp_path / "old.pth").weights, 0),
        (read_foreign(tmp_path / "net.safetensors").weights, 0),
        (read_state(double, tmp_path / "double.pt").weights, 0),
        (read_state(strided, tmp_path / "strided.pt").weights, 0),
        (read_state(half, tmp_path / "half.pt").weights, 1e-2),
    ):
        for name, tensor in new.items():
            assert weights[name].dtype == torch.float32 and weights[name].is_contiguous()
            torch.testing.assert_close(
                weights[name], tensor, rtol=tolerance, atol=tolerance * tensor.abs().max().item()
            )


# timm


@pytest.mark.parametrize(
    ("arch", "batch_norm"), [("A", False), ("B", True), ("D", False), ("E", True)]
)
@torch.inference_mode()
@pytest.mark.slow
def test_timm_net_scores_the_same(tmp_path, arch, batch_norm):
    """Oracle: timm's net, whose scores are the mean of our score map.

    It averages positions before its last layer.
    """
    timm_vgg = pytest.importorskip("timm.models.vgg")
    from timm.layers import ClassifierHead

    with torch.device("meta"):
        net = timm_vgg.VGG(thin_cfg(arch), norm_layer=nn.BatchNorm2d if batch_norm else None)
    net.features.to_empty(device="cpu")
    for module in net.features.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    net.pre_logits = timm_vgg.ConvMlp(32, HIDDEN, 7)
    net.head = ClassifierHead(HIDDEN, CLASSES, pool_type="avg")
    randomise(net, seed=1)
    path = tmp_path / "model.safetensors"
    save_file(net.state_dict(), path, {"format": "pt"})
    foreign = read_foreign(path)
    assert (foreign.arch, foreign.width, foreign.crop, foreign.class_count) == (
        arch,
        1 / 16,
        224,
        CLASSES,
    )
    assert foreign.layout == ("timm bn" if batch_norm else "timm")
    ours = our_net(foreign)
    net.double()
    for side in ((224, 224), (256, 320), (300, 231)):
        images = photos(*side)
        assert_same(ours(centred(images, foreign)).mean(dim=(2, 3)), net(normalised(images)))


# Caffe


CAFFE_MEAN = (103.939, 116.779, 123.68)  # B, G, R


def test_caffe_oracle_minds_the_channel_order():
    arrays, crops = caffe_arrays("A"), photos(224, 224)
    bgr, rgb = (caffe_scores(arrays, crops, order, CAFFE_MEAN) for order in ([2, 1, 0], [0, 1, 2]))
    assert (bgr - rgb).abs().max() > 0.05 * bgr.abs().max()


@pytest.mark.parametrize("arch", "ABCDE")
@torch.inference_mode()
@pytest.mark.slow
def test_caffe_net_scores_the_same(tmp_path, arch):
    """Oracle: the arrays at work on BGR images."""
    arrays = caffe_arrays(arch)
    np.savez(tmp_path / "net.npz", **arrays)
    foreign = read_foreign(tmp_path / "net.npz")
    assert (foreign.arch, foreign.width, foreign.crop, foreign.class_count, foreign.layout) == (
        arch,
        1 / 16,
        224,
        CLASSES,
        "caffe",
    )
    assert foreign.preprocessing.mean == (123.68, 116.779, 103.939)
    crops = photos(224, 224)
    theirs = caffe_scores(arrays, crops, [2, 1, 0], CAFFE_MEAN)
    assert_same(our_net(foreign)(centred(crops, foreign)).flatten(1), theirs)


def legacy(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every blob with four dimensions, as in Caffe files before 2015."""
    return {name: a.reshape((1,) * (4 - a.ndim) + a.shape) for name, a in arrays.items()}


def convolutional(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Layers fc6-fc8 are convolutions already, with torch's names and MATLAB's memory order."""
    shaped = dict(arrays)
    for name, side in (("fc6_W", 7), ("fc7_W", 1), ("fc8_W", 1)):
        shaped[name] = arrays[name].reshape(len(arrays[name]), -1, side, side)
    return {
        name.replace("_W", ".weight").replace("_b", ".bias"): np.asfortranarray(a)
        for name, a in shaped.items()
    }


@pytest.mark.parametrize("rewrite", [legacy, convolutional])
def test_other_caffe_shapes_hold_the_same_net(tmp_path, rewrite):
    arrays = caffe_arrays("B")
    np.savez(tmp_path / "plain.npz", **arrays)
    np.savez_compressed(tmp_path / "other.npz", **rewrite(arrays))
    plain, other = read_foreign(tmp_path / "plain.npz"), read_foreign(tmp_path / "other.npz")
    assert plain.weights.keys() == other.weights.keys() and plain.arch == other.arch
    assert all(
        torch.equal(plain.weights[name], other.weights[name])
        and other.weights[name].is_contiguous()
        for name in plain.weights
    )


@pytest.mark.parametrize(
    ("metadata", "channels", "mean"),
    [
        ({}, [2, 1, 0], CAFFE_MEAN),
        (
            {"input_range": "0-255", "channel_order": "BGR", "mean_bgr": "100,110.5,120"},
            [2, 1, 0],
            (100, 110.5, 120),
        ),
        (
            {"input_range": "0-255", "channel_order": "RGB", "mean_rgb": "120,110.5,100"},
            [0, 1, 2],
            (120, 110.5, 100),
        ),
        ({"channel_order": "RGB"}, [0, 1, 2], CAFFE_MEAN[::-1]),
    ],
)
@torch.inference_mode()
@pytest.mark.slow
def test_a_file_that_states_its_input_is_believed(tmp_path, metadata, channels, mean):
    arrays = caffe_arrays("A")
    save_file(
        {name: torch.from_numpy(a) for name, a in arrays.items()},
        tmp_path / "net.safetensors",
        metadata,
    )
    foreign = read_foreign(tmp_path / "net.safetensors")
    crops = photos(224, 224)
    assert_same(
        our_net(foreign)(centred(crops, foreign)).flatten(1),
        caffe_scores(arrays, crops, channels, mean),
    )


@torch.inference_mode()
def test_stated_range_replaces_the_scale_of_a_layout(tmp_path):
    """A Caffe net under torchvision's names keeps its input, if its metadata state it."""
    net = torchvision_net("A", batch_norm=False)
    stated = {"input_range": "0-255", "channel_order": "BGR", "mean_bgr": "103.939,116.779,123.68"}
    save_file(net.state_dict(), tmp_path / "net.safetensors", stated)
    foreign = read_foreign(tmp_path / "net.safetensors")
    crops = photos(224, 224)
    theirs = net.double()(
        crops.flip(1) - torch.tensor(CAFFE_MEAN, dtype=torch.float64).view(1, 3, 1, 1)
    )
    assert_same(our_net(foreign)(centred(crops, foreign)).flatten(1), theirs)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pth"])
def test_caffe_trunk_alone(tmp_path, suffix):
    arrays = {name: a for name, a in caffe_arrays("D").items() if name.startswith("conv")}
    tensors = {
        name.replace("_W", ".weight").replace("_b", ".bias"): torch.from_numpy(a)
        for name, a in arrays.items()
    }
    path = tmp_path / f"trunk{suffix}"
    match suffix:
        case ".npz":
            np.savez(path, **arrays)
        case ".safetensors":
            save_file(tensors, path)
        case ".pth":
            torch.save(tensors, path)
    foreign = read_foreign(path)
    assert (
        foreign.arch,
        foreign.width,
        foreign.crop,
        foreign.class_count,
        len(foreign.weights),
    ) == ("D", 1 / 16, None, None, 26)
    np.testing.assert_array_equal(foreign.weights["conv1_1.weight"], arrays["conv1_1_W"][:, ::-1])
    np.testing.assert_array_equal(foreign.weights["conv5_3.weight"], arrays["conv5_3_W"])


def test_crop_comes_from_fc6(tmp_path):
    np.savez(tmp_path / "net.npz", **caffe_arrays("A", crop=96))
    foreign = read_foreign(tmp_path / "net.npz")
    assert foreign.crop == 96 and foreign.weights["fc6.weight"].shape == (HIDDEN, 32, 3, 3)


@pytest.mark.parametrize("trunk_only", [False, True])
@pytest.mark.parametrize("width", [0.0005, 0.02, 0.1, 0.25, 1 / 3, 0.37])
def test_width_comes_from_the_channels(tmp_path, width, trunk_only):
    """Rounding hides the exact multiplier; ours must give every layer the same channels."""
    spec = NetSpec("C", numbered(3), width=width, crop=32)
    state = {
        name: t
        for name, t in VGG(spec).state_dict().items()
        if not (trunk_only and name.startswith("fc"))
    }
    foreign = read_state(state, tmp_path / "net.pth")
    again = VGG(NetSpec("C", numbered(3), width=foreign.width, crop=32)).state_dict()
    assert foreign.arch == "C" and foreign.weights.keys() == state.keys()
    assert all(again[name].shape == tensor.shape for name, tensor in foreign.weights.items())


# What cannot be read


def refuse(path: Path, arch: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read_foreign(path, arch)
    assert caught.value.exit_code == 2 and "\n" not in caught.value.message
    return caught.value.message


def test_missing_file_and_unknown_names(tmp_path):
    assert f"{tmp_path / 'no.pth'}: no such file" in refuse(tmp_path / "no.pth")
    (tmp_path / "net.h5").write_bytes(b"")
    assert "rename it to one of .safetensors, .npz, .pth" in refuse(tmp_path / "net.h5")
    assert "arch 'F' is not in Table 1; choose one of A, A-LRN" in refuse(
        tmp_path / "no.pth", arch="F"
    )


@pytest.mark.parametrize("suffix", [".pth", ".old.pth", ".npz", ".safetensors"])
def test_damaged_files(tmp_path, suffix):
    """Text, nothing, zip garbage, and a good file cut at many positions."""
    path = tmp_path / f"net{suffix}"
    tensors = {name: torch.from_numpy(a[:1]) for name, a in caffe_arrays("A", crop=32).items()}
    match suffix:
        case ".npz":
            np.savez(path, **tensors)
        case ".safetensors":
            save_file({name: t.contiguous() for name, t in tensors.items()}, path)
        case _:
            torch.save(tensors, path, _use_new_zipfile_serialization=suffix == ".pth")
    whole = path.read_bytes()
    cuts = [whole[: len(whole) * i // 40] for i in range(40)]
    rng = np.random.default_rng(0)
    noise = [rng.bytes(n) for n in (1, 9, 100, 5000)]
    for content in [
        b"these are no weights\n",
        b"PK\x03\x04" + bytes(200),
        b"\x80\x02}",
        *noise,
        *cuts,
    ]:
        path.write_bytes(content)
        message = refuse(path)
        assert (
            message.startswith(f"{path}: cannot be read as {path.suffix} (")
            and "truncated" in message
        )


class Trap:
    """Runs code when unpickled."""

    def __init__(self, touched: Path):
        self.touched = touched

    def __reduce__(self):
        return Path.touch, (self.touched,)


def test_code_in_a_file_is_not_run(tmp_path):
    touched = tmp_path / "touched"
    torch.save({"features.0.weight": Trap(touched)}, tmp_path / "net.pth")
    (tmp_path / "net.pt").write_bytes(pickle.dumps({"features.0.weight": Trap(touched)}))
    np.savez(
        tmp_path / "net.npz", conv1_1_W=np.array([Trap(touched)], dtype=object), allow_pickle=True
    )
    for name in ("net.pth", "net.pt", "net.npz"):
        assert "cannot be read as" in refuse(tmp_path / name)
    assert not touched.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (torch.ones(3), "holds a Tensor that names no tensors"),
        ({}, "holds a dict that names no tensors"),
        ({0: torch.ones(3)}, "holds a dict that names no tensors"),
        (
            {"epoch": 3, "state_dict": {}},
            "epoch is a int, not a plain tensor of floating point numbers; save the float net's",
        ),
        (
            {"features.0.weight": torch.ones(3, dtype=torch.int32)},
            "features.0.weight is a Tensor torch.int32 torch.strided cpu, not",
        ),
        (
            {"features.0.weight": torch.ones(3, dtype=torch.complex64)},
            "is a Tensor torch.complex64",
        ),
        (
            {"features.0.weight": torch.ones(3).to_sparse()},
            "is a Tensor torch.float32 torch.sparse_coo cpu, not a plain tensor",
        ),
        (
            {"features.0.weight": torch.ones(3, device="meta")},
            "is a Tensor torch.float32 torch.strided meta, not a plain tensor",
        ),
        (
            {"layer1.0.conv1.weight": torch.ones(3), "fc.bias": torch.ones(3)},
            "is no VGG; its tensors are named fc.bias, layer1.0",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Validating sparse")
def test_other_contents(tmp_path, content, words):
    torch.save(content, tmp_path / "net.pth")
    message = refuse(tmp_path / "net.pth")
    assert message.startswith(f"{tmp_path / 'net.pth'}: ") and words in message


def test_arrays_of_text(tmp_path):
    np.savez(tmp_path / "net.npz", conv1_1_W=np.array(["a"]))
    assert "conv1_1_W is a ndarray <U1 cpu, not a plain tensor of floating point numbers" in refuse(
        tmp_path / "net.npz"
    )


def test_our_own_checkpoint_is_called_one(tmp_path):
    spec = NetSpec("A", numbered(2), width=0.01, crop=32)
    save_checkpoint(tmp_path / "best.pt", Checkpoint(spec, VGG(spec).state_dict()))
    assert "best.pt: is a VGG Deploy checkpoint" in refuse(tmp_path / "best.pt")


def test_resnet_and_alexnet_are_no_vgg(tmp_path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet.pth")
    assert "resnet.pth: is no VGG; its tensors are named bn1.bias" in refuse(
        tmp_path / "resnet.pth"
    )
    with torch.device("meta"):
        names = torchvision.models.alexnet().state_dict()
    torch.save({name: torch.ones(1) for name in names}, tmp_path / "alexnet.pth")
    assert "comes closest to net A in torchvision layout, but has no" in refuse(
        tmp_path / "alexnet.pth"
    )


@pytest.mark.parametrize(
    ("arch", "batch_norm", "name", "words"),
    [
        (
            "D",
            False,
            "features.28.bias",
            "closest to net D in torchvision layout, but has no features.28.bias;",
        ),
        (
            "E",
            True,
            "features.1.running_var",
            "closest to net E in torchvision bn layout, but has no features.1.running_var;",
        ),
        (
            "A",
            False,
            "classifier.6.weight",
            "closest to net A in torchvision layout, but has no classifier.6.weight;",
        ),
    ],
)
def test_missing_tensors_are_named(tmp_path, arch, batch_norm, name, words):
    state = torchvision_net(arch, batch_norm).state_dict()
    del state[name]
    torch.save(state, tmp_path / "net.pth")
    assert words in refuse(tmp_path / "net.pth")


def test_surplus_tensors_are_named(tmp_path):
    torch.save(
        torchvision_net("B", False).state_dict() | {"aux": torch.ones(1)}, tmp_path / "net.pth"
    )
    assert "closest to net B in torchvision layout, which has no aux;" in refuse(
        tmp_path / "net.pth"
    )


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        (
            "features.0.bias",
            (),
            "expects features.0.bias with shape (4,) or (1, 1, 1, 4), found ()",
        ),
        (
            "features.4.bias",
            (9,),
            "expects features.4.bias with shape (8,) or (1, 1, 1, 8), found (9,)",
        ),
        (
            "features.4.weight",
            (8, 4, 5, 5),
            "expects features.4.weight with shape (8, 4, 3, 3), found (8, 4, 5, 5)",
        ),
        (
            "features.5.running_mean",
            (5,),
            "expects features.5.running_mean with shape (8,) or (1, 1, 1, 8), found (5,)",
        ),
        (
            "classifier.0.weight",
            (HIDDEN, 1600),
            f"expects classifier.0.weight with shape ({HIDDEN}, 1568) or ({HIDDEN}, 32, 7, 7)",
        ),
        ("classifier.3.weight", (5, HIDDEN), f"or (1, 1, {HIDDEN}, {HIDDEN}), found (5, {HIDDEN})"),
        ("classifier.6.weight", (0, HIDDEN), f"found (0, {HIDDEN})"),
    ],
)
def test_tensors_of_another_shape_are_named(tmp_path, name, shape, words):
    torch.save(
        torchvision_net("A", batch_norm=True).state_dict() | {name: torch.ones(shape)},
        tmp_path / "net.pth",
    )
    message = refuse(tmp_path / "net.pth")
    assert (
        message.startswith(f"{tmp_path / 'net.pth'}: net A of width 0.0625 expects ")
        and words in message
    )


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("classifier.0.weight", math.nan, "classifier.0.weight has NaN or infinite values"),
        ("features.8.bias", math.inf, "features.8.bias has NaN or infinite values"),
        (
            "features.8.weight",
            1e300,
            "features.8.weight has NaN or infinite values",
        ),  # in single precision
        ("features.1.running_mean", math.nan, "features.1.running_mean has NaN or infinite values"),
        ("features.1.running_var", -1.0, "features.1.running_var has negative values"),
    ],
)
def test_values_that_are_no_weights_are_named(tmp_path, name, value, words):
    state = torchvision_net("A", batch_norm=True).double().state_dict()
    state[name].flatten()[-1] = value
    torch.save(state, tmp_path / "net.pth")
    assert words in refuse(tmp_path / "net.pth")


def test_hidden_layers_of_another_width_are_named(tmp_path):
    """The convolutions settle the width; a head that does not fit is what the message names."""
    arrays = caffe_arrays("A")
    arrays |= {"fc6_W": arrays["fc6_W"][:100], "fc6_b": arrays["fc6_b"][:100]}
    np.savez(tmp_path / "net.npz", **arrays)
    message = refuse(tmp_path / "net.npz")
    assert f"its hidden layers have 100 and {HIDDEN} outputs" in message
    assert f"outputs, a net of width 0.0625 has {HIDDEN} in both" in message


@pytest.mark.parametrize(("arch", "claim"), [("A", "B"), ("D", "C"), ("E", "A-LRN"), ("B", "D")])
def test_another_arch_than_claimed(tmp_path, arch, claim):
    np.savez(tmp_path / "net.npz", **caffe_arrays(arch))
    assert f"net.npz: holds net {arch}, not {claim}; leave the arch out or state {arch}" in refuse(
        tmp_path / "net.npz", claim
    )


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"input_range": "0-1"}, "input_range '0-1'; only '0-255'"),
        ({"channel_order": "GBR"}, "channel_order 'GBR'; write RGB or BGR"),
        ({"mean_bgr": "104,117"}, "mean_bgr '104,117'; write three numbers"),
        ({"mean_rgb": "a,b,c"}, "mean_rgb 'a,b,c'"),
        ({"mean_rgb": "nan,1,2"}, "mean_rgb 'nan,1,2'"),
    ],
)
def test_metadata_that_cannot_be_honoured(tmp_path, metadata, words):
    save_file(
        {name: torch.from_numpy(a) for name, a in caffe_arrays("A", crop=32).items()},
        tmp_path / "net.safetensors",
        metadata,
    )
    message = refuse(tmp_path / "net.safetensors")
    assert (
        message.startswith(f"{tmp_path / 'net.safetensors'}: its metadata states")
        and words in message
    )
