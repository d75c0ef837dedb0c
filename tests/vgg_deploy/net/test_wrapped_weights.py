"""Files as training loops save them, against the nets that they were saved from.

Wrappers are written by PyTorch's own classes, or laid out as the loops of PyTorch's examples,
torchvision, timm and Lightning lay them out. The oracle is torchvision's net in double precision.
"""

import argparse
import collections
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import AveragedModel

from tests.support.foreign import assert_same, our_net, photos, randomise, torchvision_net
from vgg_deploy.errors import InputError
from vgg_deploy.net.foreign_weights import read_foreign
from vgg_deploy.net.open_net import open_net
from vgg_deploy.net.weights_suffixes import WEIGHTS_SUFFIXES
from vgg_deploy.net.wrapped_weights import AVERAGED, TRAINED, unwrapped, without_prefix

MEAN_STD = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], dtype=torch.float64)


class Options:
    """A class of the training script, which the reader does not have."""

    def __init__(self):
        self.lr = 0.1
        self.folder = Path("runs")


class Wrapper(nn.Module):
    """A net inside another module, as Lightning's modules hold theirs."""

    def __init__(self, name: str, net: nn.Module):
        super().__init__()
        setattr(self, name, net)


@pytest.fixture(scope="module")
def net():
    return torchvision_net("A", batch_norm=False)


@pytest.fixture(scope="module")
def state(net):
    return net.state_dict()


@pytest.fixture(scope="module")
def scores(net):
    crops = photos(224, 224)
    mean, std = MEAN_STD.view(2, 1, 3, 1, 1)
    with torch.inference_mode():
        return net.double()((crops / 255 - mean) / std)


@pytest.fixture(autouse=True)
def float_net(net):
    net.float()


def other(net):
    """The names of a net with other weights."""
    return {name: tensor + 1 for name, tensor in net.state_dict().items()}


def optimizer(net):
    made = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    sum(p.sum() for p in net.parameters()).backward()
    made.step()
    made.zero_grad()
    return made.state_dict()


def opened_scores(path):
    foreign = read_foreign(path)
    crops = photos(224, 224)
    mean = torch.tensor(foreign.preprocessing.mean, dtype=torch.float64).view(1, 3, 1, 1)
    with torch.inference_mode():
        return our_net(foreign)(crops - mean).flatten(1), foreign.assumed.unwrapped


def imagenet_example(net):
    """pytorch/examples/imagenet, with DataParallel."""
    return {
        "epoch": 90,
        "arch": "vgg11",
        "state_dict": nn.DataParallel(net).state_dict(),
        "best_acc1": torch.tensor(71.3),
        "optimizer": {"param_groups": [{"lr": 0.1}], "state": {0: {"momentum": torch.ones(3)}}},
        "scheduler": {"last_epoch": 90},
    }


def torchvision_reference(net):
    """torchvision's references/classification/train.py, with an average of other weights."""
    average = AveragedModel(net)
    average.module.load_state_dict(other(net))
    return {
        "model": net.state_dict(),
        "optimizer": {},
        "lr_scheduler": {"last_epoch": 3},
        "epoch": 3,
        "args": argparse.Namespace(model="vgg11", data_path=Path("/data"), lr=0.1),
        "model_ema": average.state_dict(),
    }


def timm_checkpoint(net):
    """timm's utils/checkpoint_saver.py."""
    return {
        "epoch": 3,
        "arch": "vgg11",
        "state_dict": net.state_dict(),
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
        "version": 2,
        "args": argparse.Namespace(model="vgg11", opt_betas=None),
        "amp_scaler": {"scale": 65536.0},
        "state_dict_ema": other(net),
        "metric": np.float64(71.3),
    }


def lightning(net):
    """Lightning's checkpoint connector."""
    return {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": Wrapper("model", net).state_dict(),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"current": {"ready": 4}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.3)}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "root": Path("/data"), "options": Options()},
    }


FORMS = {
    "imagenet_example.pth.tar": (imagenet_example, ["entry state_dict", "prefix module."]),
    "tutorial.pt": (
        lambda net: {"epoch": 3, "model_state_dict": net.state_dict(), "loss": torch.tensor(0.1)},
        ["entry model_state_dict", "not used: epoch, loss"],
    ),
    "torchvision_reference.pth": (
        torchvision_reference,
        ["entry model;", "the moving average model_ema is not used", "not used: args, epoch"],
    ),
    "timm.pth.tar": (timm_checkpoint, ["entry state_dict;", "average state_dict_ema is not used"]),
    "lightning.ckpt": (lightning, ["entry state_dict", "prefix model.", "hyper_parameters"]),
    "net.pth": (lambda net: {"net": net.state_dict(), "acc": 71.3}, ["entry net; not used: acc"]),
    "average_alone.pth": (
        lambda net: {"ema": net.state_dict(), "step": 7},
        ["entry ema; ema is a moving average of the trained weights, the only ones there"],
    ),
    "average_in_it.pth": (
        lambda net: {"model_ema": AveragedModel(net).state_dict()},
        ["entry model_ema", "prefix module."],
    ),
    "nested.pth": (
        lambda net: {"model": {"state_dict": net.state_dict(), "step": 3}, "args": Options()},
        ["entry model.state_dict; not used: args; not used: step"],
    ),
    "average.pth": (lambda net: AveragedModel(net).state_dict(), ["prefix module."]),
    "compiled.pth": (lambda net: torch.compile(net).state_dict(), ["prefix _orig_mod."]),
    "backbone.pth": (lambda net: Wrapper("backbone", net).state_dict(), ["prefix backbone."]),
    "any_name.pth": (lambda net: Wrapper("my_vgg", net).state_dict(), ["prefix my_vgg."]),
    "many.pth": (
        lambda net: nn.DataParallel(
            Wrapper("model", Wrapper("net", torch.compile(net)))
        ).state_dict(),
        ["prefix module.model.net._orig_mod."],
    ),
    "average_beside.pth": (
        lambda net: {
            **Wrapper("model", net).state_dict(),
            **{f"ema_model.{name}": tensor for name, tensor in other(net).items()},
        },
        ["prefix model.; the average ema_model is not used"],
    ),
    "average_beside_bare.pth": (
        lambda net: {
            **net.state_dict(),
            **{f"ema.{name}": tensor for name, tensor in other(net).items()},
        },
        ["the average ema is not used"],
    ),
    "metrics.pth": (
        lambda net: {
            "state_dict": collections.OrderedDict(net.state_dict()),
            "history": collections.defaultdict(list, loss=[0.3], acc=[np.float32(0.7)]),
            "counter": collections.Counter("aab"),
        },
        ["entry state_dict; not used: counter, history"],
    ),
}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("name", FORMS)
def test_a_file_of_a_training_loop_scores_as_its_net(tmp_path, net, scores, name, old):
    make, words = FORMS[name]
    torch.save(make(net), tmp_path / name, _use_new_zipfile_serialization=not old)
    ours, said = opened_scores(tmp_path / name)
    assert_same(ours, scores)
    for text in words:
        assert text in said + ";"
    assert "\n" not in said


def test_real_optimizers_beside_the_weights(tmp_path, net, scores):
    kept = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    content = {"model_state_dict": kept, "optimizer_state_dict": optimizer(net)}
    net.load_state_dict(kept)
    torch.save(content, tmp_path / "net.tar")
    assert_same(opened_scores(tmp_path / "net.tar")[0], scores)


def test_batch_norm_and_timm_in_a_wrapper(tmp_path):
    net = torchvision_net("A", batch_norm=True)
    torch.save({"state_dict": nn.DataParallel(net).state_dict()}, tmp_path / "net.pth")
    crops = photos(224, 224)
    mean, std = MEAN_STD.view(2, 1, 3, 1, 1)
    with torch.inference_mode():
        theirs = net.double()((crops / 255 - mean) / std)
    assert_same(opened_scores(tmp_path / "net.pth")[0], theirs)
    timm = pytest.importorskip("timm.models.vgg")
    from timm.layers import ClassifierHead

    with torch.device("meta"):
        net = timm.VGG([4, "M", 8, "M", 16, 16, "M", 32, 32, "M", 32, 32, "M"])
    first = nn.Conv2d(3, 4, 3, padding=1)
    assert first.weight.shape == net.features[0].weight.shape
    net = net.to_empty(device="cpu")
    net.pre_logits = timm.ConvMlp(32, 256, 7)
    net.head = ClassifierHead(256, 7)
    randomise(net, 3)
    torch.save({"state_dict": net.state_dict(), "args": Options()}, tmp_path / "t.pth.tar")
    with torch.inference_mode():
        theirs = net.double()((crops / 255 - mean) / std)
    assert_same(opened_scores(tmp_path / "t.pth.tar")[0], theirs)


def refuse(content, path):
    torch.save(content, path)
    with pytest.raises(InputError) as caught:
        open_net(path)
    assert "\n" not in caught.value.message and caught.value.message.count(str(path)) == 1
    return caught.value.message


def part(state, first, second):
    """A half of the names with a prefix."""
    half = len(state) // 2
    return {
        (first if i < half else second) + name: tensor
        for i, (name, tensor) in enumerate(state.items())
    }


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda s: {"model": s, "net": s},
            'holds 2 state dicts: model, net; save the one you mean alone: torch.save(torch.load('
            'FILE, weights_only=True)["model"], NEW)',
        ),
        (lambda s: {"ema": s, "model_ema": s}, "holds 2 state dicts: model_ema, ema"),
        (
            lambda s: {"model": {"state_dict": s, "net": s}},
            "holds 2 state dicts in model: state_dict, net",
        ),
        (
            lambda s: {"state_dict": s, "classifier.6.weight": torch.ones(3)},
            "tensors of layers beside it: classifier.6.weight; save one whole state dict",
        ),
        (lambda s: part(s, "module.", ""), "lack the prefix module.: classifier"),
        (lambda s: part(s, "", "module."), "A in torchvision layout, but has no features"),
        (
            lambda s: {"net": part(s, "model.", "")},
            "tensors lack the prefix model.: classifier",
        ),
        (
            lambda s: {**part(s, "a.", "a."), **part(s, "b.", "b.")},
            "holds 2 nets, with first layers a.features.0.weight, b.features.0.weight; save",
        ),
        (
            lambda s: {**part(s, "model.", "model."), "criterion.weight": torch.ones(7)},
            "1 of its 23 tensors lack the prefix model.: criterion.weight; save the state dict",
        ),
        (
            lambda s: {"state_dict": {k: v for k, v in s.items() if "classifier.3" not in k}},
            "is net A with another head",
        ),
        (
            lambda s: {"state_dict": {**s, "features.0.weight": 3}},
            "features.0.weight is a int, not a plain tensor",
        ),
        (
            lambda s: {"state_dict": {**s, "features.0.weight": Options()}},
            "features.0.weight is a Python object (test_wrapped_weights.Options), not a plain",
        ),
        (
            lambda s: {"state_dict": {**s, "features.0.weight": s["features.0.weight"].int()}},
            "is a Tensor torch.int32",
        ),
        (lambda s: {"state_dict": [*s.values()]}, "state_dict is a list, not a plain tensor"),
        (lambda s: [*s.values()], "holds a list that names no tensors; save a state dict"),
        (lambda s: {"optimizer": {"state": {}}, "epoch": 3}, "optimizer is a dict, not a plain"),
    ],
)  # fmt: skip
def test_what_is_no_single_state_dict_is_refused_in_a_sentence(tmp_path, state, make, words):
    message = refuse(make(state), tmp_path / "net.pth")
    assert words in message.replace("tests.vgg_deploy.net.", "")


@pytest.mark.parametrize("key", [None, "model", "ema"])
def test_a_whole_pickled_net_is_refused_with_the_lines_that_save_it(
    tmp_path, net, scores, key, monkeypatch
):
    """The two lines of the message are run, and the file that they write is opened."""
    path = tmp_path / "whole.pth"
    message = refuse({key: net, "epoch": 3} if key else net, path)
    assert "is a whole pickled object (torchvision.models.vgg.VGG)" in message
    assert "no code of a file is run" in message
    monkeypatch.chdir(tmp_path)
    exec(message.partition("alone: ")[2], {"torch": torch, "FILE": path})
    assert_same(opened_scores(tmp_path / "weights.pth")[0], scores)


def test_a_pickled_net_beside_its_state_dict_is_left_alone(tmp_path, net, scores):
    torch.save({"state_dict": net.state_dict(), "model": net}, tmp_path / "net.pth")
    ours, said = opened_scores(tmp_path / "net.pth")
    assert_same(ours, scores)
    assert "not used: model" in said


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_the_lines_for_torchscript_work(tmp_path, net, scores, monkeypatch):
    path = tmp_path / "program.pt"
    torch.jit.save(torch.jit.trace(net, torch.ones(1, 3, 224, 224)), path)
    with pytest.raises(InputError, match="is a TorchScript program") as caught:
        open_net(path)
    monkeypatch.chdir(tmp_path)
    exec(caught.value.message.partition("alone: ")[2], {"torch": torch, "FILE": path})
    assert_same(opened_scores(tmp_path / "weights.pth")[0], scores)


class Trap:
    """Runs code when unpickled."""

    def __init__(self, touched: Path, call):
        self.touched, self.call = touched, call

    def __reduce__(self):
        return self.call, (self.touched,)


def touch(path: Path) -> None:
    path.touch()


class Filled(dict):
    """A dictionary of the training script with a state of its own."""

    def __setstate__(self, state):
        raise AssertionError("code of the file was run")


@pytest.mark.parametrize("old", [False, True])
def test_code_beside_the_weights_is_not_run(tmp_path, net, scores, old):
    touched = tmp_path / "touched"
    filled = Filled(a=1)
    content = {
        "state_dict": net.state_dict(),
        "trap": Trap(touched, touch),
        "made": Trap(touched, Path),
        "filled": filled,
    }
    torch.save(content, tmp_path / "net.pth", _use_new_zipfile_serialization=not old)
    assert_same(opened_scores(tmp_path / "net.pth")[0], scores)
    assert not touched.exists() and os.listdir(tmp_path) == ["net.pth"]


def test_modules_that_torch_blocks_stay_blocked(tmp_path, state):
    path = tmp_path / "net.pth"
    torch.save({"state_dict": state, "trap": Trap(tmp_path / "made", os.mkdir)}, path)
    with pytest.raises(InputError, match="cannot be read as .pth"):
        read_foreign(path)
    assert not (tmp_path / "made").exists()
    with pytest.raises(pickle.UnpicklingError):  # and nothing stays allowed afterwards
        torch.save({"options": Options()}, path)
        torch.load(path, weights_only=True)


# Odd wrappers

LEAVES = st.one_of(
    st.none(), st.integers(), st.text(max_size=5), st.just(torch.ones(2)), st.just([1])
)
KEYS = st.sampled_from([*TRAINED, *AVERAGED, "epoch", "optimizer", "features.0.weight", 3])
CONTENT = st.recursive(LEAVES, lambda inner: st.dictionaries(KEYS, inner, max_size=4), max_leaves=9)


@given(CONTENT)
@settings(deadline=None)
def test_any_wrapper_is_opened_or_refused_in_a_sentence(content):
    try:
        found = unwrapped(content, "net.pth")
    except InputError as error:
        assert error.message.startswith("net.pth: ") and "\n" not in error.message
        return
    assert found.values and all(isinstance(name, str) for name in found.values)


@given(
    st.lists(st.sampled_from(["module", "model", "net", "_orig_mod", "backbone", "x"]), max_size=4),
    st.lists(st.sampled_from(TRAINED), max_size=4),
    st.dictionaries(st.text(max_size=4), st.one_of(st.none(), st.integers(), st.text(max_size=3))),
)
@settings(deadline=None)
def test_prefixes_and_wrappers_in_any_order_come_off(prefixes, wrappers, beside):
    names = {"features.0.weight": 0, "features.0.bias": 1, "classifier.0.weight": 2}
    prefix = "".join(f"{part}." for part in prefixes)
    content = {prefix + name: torch.tensor(float(i)) for name, i in names.items()}
    for wrapper in wrappers:
        others = {name: value for name, value in beside.items() if name not in TRAINED + AVERAGED}
        content = {**others, wrapper: content}
    found = without_prefix(unwrapped(content, "net.pth").values, "net.pth")
    assert {name: int(value) for name, value in found.values.items()} == names


@given(st.dictionaries(st.text(alphabet="ab.", max_size=4), st.integers(), max_size=6), st.data())
@settings(deadline=None)
def test_no_tensor_is_lost_silently(others, data):
    """Every name stays, or belongs to an average that is said to be unused."""
    prefix = data.draw(st.sampled_from(["", "module.", "a.b."]))
    values = {f"{prefix}features.0.weight": 0, **others}
    try:
        found = without_prefix(values, "net.pth")
    except InputError:
        return
    assert len(found.values) == len(values)


def test_the_page_about_weights_lists_what_is_opened():
    page = (Path(__file__).parents[3] / "docs" / "weights.md").read_text()
    for name in (*TRAINED, *AVERAGED, *WEIGHTS_SUFFIXES):
        assert f"`{name}`" in page
