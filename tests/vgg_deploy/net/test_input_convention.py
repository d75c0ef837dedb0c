"""The input of foreign weights as users, files and timm state it, against a plain torch forward."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.support.foreign import (
    assert_same,
    caffe_arrays,
    our_net,
    our_trunk,
    photos,
    torchvision_net,
)
from tests.support.run import run
from train.__main__ import main as train
from vgg_deploy.errors import InputError
from vgg_deploy.net.caffe_release import released_order
from vgg_deploy.net.foreign_weights import read_foreign
from vgg_deploy.net.input_convention import CAFFE, SSD, USUAL, Convention, StatedInput
from vgg_deploy.net.open_net import open_net

# the released convolutions, conv1_1.weight ... with the metadata of their input; 59 MB, so not in
# the repository
OXFORD = Path(os.environ.get("VGG_DEPLOY_OXFORD", "vgg16_conv_oxford.safetensors"))
needs_oxford = pytest.mark.skipif(
    not OXFORD.is_file(), reason="VGG_DEPLOY_OXFORD names no file of the Oxford convolutions"
)


def normalised(images: Tensor, mean: tuple, std: tuple, order: str, divisor: float) -> Tensor:
    """The input that the net was trained on, written out channel by channel.

    Args:
        images: (N, 3, H, W), RGB, 0-255.
        mean: Of R, G and B.
        std: Of R, G and B.
        order: Of the result's channels.
        divisor: Of the pixels, before the mean is subtracted.
    """
    planes = {
        name: (images[:, i] / divisor - mean[i]) / std[i] for i, name in enumerate(("R", "G", "B"))
    }
    return torch.stack([planes[letter] for letter in order], dim=1)


HALF = (0.5, 0.5, 0.5)
ONES, ZEROS = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
USUAL_MEAN, USUAL_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN = (123.68, 116.779, 103.939)
CASES = [
    # stated, and what a plain forward does: mean, std, order, divisor of the pixels
    (StatedInput(HALF, HALF), HALF, HALF, "RGB", 255),  # timm's Inception mean
    (StatedInput(ZEROS, ONES), ZEROS, ONES, "RGB", 255),  # ToTensor only
    (StatedInput(USUAL_MEAN, ONES), USUAL_MEAN, ONES, "RGB", 255),
    (StatedInput(USUAL_MEAN, USUAL_STD, "BGR"), USUAL_MEAN, USUAL_STD, "BGR", 255),
    (StatedInput(None, None, "BGR"), USUAL_MEAN, USUAL_STD, "BGR", 255),  # OpenCV's order
    (StatedInput(CAFFE_MEAN, None, "BGR"), CAFFE_MEAN, ONES, "BGR", 1),  # Caffe
    (StatedInput(CAFFE_MEAN, ONES, "BGR"), CAFFE_MEAN, ONES, "BGR", 1),  # OpenMMLab's Caffe
    (StatedInput((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)), (123.675, 116.28, 103.53),
     (58.395, 57.12, 57.375), "RGB", 1),  # OpenMMLab
    (StatedInput(ZEROS, (255.0, 255.0, 255.0)), ZEROS, ONES, "RGB", 255),
    (StatedInput(ZEROS, (1 / 255,) * 3), ZEROS, ONES, "RGB", 1),  # pixels as they are
    (StatedInput((0.48235, 0.45882, 0.40784), (1 / 255,) * 3), (0.48235, 0.45882, 0.40784),
     (1 / 255,) * 3, "RGB", 255),  # SSD
]  # fmt: skip


@pytest.mark.parametrize(("stated", "mean", "std", "order", "divisor"), CASES)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@torch.inference_mode()
@pytest.mark.slow
def test_a_stated_input_is_folded_exactly(tmp_path, stated, mean, std, order, divisor, suffix):
    """Oracle: torchvision's net on the input written out, borders and white images included."""
    net = torchvision_net("A", batch_norm=suffix == ".safetensors")
    path = tmp_path / f"net{suffix}"
    if suffix == ".pth":
        torch.save(net.state_dict(), path)
    else:
        save_file(net.state_dict(), path)
    foreign = read_foreign(path, stated=stated)
    ours, theirs = our_net(foreign), net.double()
    subtracted = torch.tensor(foreign.preprocessing.mean, dtype=torch.float64).view(1, 3, 1, 1)
    for images in (photos(224, 224), torch.full((1, 3, 224, 224), 255.0, dtype=torch.float64)):
        expected = theirs(normalised(images, mean, std, order, divisor))
        assert_same(ours(images - subtracted).flatten(1), expected)
    assert foreign.assumed.input_from == "as stated"


@torch.inference_mode()
def test_a_caffe_layout_that_was_trained_on_torchvision_input(tmp_path):
    """The names do not fix the input: .npz too. Oracle: Caffe's arithmetic on that input."""
    from tests.support.foreign import caffe_scores

    arrays = caffe_arrays("B")
    np.savez(tmp_path / "net.npz", **arrays)
    foreign = read_foreign(tmp_path / "net.npz", stated=StatedInput(USUAL_MEAN, USUAL_STD, "RGB"))
    crops = photos(224, 224)
    subtracted = torch.tensor(foreign.preprocessing.mean, dtype=torch.float64).view(1, 3, 1, 1)
    expected = caffe_scores(
        arrays, normalised(crops, USUAL_MEAN, USUAL_STD, "RGB", 255), [0, 1, 2], ZEROS
    )
    assert_same(our_net(foreign)(crops - subtracted).flatten(1), expected)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mean": (0.485, 116.0, 103.0)}, "has values of 0-1 and of 0-255 pixels"),
        ({"mean": (0.0, 116.0, 103.0)}, "has values of 0-1 and of 0-255"),
        ({"mean": USUAL_MEAN, "std": (58.4, 57.1, 57.4)}, "are of two units"),
        ({"mean": CAFFE_MEAN, "std": USUAL_STD}, "are of two units"),
        ({"mean": CAFFE_MEAN, "std": (0.2, 57.0, 57.0)}, "has values of 0-1 and of 0-255"),
        ({"mean": USUAL_MEAN}, "needs a std; give 1,1,1 if"),
        ({"mean": ZEROS}, "needs a std"),
        ({"std": USUAL_STD}, "is given without a mean"),
        ({"mean": (-1.0, 0.0, 0.0), "std": ONES}, "is not three numbers from 0 to 255"),
        ({"mean": (256.0, 1.5, 1.5)}, "is not three numbers"),
        ({"mean": (math.nan, 1.5, 1.5)}, "is not three numbers"),
        ({"mean": (math.inf, 1.5, 1.5)}, "is not three numbers"),
        ({"mean": USUAL_MEAN, "std": (0.0, 0.2, 0.2)}, "is not three numbers from 1e-06"),
        ({"mean": USUAL_MEAN, "std": (-0.2, 0.2, 0.2)}, "is not three numbers"),
        ({"channel_order": "GBR"}, "channel order 'GBR' is unknown; use RGB or BGR"),
    ],
)
def test_statements_of_two_units_or_none_are_refused(values, words):
    with pytest.raises(InputError) as caught:
        StatedInput(**values)
    assert words in caught.value.message and "--" not in caught.value.message


def test_the_convention_in_words():
    assert USUAL.describe() == (
        "RGB, (x/255 - mean)/std with mean 0.485, 0.456, 0.406 and std 0.229, 0.224, 0.225 "
        "(R, G, B of 0-1)"
    )
    assert CAFFE.describe() == (
        "BGR, x - mean with mean 123.68, 116.779, 103.939 (R, G, B of 0-255)"
    )
    assert SSD.describe().startswith("RGB, x - mean with mean 122.999, ")
    assert StatedInput(ZEROS, ONES).applied_to(USUAL) == Convention("RGB", ZEROS, (255.0,) * 3)


def test_a_well_known_mean_backwards_is_noticed():
    for mean in (CAFFE_MEAN, (123.675, 116.28, 103.53)):
        assert StatedInput(mean).warning() == ""
        assert "looks like B, G, R" in StatedInput(mean[::-1]).warning()
    assert "looks like B, G, R" in StatedInput(USUAL_MEAN[::-1], USUAL_STD[::-1]).warning()
    assert StatedInput(HALF, HALF).warning() == StatedInput().warning() == ""


def test_a_statement_survives_a_file():
    for stated in (StatedInput(), StatedInput(HALF, ONES, "BGR", 32), StatedInput(CAFFE_MEAN)):
        entries = json.loads(json.dumps(stated.as_json()))
        assert StatedInput.from_json(entries) == stated


# timm's config.json

CONFIG = {
    "architecture": "vgg11",
    "num_classes": 7,
    "pretrained_cfg": {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "crop_pct": 0.875,
    },
}


def with_config(folder: Path, config: object, suffix: str = ".pth") -> Path:
    """A torchvision net with 7 classes beside a config.json."""
    path = folder / f"net{suffix}"
    torch.save(torchvision_net("A", batch_norm=False).state_dict(), path)
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return path


@pytest.mark.parametrize("flat", [False, True])
@torch.inference_mode()
@pytest.mark.slow
def test_timms_config_states_the_input(tmp_path, flat):
    """In its present and its old form. Oracle: the net on (x / 255 - 0.5) / 0.5."""
    config = {**CONFIG["pretrained_cfg"], "architecture": "vgg11"} if flat else CONFIG
    foreign = read_foreign(with_config(tmp_path, config))
    images = photos(224, 224)
    subtracted = torch.tensor(foreign.preprocessing.mean, dtype=torch.float64).view(1, 3, 1, 1)
    expected = torchvision_net("A", batch_norm=False).double()((images / 255 - 0.5) / 0.5)
    assert_same(our_net(foreign)(images - subtracted).flatten(1), expected)
    assert foreign.assumed.input_from == "as config.json beside it says"
    (warning,) = foreign.assumed.warnings
    assert warning == (
        "config.json names interpolation bicubic, crop_pct 0.875, which are not used"
    )
    stated = read_foreign(tmp_path / "net.pth", stated=StatedInput(ZEROS, ONES))
    assert stated.preprocessing.mean == ZEROS and stated.assumed.input_from == "as stated"


def test_timms_labels_name_the_classes(tmp_path):
    ids = [f"n{i:08}" for i in range(7)]
    texts = {ids[0]: "tench, Tinca tinca"}
    path = with_config(tmp_path, {**CONFIG, "label_names": ids, "label_descriptions": texts})
    spec = open_net(path).spec
    assert spec.classes == tuple(ids) and spec.names == ("tench", *ids[1:])


def test_a_config_that_timm_itself_writes(tmp_path):
    """timm describes a fine-tuned net, and its file is read beside the weights."""
    timm = pytest.importorskip("timm")
    from timm.models._hub import save_config_for_hf

    path = with_config(tmp_path, "")
    with torch.device("meta"):
        net = timm.create_model("vgg11", pretrained=False, num_classes=7)
    save_config_for_hf(net, str(tmp_path / "config.json"), {"label_names": list("abcdefg")})
    foreign = read_foreign(path)
    assert foreign.classes and foreign.classes.ids == tuple("abcdefg")
    assert foreign.assumed.input == USUAL.describe()
    assert foreign.assumed.input_from == "as config.json beside it says"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{", "config.json, line 1: is not JSON"),
        ({**CONFIG, "architecture": "resnet50"}, "describes resnet50, which is no VGG"),
        ({**CONFIG, "architecture": "vgg16_bn.tv_in1k"}, "describes net D, net.pth holds net A"),
        ({**CONFIG, "num_classes": 10}, "describes 10 classes, net.pth has 7"),
        ({**CONFIG, "pretrained_cfg": []}, "its pretrained_cfg is no object"),
        ({**CONFIG, "pretrained_cfg": {"mean": [0.5], "std": HALF}}, "mean [0.5] is not three"),
        ({**CONFIG, "pretrained_cfg": {"mean": HALF}}, "config.json: mean 0.5, 0.5, 0.5 is of 0-1"),
        ({**CONFIG, "label_names": ["a"] * 7}, "its label_names repeat"),
        ({**CONFIG, "label_names": {"0": "a"}}, "its label_names are no list"),
        ({**CONFIG, "label_names": list("abcdef")}, "describes 6 label_names, net.pth has 7"),
        ({**CONFIG, "label_names": [*"abcdef", "g\n"]}, r"holds the character '\n'"),
        (
            {**CONFIG, "label_names": list("abcdefg"), "label_descriptions": {"a": ["b"]}},
            "its label_descriptions are no texts",
        ),
        ({**CONFIG, "mean": HALF, "pretrained_cfg": {"tag": "x"}}, "has mean outside its"),
    ],
)
def test_a_config_that_cannot_be_right(tmp_path, config, words):
    path = with_config(tmp_path, config)
    with pytest.raises(InputError) as caught:
        read_foreign(path)
    assert words in caught.value.message and caught.value.message.startswith(str(tmp_path))


def test_a_config_of_another_program_says_nothing(tmp_path):
    path = with_config(tmp_path, {"model_type": "bert", "mean": [0, 0, 0]})
    assert read_foreign(path).assumed.input == USUAL.describe()


# Caffe's weights under torchvision's names


def renamed(trunk: dict[str, Tensor]) -> dict[str, Tensor]:
    """Net D's convolutions under torchvision's names, features.N."""
    numbers = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    names = [
        f"conv{s}_{i}" for s, n in enumerate((2, 2, 3, 3, 3), start=1) for i in range(1, n + 1)
    ]
    return {
        f"features.{number}.{part}": trunk[f"{name}.{part}"].clone()
        for number, name in zip(numbers, names, strict=True)
        for part in ("weight", "bias")
    }


@needs_oxford
def test_caffe_weights_under_torchvision_names_are_noticed(tmp_path):
    """On the real weights: as released, with channels turned, fine-tuned; not when converted."""
    trunk = renamed(load_file(OXFORD))
    first = trunk["features.0.weight"].clone()
    noise = torch.randn(first.shape, generator=torch.Generator().manual_seed(0))

    def warnings(weight: Tensor, **how) -> tuple[str, ...]:
        torch.save({**trunk, "features.0.weight": weight}, tmp_path / "net.pth")
        return read_foreign(tmp_path / "net.pth", **how).assumed.warnings

    (warning,) = warnings(first)
    assert "released for Caffe" in warning and "in BGR order" in warning
    assert "in RGB order" in warnings(first.flip(1))[0]
    assert "in BGR order" in warnings(first + 0.02 * first.std() * noise)[0]  # fine-tuned
    scale = 255 * torch.tensor(USUAL_STD).view(1, 3, 1, 1)
    assert warnings(first.flip(1) * scale) == ()  # converted to torchvision's input: no doubt
    assert warnings(first, stated=StatedInput(CAFFE_MEAN, None, "BGR")) == ()
    assert read_foreign(OXFORD).assumed.warnings == ()


@needs_oxford
@torch.inference_mode()
def test_oxford_weights_under_other_names_score_alike_when_their_input_is_stated(tmp_path):
    """Oracle: the same file under its own names, whose metadata state the input."""
    torch.save(renamed(load_file(OXFORD)), tmp_path / "net.pth")
    stated = read_foreign(tmp_path / "net.pth", stated=StatedInput(CAFFE_MEAN, None, "BGR"))
    own = read_foreign(OXFORD)
    assert stated.preprocessing == own.preprocessing
    assert all(torch.equal(stated.weights[name], own.weights[name]) for name in own.weights)
    images = photos(32, 32) - torch.tensor(CAFFE_MEAN, dtype=torch.float64).view(1, 3, 1, 1)
    assert_same(our_trunk(stated)(images), our_trunk(own)(images))


def test_the_release_is_known_by_its_first_filters():
    """Values of the release, as tools print them, among random others."""
    layer = 0.2 * torch.randn(64, 3, 3, 3, generator=torch.Generator().manual_seed(2))
    layer[0, 0] = torch.tensor(
        [[0.4295, 0.3735, -0.0614], [0.2748, 0.0387, -0.3672], [-0.0575, -0.2622, -0.3501]]
    )
    layer[0, 1] = torch.tensor(
        [[0.5504, 0.4401, -0.0814], [0.3457, 0.0406, -0.4535], [-0.0586, -0.3307, -0.4850]]
    )
    layer[0, 2] = torch.tensor(
        [[0.4800, 0.4085, -0.0651], [0.3105, 0.0502, -0.4034], [-0.0509, -0.2852, -0.4185]]
    )
    assert released_order(layer) is None  # one filter is no evidence
    layer[1, 1] = torch.tensor([[0.02, 0.05, 0.04], [0.03, 0.07, 0.05], [0.03, 0.06, 0.04]])
    layer[2, 1] = torch.tensor([[0.10, 0.05, -0.10], [0.24, 0.22, -0.07], [0.08, 0.05, -0.11]])
    layer[3, 1] = torch.tensor([[0.44, 0.32, 0.35], [0.10, -0.43, -0.09], [-0.05, -0.52, -0.24]])
    assert released_order(layer) == "BGR" and released_order(layer.flip(1)) == "RGB"
    assert released_order(58 * layer) is None and released_order(-layer) is None


def test_other_first_layers_are_not_taken_for_oxfords():
    """Random draws of many kinds and scales, and edges at full contrast."""
    generator = torch.Generator().manual_seed(1)
    for scale in (0.01, 0.059, 0.17, 0.3, 1.0):
        for _ in range(200):
            assert released_order(scale * torch.randn(64, 3, 3, 3, generator=generator)) is None
    edges = torch.tensor([[1.0, 1, 0], [1, 0, -1], [0, -1, -1]]).expand(64, 3, 3, 3) * 0.4
    assert released_order(edges) is None
    assert released_order(torch.zeros(64, 3, 3, 3)) is None
    assert released_order(torch.zeros(32, 3, 3, 3)) is None


# Training


def test_training_starts_from_weights_with_a_stated_input(here, photos_copy):
    """Kept in the run, so that a resumed run reads the same weights alike."""
    np.savez(here / "A.npz", **caffe_arrays("A", crop=32))
    thin = ["--width", "0.0625", "--crop", "32", "--side", "32", "--batch", "16", "--epochs", "1"]
    thin += ["--workers", "0", "--threads", "1", "--arch", "A", "--data", photos_copy]
    stated = ["--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5", "--channel-order", "RGB"]
    output = run(train, *thin, "--weights", here / "A.npz", *stated, "--out", here / "run")
    assert "with mean 0.5, 0.5, 0.5 and std 0.5, 0.5, 0.5 (R, G, B of 0-1) (as stated;" in output
    sources = json.loads((here / "run" / "config.json").read_text())["sources"]
    assert sources["stated"] == {"mean": [0.5] * 3, "std": [0.5] * 3, "channel_order": "RGB"}
    assert "add --weights" in run(train, *thin, *stated, code=2)
    best = here / "run" / "best.pt"
    output = run(train, *thin, "--weights", best, *stated, "--out", here / "again", code=2)
    assert "a checkpoint knows its own input" in output
    assert "not three numbers" in run(train, *thin, "--mean", "1,2", code=2)
