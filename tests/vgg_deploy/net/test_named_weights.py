"""Weights by name, against the files that torchvision, timm and Hugging Face would give.

Servers are made here, on this machine. torchvision's registry is the real one, with a thin net of
the test in it. The oracle of scores is torchvision's or timm's own net.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from tests.support.foreign import assert_same, photos
from tests.support.published import (
    CATEGORIES,
    CONFIG,
    HALF,
    imagenet_net,
    local_server,
    published,
    save_with_digest,
    timm_folder,
)
from vgg_deploy.errors import InputError
from vgg_deploy.net.downloaded_files import digest_in
from vgg_deploy.net.imagenet_classes import imagenet_classes
from vgg_deploy.net.named_weights import locate
from vgg_deploy.net.open_net import open_net
from vgg_deploy.net.weights_names import is_name
from vgg_deploy.runtimes import open_runtime

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def net():
    return imagenet_net()


@pytest.fixture
def server(tmp_path):
    with local_server(tmp_path / "served") as made:
        yield made


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """Every cache in a folder of the test."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("VGG_DEPLOY_CACHE", str(tmp_path / "own"))
    return tmp_path


@pytest.fixture
def release(server, net, caches):
    """A net that torchvision publishes on the test's server."""
    file = save_with_digest(net.state_dict(), server.folder, "vgg_thin")
    features = save_with_digest({"features.0.weight": torch.ones(3)}, server.folder, "features")
    with published(f"{server.address}/{file.name}", f"{server.address}/{features.name}"):
        yield file


@torch.inference_mode()
def posteriors(net, crops, mean, std):
    """Of the project's own net, in double precision."""
    x = (crops / 255 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    scores = net.double()(x).softmax(1)
    net.float()
    return scores


@torch.inference_mode()
def our_posteriors(ours, crops):
    mean = torch.tensor(ours.spec.preprocessing.mean, dtype=torch.float64).view(1, 3, 1, 1)
    return ours.double()(crops - mean).flatten(1).softmax(1)


def refuse(name, **options):
    with pytest.raises(InputError) as caught:
        open_net(name, **options)
    assert "\n" not in caught.value.message and caught.value.message.startswith(f"{name}: ")
    return caught.value.message


# Names


def test_names_and_paths():
    for name in ("torchvision:vgg16", "timm:vgg16.tv_in1k", "hf-hub:a/b", "https://h/a.pth"):
        assert is_name(name)
    for path in ("vgg16.pth", "./torchvision:vgg16", "C:/net.pth", "/timm:vgg16", "torchvision"):
        assert not is_name(path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("torchvision:vgg17", "torchvision has no such VGG; choose from vgg11, vgg11_bn, vgg13"),
        ("torchvision:resnet50", "torchvision has no such VGG"),
        ("torchvision:", "torchvision has no such VGG"),
        (
            "torchvision:vgg16.V1",
            "choose from torchvision:vgg16.IMAGENET1K_V1, torchvision:vgg16.IMAGENET1K_FEATURES",
        ),
        ("timm:vgg16", "told apart by a tag; add it, as in timm:vgg16.tv_in1k"),
        ("timm:../../etc/passwd", "is no repository"),
        ("hf-hub:name", "is no repository; write OWNER/NAME, OWNER/NAME@REVISION or"),
        ("hf-hub:a/b/../c", "is no repository"),
        ("http://example.com/vgg16.pth", "anyone on the way can change what http:// sends"),
        ("https://example.com/", "names no file of weights; an address ends in one of .safeten"),
        ("https:///vgg16.pth", "names no file of weights"),
        ("https://[::1/vgg16.pth", "is no address"),
        ("https://example.com/a.pth#sha256=xy", "#sha256=xy is no digest"),
        ("https://example.com/..%2f..%2fa.pth", "its file name cannot be used"),
        ("torchvison:vgg16", "no such file, and no name of weights; give torchvision:vgg16, timm"),
    ],
)
def test_wrong_names_are_refused_in_a_sentence(name, words, caches):
    assert words in refuse(name)


def test_an_address_that_a_path_has_changed():
    with pytest.raises(InputError, match="is an address made into a Path, which changes it"):
        locate(Path("https://example.com/vgg16.pth"))


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("vgg16-397923af.pth", "397923af"),
        ("vgg16_features-amdegroot-88682ab5.pth", "88682ab5"),
        ("vgg16-20260101.pth", ""),
        ("vgg16_20210208-db26f1a5.pth", "db26f1a5"),
        ("vgg16-best.pth", ""),
        ("vgg16-abc.pth", ""),
    ],
)
def test_digests_in_names(name, digest):
    assert digest_in(name) == digest


@pytest.mark.parametrize("name", torchvision.models.list_models(include="vgg*"))
def test_all_names_of_torchvision_have_a_digest(name):
    for entry in torchvision.models.get_model_weights(name):
        assert len(digest_in(entry.url.rpartition("/")[2])) == 8


# torchvision


def test_a_net_of_torchvision_by_name(release, net, caches, server, capfd):
    """Downloaded once; scores are those of torchvision's net, input and classes as it says."""
    assumed = []
    found = locate("torchvision:vgg_thin")
    assert found.path == caches / "torch/hub/checkpoints" / release.name
    assert found.name == "torchvision:vgg_thin"
    assert found.line == f"torchvision:vgg_thin: {found.path}"
    ours = open_net("torchvision:vgg_thin", on_assumed=assumed.append)
    assert len(server.served) == 1
    crops = photos(224, 224)
    assert_same(our_posteriors(ours, crops), posteriors(net, crops, HALF, HALF))
    assert ours.spec.classes == imagenet_classes().ids and ours.spec.names == tuple(CATEGORIES)
    lines = "\n".join(assumed[0].lines("F", "no way"))
    assert "as torchvision's VGGThin_Weights.IMAGENET1K_V1 says; no way" in lines
    assert (
        "F: its 1000 scores are taken to be ILSVRC-2012's classes in the order of their sorted "
        "wnids (n01440764 tench, n01443537 goldfish, ...), as torchvision's VGGThin_Weights"
    ) in lines
    scores = open_runtime("torchvision:vgg_thin")(crops.to(torch.uint8).numpy())
    assert_same(torch.from_numpy(scores.posterior).double(), posteriors(net, crops, HALF, HALF))


def test_the_file_itself_is_recognised_wherever_it_lies(release, net):
    """By its name and its digest; a net that was fine-tuned and saved over it is another one."""
    assert open_net(release).spec.classes == imagenet_classes().ids
    state = {name: tensor + 0.01 for name, tensor in net.state_dict().items()}
    torch.save(state, release)
    spec = open_net(release).spec
    assert spec.classes[:2] == ("0", "1")
    assert spec.preprocessing.mean == pytest.approx((123.675, 116.28, 103.53))


def test_entries_of_torchvision(release):
    assert locate("torchvision:vgg_thin.IMAGENET1K_V1").path.name == release.name
    features = locate("torchvision:vgg_thin.IMAGENET1K_FEATURES").path
    assert features.name.startswith("features-")


def test_a_cached_file_of_torchvision_is_verified_whole(release, caches, server):
    path = locate("torchvision:vgg_thin").path
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    message = refuse("torchvision:vgg_thin")
    assert f"{path} is damaged or another file, its sha256 does not begin with" in message
    assert "remove it" in message and len(server.served) == 1


def test_a_damaged_download_leaves_no_file(release, caches):
    content = bytearray(release.read_bytes())
    content[-100] ^= 1
    release.write_bytes(content)
    message = refuse("torchvision:vgg_thin")
    folder = caches / "torch/hub/checkpoints"
    assert f"put it at {folder / release.name}" in message
    assert list(folder.iterdir()) == []


def test_offline_the_message_says_which_file_to_put_where(release, caches, server, net):
    server.shutdown()
    server.server_close()
    path = caches / "torch/hub/checkpoints" / release.name
    message = refuse("torchvision:vgg_thin")
    assert f"put the file {server.address}/{release.name} at {path}" in message
    path.write_bytes(release.read_bytes())
    assert open_net("torchvision:vgg_thin").spec.arch == "A"


def test_classes_of_another_data_set_are_named_as_torchvision_names_them(server, net, caches):
    state = {**net.state_dict()}
    for part in ("weight", "bias"):
        state[f"classifier.6.{part}"] = state[f"classifier.6.{part}"][:3]
    file = save_with_digest(state, server.folder, "vgg_thin")
    url = f"{server.address}/{file.name}"
    with published(url, url, categories=["cat", "dog", "owl"]):
        assert open_net("torchvision:vgg_thin").spec.classes == ("cat", "dog", "owl")


def test_the_list_of_wnids_is_timms():
    """timm's list has descriptions, whose order torchvision's names must have."""
    data = pytest.importorskip("timm.data")
    info = data.ImageNetInfo("imagenet-1k")
    ids, names = imagenet_classes()
    assert list(ids) == info.label_names() == sorted(ids)
    described = [info.index_to_description(i).lower() for i in range(1000)]
    same = [name.lower().split()[0] in text for name, text in zip(names, described, strict=True)]
    assert same.count(False) <= 2 and len(set(names)) == 1000


# An address


def test_an_address_is_downloaded_once_into_the_cache(server, net, caches):
    torch.save({"state_dict": nn.DataParallel(net).state_dict()}, server.folder / "my net.ckpt")
    name = f"{server.address}/my%20net.ckpt?download=true"
    ours = open_net(name)
    assert open_net(name).spec == ours.spec and len(server.served) == 1
    crops = photos(224, 224)
    usual = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert_same(our_posteriors(ours, crops), posteriors(net, crops, *usual))
    (file,) = [path for path in (caches / "own").rglob("*") if path.is_file()]
    assert file.name == "my net.ckpt"
    server.shutdown()
    assert open_net(name).spec == ours.spec
    assert locate(name).name == name


def test_digests_of_addresses(server, net, caches):
    file = save_with_digest(net.state_dict(), server.folder, "net")
    whole = hashlib.sha256(file.read_bytes()).hexdigest()
    assert open_net(f"{server.address}/{file.name}").spec.arch == "A"
    plain = file.rename(server.folder / "plain.pth")
    wrong = f"{server.address}/plain.pth#sha256={'0' * 64}"
    assert "its sha256 does not begin with 00000000" in refuse(wrong)
    assert [path for path in (caches / "own").rglob("plain*") if path.is_file()] == []
    assert open_net(f"{server.address}/plain.pth#sha256={whole}").spec.arch == "A"
    assert plain.is_file() and "is damaged or another file" in refuse(wrong)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz"])
def test_a_download_that_was_cut_is_not_kept(server, net, caches, suffix):
    path = server.folder / f"net{suffix}"
    state = net.state_dict()
    if suffix == ".safetensors":
        save_file(state, path)
    elif suffix == ".npz":
        import numpy as np

        np.savez(path, **{name: tensor.numpy() for name, tensor in state.items()})
    else:
        torch.save(state, path)
    name = f"{server.address}/{path.name}"
    server.cut = 1000
    refuse(name)
    assert [path for path in (caches / "own").rglob("*") if path.is_file()] == []
    server.cut = 0
    assert open_net(name).spec.arch == "A"


def test_an_address_without_a_file(server, caches):
    message = refuse(f"{server.address}/none.pth")
    assert "cannot be downloaded (HTTP Error 404: File not found)" in message
    assert "put the file" in message


def test_a_cache_that_cannot_be_written(server, net, tmp_path, monkeypatch):
    torch.save(net.state_dict(), server.folder / "net.pth")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VGG_DEPLOY_CACHE", str(tmp_path / "file"))
    assert "make it writable" in refuse(f"{server.address}/net.pth")


# Folders


def test_a_folder_with_timms_config(tmp_path, net):
    folder = timm_folder(tmp_path / "my_vgg", net)
    assumed = []
    ours = open_net(folder, on_assumed=assumed.append)
    crops = photos(224, 224)
    assert_same(our_posteriors(ours, crops), posteriors(net, crops, HALF, HALF))
    assert ours.spec.classes == imagenet_classes().ids
    assert "as the tag tv_in1k in config.json says" in assumed[0].classes_from
    assert locate(folder).name == "my_vgg"
    assert locate(folder).line == f"{folder}: {folder / 'model.safetensors'}"
    other = {**CONFIG, "pretrained_cfg": {**CONFIG["pretrained_cfg"], "tag": "my_pets"}}
    (folder / "config.json").write_text(json.dumps(other))
    assert open_net(folder).spec.classes[:2] == ("0", "1")


def test_other_folders(tmp_path, net):
    folder = tmp_path / "run"
    folder.mkdir()
    assert "holds no weights; give a file, or a folder with model.safetensors" in refuse(folder)
    torch.save(net.state_dict(), folder / "best.pth")
    assert open_net(folder).spec.arch == "A"
    torch.save(net.state_dict(), folder / "last.pth")
    assert "holds 2 files of weights (best.pth, last.pth); name one" in refuse(folder)


@pytest.mark.slow
def test_a_folder_that_timm_writes(tmp_path):
    """Oracle: timm's whole vgg11, saved by timm."""
    timm = pytest.importorskip("timm")
    from timm.models import save_for_hf

    net = timm.create_model("vgg11", pretrained=False, num_classes=7).eval()
    save_for_hf(net, tmp_path / "timm", model_config={"label_names": list("abcdefg")})
    ours = open_net(tmp_path / "timm")
    assert ours.spec.classes == tuple("abcdefg")
    crops = photos(224, 224)
    settings = timm.data.resolve_model_data_config(net)
    theirs = posteriors(net, crops, settings["mean"], settings["std"])
    assert_same(our_posteriors(ours, crops), theirs)


# Hugging Face


def in_a_new_process(code, folder, **environment):
    """Run Python with a cache of huggingface_hub in `folder`, whose settings are read once."""
    settings = {
        **os.environ,
        "HF_HOME": str(folder),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": str(ROOT),
        **environment,
    }
    settings.pop("HF_HUB_CACHE", None)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env=settings
    )


OPEN = """
import sys
from vgg_deploy.errors import InputError
from vgg_deploy.net.named_weights import locate
from vgg_deploy.net.open_net import open_net
try:
    for name in {names!r}:
        found = locate(name)
        spec = open_net(name).spec
        print(found.line, spec.arch, spec.classes[0], spec.preprocessing.mean[0], sep="|")
except InputError as error:
    sys.exit(error.message)
"""


def cached_repository(folder, net, name="timm/vgg11.tv_in1k"):
    """The cache of huggingface_hub after a download: contents by digest, and links to them."""
    pytest.importorskip("huggingface_hub")
    repository = folder / "hub" / f"models--{name.replace('/', '--')}"
    source = timm_folder(folder / "source", net)
    snapshot = repository / "snapshots" / ("1" * 40)
    for made in (snapshot, repository / "blobs", repository / "refs"):
        made.mkdir(parents=True)
    (repository / "refs/main").write_text("1" * 40)
    for file in source.iterdir():
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        file.rename(repository / "blobs" / digest)
        (snapshot / file.name).symlink_to(repository / "blobs" / digest)
    return snapshot


@pytest.mark.slow
def test_offline_a_cached_repository_is_found(tmp_path, net):
    snapshot = cached_repository(tmp_path, net)
    names = [
        "timm:vgg11.tv_in1k",
        "hf-hub:timm/vgg11.tv_in1k",
        f"hf-hub:timm/vgg11.tv_in1k@{'1' * 40}",
    ]
    names.append("hf-hub:timm/vgg11.tv_in1k/model.safetensors")
    done = in_a_new_process(OPEN.format(names=names), tmp_path, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    file = snapshot / "model.safetensors"
    assert done.stdout.splitlines() == [f"{n}: {file}|A|n01440764|127.5" for n in names]
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.resolve().write_bytes(content)
    done = in_a_new_process(OPEN.format(names=names), tmp_path, HF_HUB_OFFLINE="1")
    assert done.returncode == 1 and "is damaged or another file" in done.stderr


@pytest.mark.slow
def test_offline_without_a_cached_repository(tmp_path):
    pytest.importorskip("huggingface_hub")
    done = in_a_new_process(OPEN.format(names=["timm:vgg16.tv_in1k"]), tmp_path, HF_HUB_OFFLINE="1")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert (
        "timm:vgg16.tv_in1k: model.safetensors is not in the cache, and HF_HUB_OFFLINE is set; "
        "download it where there is a connection (`hf download timm/vgg16.tv_in1k`) and copy "
        f"{tmp_path / 'hub/models--timm--vgg16.tv_in1k'} from there to here"
    ) in done.stderr


@pytest.mark.slow
def test_a_repository_is_downloaded_by_huggingface_hub(tmp_path, net, server):
    pytest.importorskip("huggingface_hub")
    timm_folder(server.folder / "me/pets", net)
    (server.folder / "me/empty").mkdir()
    names = ["hf-hub:me/pets"]
    done = in_a_new_process(OPEN.format(names=names), tmp_path, HF_ENDPOINT=server.address)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("model.safetensors|A|n01440764|127.5")
    done = in_a_new_process(OPEN.format(names=names), tmp_path, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    done = in_a_new_process(
        OPEN.format(names=["hf-hub:me/empty"]), tmp_path, HF_ENDPOINT=server.address
    )
    assert "the repository has no model.safetensors or pytorch_model.bin; name a" in done.stderr
