"""Weights by name in vgg-bench: the tables show the name, and classes match without a list."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from bench.cli import main
from bench.models.foreign_models import class_lists
from tests.support.published import (
    HALF,
    imagenet_net,
    local_server,
    published,
    save_with_digest,
    timm_folder,
)
from tests.support.run import run
from vgg_deploy.net.named_weights import Located

WNIDS = {"n01440764": 0, "n02102040": 217, "n03888257": 701}  # positions in ILSVRC-2012


@pytest.fixture
def photos(tmp_path):
    """Three of the thousand classes, two images of the net's crop in each."""
    for i, wnid in enumerate(WNIDS):
        folder = tmp_path / "photos" / "val" / wnid
        folder.mkdir(parents=True)
        for j in range(2):
            noise = torch.randint(0, 256 - 60 * i, (224, 224, 3), dtype=torch.uint8)
            Image.fromarray(noise.numpy()).save(folder / f"{j}.png")
    return tmp_path / "photos"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("VGG_DEPLOY_CACHE", str(tmp_path / "own"))


@torch.inference_mode()
def errors(net, photos):
    """Top-1 errors of torchvision's net, per cent, counted by hand."""
    wrong = 0
    files = sorted((photos / "val").glob("*/*"))
    for file in files:
        x = torch.tensor(np.asarray(Image.open(file))).permute(2, 0, 1)[None] / 255
        mean = torch.tensor(HALF).view(1, 3, 1, 1)
        best = int(net((x - mean) / mean).argmax())
        wrong += best != WNIDS[file.parent.name]
    return 100 * wrong / len(files)


@pytest.mark.slow
def test_three_names_in_one_table(tmp_path, photos, elsewhere):
    """Oracle: torchvision's net on the images as they are, at its crop of 224."""
    net = imagenet_net()
    with torch.no_grad():  # so that some images are right
        net.classifier[6].bias[217] += 100
    with local_server(tmp_path / "served") as server:
        file = save_with_digest(net.state_dict(), server.folder, "vgg_thin")
        url = f"{server.address}/{file.name}"
        timm_folder(tmp_path / "my_timm", net)
        with published(url, url):
            said = run(
                main,
                *("torchvision:vgg_thin", url, "my_timm"),
                *("--data", photos, "--scales", "224", "--measure", "accuracy"),
            )
    cache = tmp_path / "torch/hub/checkpoints" / file.name
    assert f"torchvision:vgg_thin: {cache}" in said
    assert "taken to be ILSVRC-2012's classes in the order of their sorted wnids" in said
    table = pd.read_csv("results/accuracy.csv").query("not flips")
    assert list(table["model"]) == ["torchvision:vgg_thin", url, "my_timm"]
    theirs = errors(net, photos)
    assert 0 < theirs < 100
    assert list(table["top1_error_pct"]) == pytest.approx([theirs] * 3)


def test_class_lists_of_named_models(tmp_path):
    lists = {name: tmp_path / f"{name}.txt" for name in ("one", "two")}
    for name, file in lists.items():
        file.write_text(f"{name} a\n{name} b\n")
    net = Located(tmp_path / "cache" / "vgg16.pth", "torchvision:vgg16")
    other = Located(tmp_path / "net.pth", str(tmp_path / "net.pth"))
    options = (f"torchvision:vgg16={lists['one']}", f"net.pth={lists['two']}")
    found = class_lists(options, [net, other])
    assert found[net.path].ids == ("one a", "one b")
    assert found[other.path].ids == ("two a", "two b")


def test_names_that_lead_nowhere(elsewhere):
    said = run(main, "torchvision:vgg17", "--measure", "accuracy", code=2)
    assert "torchvision:vgg17: torchvision has no such VGG; choose from vgg11" in said
    said = run(main, "https://example.com/net.zip", code=2)
    assert "https://example.com/net.zip: names no file of weights" in said
